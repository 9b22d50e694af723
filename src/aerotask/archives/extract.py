"""Extraction of untrusted archives: detects the format and applies the same checks to every member."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from aerotask.archives import decompress, errors
from aerotask.archives.extract_dir import ExtractedFile, new_file
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.formats import (
    HEAD_BYTES,
    ArchiveFormat,
    decompressed_name,
    format_of,
    is_rar_volume,
    volume_kind,
)
from aerotask.archives.member_filter import AnnouncedTotals
from aerotask.archives.rar import rar_as_tar
from aerotask.archives.tar.reader import extract_tar, looks_like_tar
from aerotask.archives.zip.directory_end import ends_as_zip
from aerotask.archives.zip.reader import extract_zip
from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import base_name

READ_BYTES = 256 * 1024
_DECOMPRESSORS: Mapping[ArchiveFormat, Callable[[], decompress.Decompressor]] = {
    ArchiveFormat.GZIP: decompress.gzip,
    ArchiveFormat.BZIP2: decompress.bzip2,
    ArchiveFormat.XZ: decompress.xz,
    ArchiveFormat.ZSTD: decompress.zstd,
}


@dataclass(frozen=True, slots=True)
class Extraction:
    """Extracted files and folders, and what users should know about them."""

    format: str
    files: list[ExtractedFile]
    folders: Mapping[str, int | None]
    """Paths of the members that are folders, with their modification times in Unix seconds, if known."""
    size_bytes: int
    ignored: int
    """Number of files that were left out as litter."""
    warnings: list[str]


def extract(request: ExtractRequest) -> Extraction:
    """Extract an archive into numbered files below `request.target_dir`.

    Raises:
        InvalidInput: it is no supported archive, or it is damaged, hostile or over a limit.
    """
    limit_bytes = request.limits.archive_bytes
    if request.archive_bytes > limit_bytes:
        raise errors.over_limit(f"it has {request.archive_bytes} bytes; the limit is {limit_bytes}")
    volume = volume_kind(request.path)
    detected = _detected(request)
    if detected is None:
        raise (
            errors.multi_volume(volume)
            if volume
            else errors.unsupported("The file is not a supported archive.")
        )
    try:
        name = _extract(request, detected)
    except InvalidInput as error:
        # The only part of an archive has such a name, too.
        if volume and error.code == errors.DAMAGED:
            raise errors.multi_volume(volume) from error
        if request.names.uncertain:
            raise errors.with_doubtful_name(error) from error
        raise
    return Extraction(
        name,
        request.extract_dir.extracted,
        request.member_filter.folders,
        request.expansion.total_bytes,
        request.member_filter.ignored,
        request.names.warnings(),
    )


def _detected(request: ExtractRequest) -> ArchiveFormat | None:
    with request.archive.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
        detected = format_of(head, request.path)
        if detected is None and ends_as_zip(opened.fileno(), request.archive_bytes):
            return ArchiveFormat.ZIP
    if detected is ArchiveFormat.RAR and is_rar_volume(head):
        raise errors.multi_volume("RAR")
    return detected


def _extract(request: ExtractRequest, detected: ArchiveFormat) -> str:
    """Extract the members; returns the name of the format, with its compression."""
    if detected is ArchiveFormat.ZIP:
        extract_zip(request)
    elif detected is ArchiveFormat.SEVEN_ZIP:
        from aerotask.archives.seven_zip import extract_7z  # noqa: PLC0415  slow to load, rarely needed

        extract_7z(request)
    elif detected is ArchiveFormat.TAR:
        request.on_announced(AnnouncedTotals(None, request.archive_bytes))
        extract_tar(request, _limited(request, _archive_chunks(request)))
    elif detected is ArchiveFormat.RAR:
        with closing(rar_as_tar(request.archive)) as chunks:  # ends bsdtar too
            extract_tar(request, _limited(request, chunks))
    else:
        return _extract_compressed(request, detected)
    return str(detected)


def _extract_compressed(request: ExtractRequest, compression: ArchiveFormat) -> str:
    chunks = decompress.decompress_all(_archive_chunks(request), _DECOMPRESSORS[compression])
    content = _limited(request, chunks)
    head = b""
    while len(head) < HEAD_BYTES and (chunk := next(content, None)):
        head += chunk
    if looks_like_tar(head, request.path):
        extract_tar(request, chain([head], content))
        return f"{ArchiveFormat.TAR}, {compression}"
    _extract_single(request, chain([head], content))
    return str(compression)


def _extract_single(request: ExtractRequest, content: Iterator[bytes]) -> None:
    path = request.member_filter.add_file(decompressed_name(base_name(request.path)))
    if path is None or not request.is_wanted(path):
        return
    file = request.extract_dir.new_path()
    size_bytes = 0
    with new_file(file) as target:
        for chunk in content:
            size_bytes += len(chunk)
            request.extract_dir.write(target, chunk)
    request.extract_dir.add(path, file, size_bytes)


def _archive_chunks(request: ExtractRequest) -> Iterator[bytes]:
    """The archive's own bytes; progress is the share of them that has been read."""
    read_bytes = 0
    with request.archive.open("rb", buffering=0) as opened:
        while chunk := opened.read(READ_BYTES):
            yield chunk
            read_bytes += len(chunk)
            request.on_progress(read_bytes / request.archive_bytes)


def _limited(request: ExtractRequest, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        request.expansion.add(len(chunk))
        yield chunk
