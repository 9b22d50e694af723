"""Extraction request: one archive, the guards on its members, and the caller's callbacks, for every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.archives.decoder_memory import DecoderMemory
from aerotask.archives.extract_dir import ExtractDir
from aerotask.archives.member_filter import AnnouncedTotals, ExpansionLimit, MemberFilter
from aerotask.archives.name_encoding import AUTO, NameDecoder, NameEncoding
from aerotask.archives.space_budget import SpaceBudget
from aerotask.sdk.limits import Limits


@dataclass(slots=True)
class ExtractRequest:
    """Archive to extract: `path` is its own path in the dataset, `dest` the folder for its members.

    `is_wanted` selects paths to extract; `on_announced` may reject the totals that the archive announces;
    `on_progress` receives a fraction; `budget` bounds what is written below `target_dir`. `name_encoding` is that of
    names without a mark for UTF-8; `keep_litter` keeps the files that operating systems add for themselves.
    """

    archive: Path
    path: str
    dest: str
    target_dir: Path
    budget: SpaceBudget
    limits: Limits
    is_wanted: Callable[[str], bool]
    on_announced: Callable[[AnnouncedTotals], None]
    on_progress: Callable[[float], None]
    threads: int
    name_encoding: NameEncoding = AUTO
    keep_litter: bool = False
    decoder_memory: DecoderMemory = field(default_factory=DecoderMemory)
    names: NameDecoder = field(init=False)
    archive_bytes: int = field(init=False)
    member_filter: MemberFilter = field(init=False)
    expansion: ExpansionLimit = field(init=False)
    extract_dir: ExtractDir = field(init=False)
    _announced_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.archive_bytes = self.archive.stat().st_size
        self.names = NameDecoder(self.name_encoding)
        self.member_filter = MemberFilter(self.dest, self.limits, keep_litter=self.keep_litter)
        self.expansion = ExpansionLimit(self.archive_bytes, self.limits)
        self.extract_dir = ExtractDir(self.target_dir, self.budget)

    def announce(self, *, files: int, size_bytes: int) -> None:
        """Pass on the totals of a directory, from which progress is then computed.

        Raises:
            TaskFailed: the storage limits or the disk don't allow them.
        """
        self._announced_bytes = size_bytes
        self.on_announced(AnnouncedTotals(files, size_bytes))

    def report_extracted(self) -> None:
        """Report progress as the share of the announced bytes that have been extracted."""
        if self._announced_bytes:
            self.on_progress(self.expansion.total_bytes / self._announced_bytes)
