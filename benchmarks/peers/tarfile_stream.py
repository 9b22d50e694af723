"""Python's tarfile over our bounded stream: the alternative to `archives/tar` that `archives.py` measures."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from aerotask.archives import errors
from aerotask.archives.extract_dir import new_file
from aerotask.archives.extract_request import ExtractRequest

READ_BYTES = 256 * 1024


class ChunkStream(io.RawIOBase):
    """Chunks as the file object that tarfile reads from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or fewer at the end."""
        while len(self._buffer) < size and (chunk := next(self._chunks, None)) is not None:
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def extract_tar(request: ExtractRequest, chunks: Iterable[bytes]) -> None:
    """Extract the wanted files with the same checks on members as ours."""
    try:
        with tarfile.open(fileobj=ChunkStream(chunks), mode="r|", bufsize=READ_BYTES) as archive:
            for member in archive:
                _extract(archive, member, request)
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every member otherwise
    except tarfile.TarError as error:
        raise errors.damaged(str(error)) from error


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, request: ExtractRequest) -> None:
    if member.isdir():
        request.member_filter.add_folder(member.name)
        return
    if not member.isreg() or member.issparse():
        raise errors.special_file(member.name, "special file")
    path = request.member_filter.add_file(member.name)
    content = archive.extractfile(member)
    if path is None or content is None or not request.is_wanted(path):
        return
    file = request.extract_dir.new_path()
    with new_file(file) as target:
        while chunk := content.read(READ_BYTES):
            request.extract_dir.write(target, chunk)
    request.extract_dir.add(path, file, member.size)
