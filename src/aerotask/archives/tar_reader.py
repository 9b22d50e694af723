"""Extracts a TAR from a stream that is unpacked a little at a time, member after member."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Self, cast

from aerotask.archives import faults
from aerotask.archives.intake import Intake
from aerotask.archives.outlet import Outlet, new_file, write_all

PIECE_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
"""The longest extended header; names have 1,024 bytes at most, so more than this is no honest one."""
_EXTENDED = frozenset(
    {
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    }
)
_KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
_TAR_NAME = re.compile(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


class _Header(tarfile.TarInfo):
    """A header that is refused where tarfile would believe it, or take it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) == tarfile.BLOCKSIZE and buf.count(0) == tarfile.BLOCKSIZE:
            return super().frombuf(buf, encoding, errors)  # the end's mark: tarfile is told so by an error
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise faults.damaged("it is cut off, or a header makes no sense") from error
        if header.type in _EXTENDED and header.size > MAX_HEADER_BYTES:
            raise faults.damaged(f"a header of {header.size} bytes")
        if header.size < 0:
            raise faults.damaged("a member of negative length")
        return header


class StreamReader:
    """Pieces of bytes as something to `read` from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        parts: list[memoryview] = []
        while count:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._piece = memoryview(piece)
            part, self._piece = self._piece[:count], self._piece[count:]
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, so that a fault behind the last member is found too."""
        self._piece = memoryview(b"")
        for _ in self._pieces:
            pass


def extract_tar(
    content: StreamReader,
    *,
    intake: Intake,
    outlet: Outlet,
    is_wanted: Callable[[str], bool],
) -> None:
    """Extract the wanted files of a TAR into the outlet.

    Raises:
        InvalidInput: the archive is damaged, hostile or over a limit.
    """
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", content),  # it only reads
            mode="r|",
            tarinfo=_Header,
            format=tarfile.PAX_FORMAT,
            errors="surrogateescape",
        ) as tar:
            for member in _members(tar):
                _extract(tar, member, intake, outlet, is_wanted)
    except tarfile.TarError as error:
        raise faults.damaged("it is cut off, or a header makes no sense") from error
    content.drain()


def looks_like_tar(head: bytes, name: str) -> bool:
    """Whether a content that begins so is a TAR: its first header's checksum is right.

    One without members is nothing but zeros, as other files may be too: then the name decides.
    """
    if len(head) < tarfile.BLOCKSIZE:
        return False
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return not head.strip(b"\0") and _TAR_NAME.search(name) is not None
    return True


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        # tarfile would keep every header that it ever read.
        tar.members = []  # type: ignore[attr-defined]  # typeshed leaves it out
        yield member


def _extract(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    intake: Intake,
    outlet: Outlet,
    is_wanted: Callable[[str], bool],
) -> None:
    if member.isdir():
        intake.folder(member.name)
        return
    if not member.isreg() or member.issparse():
        kind = "sparse file" if member.issparse() else _KINDS.get(member.type, "special file")
        raise faults.special(member.name, kind)
    path = intake.file(member.name)
    if path is None or not is_wanted(path):
        return
    source = tar.extractfile(member)
    if source is None:
        raise faults.special(member.name, "special file")
    file = outlet.reserve()
    with new_file(file) as target, source:
        while piece := source.read(PIECE_BYTES):
            write_all(target, piece)
    outlet.add(path, file, member.size)
