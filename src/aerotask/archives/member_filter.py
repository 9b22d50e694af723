"""Checks on the members of untrusted archives: names, counts and expanded bytes, whatever the format."""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass, field

from aerotask.archives import errors
from aerotask.domain import paths
from aerotask.domain.errors import InvalidPath
from aerotask.sdk.limits import Limits

RATIO_FROM_BYTES = 4 * 1024 * 1024
"""Expanded size that is allowed whatever the ratio."""

_LITTER_FOLDER = "__macosx"
_LITTER_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class AnnouncedTotals:
    """Announced number and total size of wanted files; stream formats announce only an upper bound of the size."""

    files: int | None
    size_bytes: int


@dataclass(slots=True)
class ExpansionLimit:
    """Zip-bomb guard: counts the bytes that are extracted, from any thread."""

    archive_bytes: int
    limits: Limits
    total_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count extracted bytes.

        Raises:
            InvalidInput: the archive expands to more than the limits allow.
        """
        with self._lock:
            self.total_bytes += count
            self.check(self.total_bytes)

    def check(self, total_bytes: int) -> None:
        """Check a total that the archive announces or has reached.

        Raises:
            InvalidInput: it is more than the limits allow.
        """
        limits = self.limits
        if total_bytes > limits.extracted_bytes:
            raise errors.over_limit(f"it expands to more than {limits.extracted_bytes} bytes")
        if total_bytes > max(limits.extraction_ratio * self.archive_bytes, RATIO_FROM_BYTES):
            raise errors.over_limit(
                f"it expands to more than {limits.extraction_ratio} times its own {self.archive_bytes} bytes"
            )


@dataclass(slots=True)
class MemberFilter:
    """Maps each member's name to the path of an entry below `dest`, and rejects unsafe and duplicate names."""

    dest: str
    limits: Limits
    keep_litter: bool = False
    folders: dict[str, int | None] = field(default_factory=dict)
    """Paths of the members that are folders, with their modification times in Unix seconds, if known."""
    ignored: int = 0
    """Number of files that were left out as litter."""
    _count: int = 0
    _files: dict[str, str] = field(default_factory=dict)
    """Paths of files by their case-folded form."""
    _folders: dict[str, str] = field(default_factory=dict)
    """Paths of folders by their case-folded form, including parents that are no members themselves."""

    def add_file(self, name: str, *, may_repeat: bool = False) -> str | None:
        """Entry path of the file member `name`; None for files of a `.ddb` index, and for litter.

        With `may_repeat` a later file of the same name is allowed, which replaces the earlier one.

        Raises:
            InvalidInput: the name is unsafe or a duplicate, or there are too many members.
        """
        path = self._entry_path(name)
        if path is None:
            return None
        if not self.keep_litter and _is_litter(path, self.dest):
            self.ignored += 1
            return None
        self._add_parents(paths.parents(path))
        folded = case_folded(path)
        existing = self._files.get(folded) or self._folders.get(folded)
        if existing is not None and not (may_repeat and self._files.get(folded) == path):
            raise errors.duplicate_name(path, existing)
        self._files[folded] = path
        return path

    def add_folder(self, name: str, mtime: int | None = None) -> str | None:
        """Entry path of the folder member `name`, None as for files; a repeated folder is allowed.

        Raises:
            InvalidInput: as `add_file`.
        """
        path = self._entry_path(name)
        if path is None or (not self.keep_litter and _is_litter(path, self.dest)):
            return None
        self._add_parents((*paths.parents(path), path))
        self.folders[path] = mtime
        return path

    def check_count(self, members: int) -> None:
        """Check the number of members that the archive announces or has reached.

        Raises:
            InvalidInput: there are too many.
        """
        if members > self.limits.extracted_entries:
            raise errors.over_limit(f"it has more than {self.limits.extracted_entries} members")

    def _entry_path(self, name: str) -> str | None:
        self._count += 1
        self.check_count(self._count)
        return self.path_of(name)

    def path_of(self, name: str) -> str | None:
        """Entry path for a member's name, without counting a member; None for files of a `.ddb` index.

        Raises:
            InvalidInput: the name is unsafe.
        """
        plain = _without_empty_segments(name)
        if not plain:
            return None
        if plain.partition("/")[0].lower() == paths.RESERVED_ROOT:
            # The index of another installation; ours is rebuilt from the contents.
            return None
        try:
            path = paths.entry_path(plain)
            target = paths.entry_path(f"{self.dest}/{path}") if self.dest else path
        except InvalidPath as error:
            raise errors.unsafe_name(name, error.message) from error
        if paths.depth(path) > self.limits.archive_depth:
            raise errors.over_limit(f"its folders are more than {self.limits.archive_depth} levels deep")
        return target

    def _add_parents(self, folders: tuple[str, ...]) -> None:
        for folder in reversed(folders):
            folded = case_folded(folder)
            known = self._folders.get(folded)
            if known == folder:
                return  # its parents are known too
            existing = known or self._files.get(folded)
            if existing is not None:
                raise errors.duplicate_name(folder, existing)
            self._folders[folded] = folder


def _without_empty_segments(name: str) -> str:
    """The name without `.` and empty segments, as archivers read it; an absolute one stays absolute."""
    segments = [segment for segment in name.split("/") if segment not in {"", "."}]
    return "/".join(["", *segments] if name.startswith("/") and segments else segments)


def _is_litter(path: str, dest: str) -> bool:
    """Whether macOS's Finder or Windows' Explorer has added the file for itself."""
    segments = path[len(dest) :].lower().split("/")
    return segments[-1] in _LITTER_FILES or _LITTER_FOLDER in segments


def case_folded(path: str) -> str:
    """Canonical form of a path: equal for names that a case- or Unicode-insensitive file system can't distinguish."""
    return unicodedata.normalize("NFKC", path.casefold())
