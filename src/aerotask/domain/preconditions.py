"""What a client asks to hold of an entry before it is changed (RFC 9110, section 13)."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.domain.errors import PreconditionFailed

ANY = "*"


@dataclass(frozen=True, slots=True)
class Condition:
    """Entity tags of which the entry must have one, and of which it must have none; `*` is any there is."""

    one_of: frozenset[str] | None = None
    none_of: frozenset[str] = frozenset()

    def check(self, sha256: str | None) -> None:
        """Refuse a change to the entry whose content has this hash; None if there is no entry, empty of a folder.

        Raises:
            PreconditionFailed: the entry isn't as the client takes it to be.
        """
        tags = set() if sha256 is None else {ANY, f'"{sha256}"'}
        if self.one_of is not None and not self.one_of & tags:
            raise PreconditionFailed("The content is not one that If-Match names; nothing was changed.")
        if self.none_of & tags:
            raise PreconditionFailed("The content is one that If-None-Match names; nothing was changed.")


UNCONDITIONAL = Condition()
