"""Reads a RAR as a TAR: libarchive's `bsdtar`, where the machine has it, converts one into the other on the fly."""

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

PIECE_BYTES = 1024 * 1024
COMPLAINT_BYTES = 64 * 1024
_EXTRACTOR = "bsdtar"
_LOCALE = "C.UTF-8"
"""In that of plain C, libarchive 3.6 crashes over the first name that is not ASCII."""


def rar_extractor() -> str | None:
    """The program that reads RAR, if there is one."""
    return shutil.which(_EXTRACTOR)


def no_rar() -> Exception:
    """There is none."""
    return errors.unsupported("RAR can't be read here: bsdtar (libarchive-tools) isn't installed.")


def rar_as_tar(archive: Path) -> Generator[bytes, None, None]:
    """The bytes of a TAR with the members of the RAR; nothing is written to any file system.

    Raises:
        InvalidInput: there is no extractor, or it can't read the archive.
    """
    program = rar_extractor()
    if program is None:
        raise no_rar()
    with _running([program, "-c", "-f", "-", "--format", "pax", f"@{archive}"]) as (extractor, complaints):
        while piece := extractor.read(PIECE_BYTES):
            yield piece
    if complaints.status < 0:
        raise errors.damaged(f"the extractor crashed over it (signal {-complaints.status})")
    if complaints.status:
        if "ncrypt" in complaints.text or "assphrase" in complaints.text:
            raise errors.encrypted()
        raise errors.damaged("bsdtar can't read the RAR")


@dataclass(slots=True)
class _ExtractorErrors:
    """What the extractor had to say, and with what status it ended."""

    text: str = ""
    status: int = 0

    def hear(self, source: IO[bytes]) -> None:
        """Read all, keep the beginning: a pipe that nobody empties would stop the extractor."""
        kept = b""
        while piece := source.read(COMPLAINT_BYTES):
            kept += piece[: COMPLAINT_BYTES - len(kept)]
        self.text = kept.decode(errors="replace")


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[IO[bytes], _ExtractorErrors]]:
    """The extractor's output; what it complains of is complete after the block. It doesn't outlive the block."""
    complaints = _ExtractorErrors()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": _LOCALE},
    ) as running:
        if running.stdout is None or running.stderr is None:
            raise OSError("no pipe to the extractor")
        listening = threading.Thread(target=complaints.hear, args=(running.stderr,), daemon=True)
        listening.start()
        try:
            yield running.stdout, complaints
        except BaseException:
            running.kill()
            raise
        finally:
            listening.join()
            complaints.status = running.wait()
