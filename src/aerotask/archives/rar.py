"""RAR reader: libarchive's `bsdtar`, if installed, converts a RAR to a TAR stream."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aerotask.archives import errors
from aerotask.domain.errors import CauseInChild

CHUNK_BYTES = 1024 * 1024
STDERR_BYTES = 64 * 1024
_EXTRACTOR = "bsdtar"
_LOCALE = "C.UTF-8"
"""libarchive 3.6 crashes on the first non-ASCII name under the plain C locale."""


def rar_extractor() -> str | None:
    """Path of the program that reads RAR; None if it isn't installed."""
    return shutil.which(_EXTRACTOR)


def rar_unsupported() -> Exception:
    """The program that reads RAR isn't installed."""
    return errors.unsupported("RAR is not supported here: bsdtar (libarchive-tools) isn't installed.")


def rar_as_tar(archive: Path) -> Generator[bytes, None, None]:
    """TAR stream with the members of the RAR; the extractor writes nothing to the file system.

    Raises:
        InvalidInput: the extractor isn't installed or can't read the archive.
    """
    program = rar_extractor()
    if program is None:
        raise rar_unsupported()
    with _running([program, "-c", "-f", "-", "--format", "pax", f"@{archive}"]) as (stdout, result):
        while chunk := stdout.read(CHUNK_BYTES):
            yield chunk
    if result.returncode < 0:
        raise errors.damaged(f"the extractor crashed over it (signal {-result.returncode})")
    if result.returncode:
        if "ncrypt" in result.stderr or "assphrase" in result.stderr:
            raise errors.encrypted()
        raise errors.damaged("bsdtar can't read the RAR") from CauseInChild(result.stderr)


@dataclass(slots=True)
class _ExtractorResult:
    """The extractor's error output and exit status."""

    stderr: str = ""
    returncode: int = 0

    def read_stderr(self, source: IO[bytes]) -> None:
        """Read everything and keep the beginning: a full pipe would block the extractor."""
        head = b""
        while chunk := source.read(STDERR_BYTES):
            head += chunk[: STDERR_BYTES - len(head)]
        self.stderr = head.decode(errors="replace")


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[IO[bytes], _ExtractorResult]]:
    """The extractor's stdout, and its result, which is complete after the block; the process ends with the block."""
    result = _ExtractorResult()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": _LOCALE},
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise OSError("no pipe to the extractor")
        stderr_reader = threading.Thread(target=result.read_stderr, args=(process.stderr,), daemon=True)
        stderr_reader.start()
        try:
            yield process.stdout, result
        except BaseException:
            process.kill()
            raise
        finally:
            stderr_reader.join()
            result.returncode = process.wait()
