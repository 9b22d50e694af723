"""Preconditions of changes to an entry: If-Match and If-None-Match (RFC 9110, section 13)."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.domain.errors import PreconditionFailed

ANY = "*"


@dataclass(frozen=True, slots=True)
class Condition:
    """Entity tags: the entry must have one of `one_of` and none of `none_of`; `*` matches any existing entry."""

    one_of: frozenset[str] | None = None
    none_of: frozenset[str] = frozenset()

    def check(self, sha256: str | None) -> None:
        """Checks the hash of the existing entry: None if there is no entry, empty for a folder.

        Raises:
            PreconditionFailed: the entry does not meet the condition.
        """
        tags = set() if sha256 is None else {ANY, f'"{sha256}"'}
        if self.one_of is not None and not self.one_of & tags:
            raise PreconditionFailed("The entry doesn't match If-Match; nothing was changed.")
        if self.none_of & tags:
            raise PreconditionFailed("The entry matches If-None-Match; nothing was changed.")


UNCONDITIONAL = Condition()
