"""Extracts any archive from outside: finds out what it is, and sends every member through the same door."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from aerotask.archives import decompress, errors
from aerotask.archives.extract_dir import ExtractDir, ExtractedFile, new_file
from aerotask.archives.formats import HEAD_BYTES, ArchiveFormat, format_of, unpacked_name
from aerotask.archives.member_filter import ExpansionLimit, MemberFilter
from aerotask.archives.promise import AnnouncedTotals
from aerotask.archives.rar import rar_as_tar
from aerotask.archives.space_budget import SpaceBudget
from aerotask.archives.tar.reader import StreamReader, extract_tar, looks_like_tar
from aerotask.archives.zip.reader import extract_zip
from aerotask.domain.paths import base_name
from aerotask.sdk.limits import Limits

READ_BYTES = 256 * 1024
_UNPACKERS: Mapping[ArchiveFormat, Callable[[], decompress.Decompressor]] = {
    ArchiveFormat.GZIP: decompress.gzip,
    ArchiveFormat.BZIP2: decompress.bzip2,
    ArchiveFormat.XZ: decompress.xz,
    ArchiveFormat.ZSTD: decompress.zstd,
}


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """What to extract and how: `path` is the archive's own in the dataset, `dest` the folder for what comes out.

    `is_wanted` says of each path whether its content is needed; `on_promise` may refuse what the archive
    announces; `on_progress` hears a fraction; `room` bounds what is written.
    """

    archive: Path
    path: str
    dest: str
    into: Path
    room: SpaceBudget
    limits: Limits
    is_wanted: Callable[[str], bool]
    on_promise: Callable[[AnnouncedTotals], None]
    on_progress: Callable[[float], None]
    threads: int


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came out: files, and the paths of folders that have members of their own."""

    format: str
    files: list[ExtractedFile]
    folders: list[str]
    size_bytes: int


def extract(order: ExtractRequest) -> Extraction:
    """Extract an archive into numbered files below `order.into`.

    Raises:
        InvalidInput: it is no archive that can be read here, or it is damaged, hostile or over a limit.
    """
    archive_bytes = order.archive.stat().st_size
    if archive_bytes > order.limits.archive_bytes:
        raise errors.over_limit(f"it has {archive_bytes} bytes; the limit is {order.limits.archive_bytes}")
    with order.archive.open("rb") as opened:
        kind = format_of(opened.read(HEAD_BYTES), order.path)
    if kind is None:
        raise errors.unsupported("This is no archive that can be read here.")
    job = _ExtractRun(
        order,
        archive_bytes,
        MemberFilter(order.dest, order.limits),
        ExpansionLimit(archive_bytes, order.limits),
        ExtractDir(order.into, order.room),
    )
    name = job.run(kind)
    return Extraction(name, job.outlet.extracted, job.intake.folders, job.gauge.total)


@dataclass(slots=True)
class _ExtractRun:
    order: ExtractRequest
    archive_bytes: int
    intake: MemberFilter
    gauge: ExpansionLimit
    outlet: ExtractDir
    _promised: int = 0
    _read: int = 0

    def run(self, kind: ArchiveFormat) -> str:
        """Extract; what the archive turned out to be."""
        if kind is ArchiveFormat.ZIP:
            self._zip()
        elif kind is ArchiveFormat.SEVEN_ZIP:
            self._seven_zip()
        elif kind is ArchiveFormat.TAR:
            self.order.on_promise(AnnouncedTotals(None, self.archive_bytes))
            self._tar(self._gauged(self._pieces()))
        elif kind is ArchiveFormat.RAR:
            with closing(rar_as_tar(self.order.archive)) as pieces:  # the extractor ends with it
                self._tar(self._gauged(pieces))
        else:
            return self._stream(kind)
        return str(kind)

    def _zip(self) -> None:
        order = self.order
        extract_zip(
            order.archive,
            intake=self.intake,
            gauge=self.gauge,
            outlet=self.outlet,
            is_wanted=order.is_wanted,
            on_promise=self._hear_promise,
            on_progress=self._hear_bytes,
            threads=order.threads,
        )

    def _seven_zip(self) -> None:
        from aerotask.archives.seven_zip import extract_7z  # noqa: PLC0415  slow to load, rarely needed

        order = self.order
        extract_7z(
            order.archive,
            intake=self.intake,
            gauge=self.gauge,
            outlet=self.outlet,
            is_wanted=order.is_wanted,
            on_promise=self._hear_promise,
            on_progress=self._hear_bytes,
        )

    def _stream(self, kind: ArchiveFormat) -> str:
        content = self._gauged(decompress.unpack_all(self._pieces(), _UNPACKERS[kind]))
        head = b""
        while len(head) < HEAD_BYTES and (piece := next(content, None)):
            head += piece
        if looks_like_tar(head, self.order.path):
            self._tar(chain([head], content))
            return f"{ArchiveFormat.TAR}, {kind}"
        self._single(chain([head], content))
        return str(kind)

    def _tar(self, content: Iterator[bytes]) -> None:
        extract_tar(
            StreamReader(content),
            intake=self.intake,
            outlet=self.outlet,
            is_wanted=self.order.is_wanted,
        )

    def _single(self, content: Iterator[bytes]) -> None:
        path = self.intake.file(unpacked_name(base_name(self.order.path)))
        if path is None or not self.order.is_wanted(path):
            return
        file = self.outlet.reserve()
        size_bytes = 0
        with new_file(file) as target:
            for piece in content:
                size_bytes += len(piece)
                self.outlet.write(target, piece)
        self.outlet.add(path, file, size_bytes)

    def _pieces(self) -> Iterator[bytes]:
        with self.order.archive.open("rb", buffering=0) as opened:
            while piece := opened.read(READ_BYTES):
                yield piece
                self._read += len(piece)
                self.order.on_progress(self._read / self.archive_bytes)

    def _gauged(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.gauge.add(len(piece))
            yield piece

    def _hear_promise(self, promise: AnnouncedTotals) -> None:
        self._promised = promise.size_bytes
        self.order.on_promise(promise)

    def _hear_bytes(self, total: int) -> None:
        if self._promised:
            self.order.on_progress(total / self._promised)
