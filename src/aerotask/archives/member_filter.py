"""The door that every member of a foreign archive comes through, whatever the format: names, kinds, amounts."""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass, field

from aerotask.archives import errors
from aerotask.domain import paths
from aerotask.domain.errors import InvalidPath
from aerotask.sdk.limits import Limits

RATIO_FROM_BYTES = 1024 * 1024
"""So little may come out of any archive, however small it is."""


@dataclass(slots=True)
class ExpansionLimit:
    """Counts the bytes that really come out of an archive, from any thread."""

    archive_bytes: int
    limits: Limits
    total: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Note that so many bytes came out.

        Raises:
            InvalidInput: they are too many.
        """
        with self._lock:
            self.total += count
            self.expect(self.total)

    def expect(self, total: int) -> None:
        """Let an archive through that promises so many bytes in all.

        Raises:
            InvalidInput: they are too many.
        """
        limits = self.limits
        if total > limits.extracted_bytes:
            raise errors.over_limit(f"more than {limits.extracted_bytes} bytes come out of it")
        if total > max(limits.extraction_ratio * self.archive_bytes, RATIO_FROM_BYTES):
            raise errors.over_limit(
                f"more than {limits.extraction_ratio} times its own {self.archive_bytes} bytes come out of it"
            )


@dataclass(slots=True)
class MemberFilter:
    """Decides for every member which entry below `dest` it becomes."""

    dest: str
    limits: Limits
    folders: list[str] = field(default_factory=list)
    """The paths of the members that are folders."""
    _members: int = 0
    _files: dict[str, str] = field(default_factory=dict)
    """Every file's path, by what a system that takes no account of case makes of it."""
    _folders: dict[str, str] = field(default_factory=dict)
    """Likewise every folder's, also of those that only have members below them."""

    def file(self, name: str) -> str | None:
        """The path of the entry that the file called `name` becomes; None if it is part of an index.

        Raises:
            InvalidInput: its name won't do or is another member's, or it is one too many.
        """
        path = self._path(name)
        if path is None:
            return None
        self._enter_folders(paths.parents(path))
        folded = case_folded(path)
        taken = self._files.get(folded) or self._folders.get(folded)
        if taken is not None:
            raise errors.doubled(path, taken)
        self._files[folded] = path
        return path

    def folder(self, name: str) -> str | None:
        """As `file`, for a folder; that it comes twice does no harm."""
        path = self._path(name)
        if path is not None:
            self._enter_folders((*paths.parents(path), path))
            self.folders.append(path)
        return path

    def expect(self, members: int) -> None:
        """Let an archive through that says that it has so many members.

        Raises:
            InvalidInput: they are too many.
        """
        if members > self.limits.extracted_entries:
            raise errors.over_limit(f"it has more than {self.limits.extracted_entries} members")

    def _path(self, name: str) -> str | None:
        self._members += 1
        self.expect(self._members)
        plain = name
        while plain.startswith("./"):
            plain = plain[2:]
        if plain in {"", "."}:
            return None
        if plain.rstrip("/").partition("/")[0].lower() == paths.RESERVED_ROOT:
            # Another installation's index; ours is made anew from the contents.
            return None
        try:
            path = paths.entry_path(plain)
            target = paths.entry_path(f"{self.dest}/{path}") if self.dest else path
        except InvalidPath as error:
            raise errors.unsafe_name(name, error.message) from error
        if paths.depth(path) > self.limits.archive_depth:
            raise errors.over_limit(f"it goes more than {self.limits.archive_depth} folders deep")
        return target

    def _enter_folders(self, folders: tuple[str, ...]) -> None:
        for folder in reversed(folders):
            folded = case_folded(folder)
            known = self._folders.get(folded)
            if known == folder:
                return  # and so are all above it
            taken = known or self._files.get(folded)
            if taken is not None:
                raise errors.doubled(folder, taken)
            self._folders[folded] = folder


def case_folded(path: str) -> str:
    """What path names that can't be told apart somewhere have in common."""
    return unicodedata.normalize("NFKC", path.casefold())
