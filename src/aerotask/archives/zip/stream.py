"""ZIP stream of known length: members are stored, so the length can be announced before the first byte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aerotask.archives.zip.records import (
    STORED,
    Record,
    central_header,
    encoded_name,
    end_records,
    folder_record,
    local_header,
)


@dataclass(frozen=True, slots=True)
class StreamMember:
    """File, or with `is_folder` a folder, to stream; `mtime` is in Unix seconds."""

    path: str
    mtime: int
    size_bytes: int = 0
    is_folder: bool = False

    def record(self, crc32: int = 0) -> Record:
        """Header fields of the member."""
        if self.is_folder:
            return folder_record(self.path, self.mtime)
        return Record(encoded_name(self.path), self.mtime, STORED, crc32, self.size_bytes, self.size_bytes)


def streamed_bytes(members: Iterable[StreamMember]) -> int:
    """Length of the whole stream."""
    writer = StreamWriter()
    length = sum(len(writer.head(member)) + member.size_bytes for member in members)
    return length + len(writer.tail())


@dataclass(slots=True)
class StreamWriter:
    """Produces the headers between the members' contents, in the order of the calls."""

    _offset: int = 0
    _records: list[Record] = field(default_factory=list)

    def head(self, member: StreamMember, crc32: int = 0) -> bytes:
        """Local header of a member, whose content must follow in full length."""
        record = replace(member.record(crc32), offset=self._offset)
        header = local_header(record)
        self._records.append(record)
        self._offset += len(header) + record.size_bytes
        return header

    def tail(self) -> bytes:
        """Central directory and end records, after the last content."""
        directory = b"".join(map(central_header, self._records))
        return directory + end_records(
            count=len(self._records), directory_at=self._offset, directory_bytes=len(directory)
        )
