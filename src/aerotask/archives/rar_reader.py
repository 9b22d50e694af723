"""Reads a RAR as a TAR: libarchive's `bsdtar`, where the machine has it, converts one into the other on the fly."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from aerotask.archives import faults

PIECE_BYTES = 1024 * 1024
_EXTRACTOR = "bsdtar"


def rar_extractor() -> str | None:
    """The program that reads RAR, if there is one."""
    return shutil.which(_EXTRACTOR)


def no_rar() -> Exception:
    """There is none."""
    return faults.unsupported("RAR can't be read here: bsdtar (libarchive-tools) isn't installed.")


def rar_as_tar(archive: Path) -> Iterator[bytes]:
    """The bytes of a TAR with the members of the RAR; nothing is written to any file system.

    Raises:
        InvalidInput: there is no extractor, or it can't read the archive.
    """
    program = rar_extractor()
    if program is None:
        raise no_rar()
    command = [program, "-c", "-f", "-", "--format", "pax", f"@{archive}"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        try:
            if running.stdout is None or running.stderr is None:
                raise OSError("no pipe to the extractor")
            while piece := running.stdout.read(PIECE_BYTES):
                yield piece
            complaint = running.stderr.read(4096).decode(errors="replace")
        finally:
            running.kill()
    if running.returncode:
        if "ncrypt" in complaint or "assphrase" in complaint:
            raise faults.encrypted()
        raise faults.damaged("bsdtar can't read the RAR")
