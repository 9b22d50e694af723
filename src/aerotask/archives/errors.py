"""What can be wrong with an archive from outside, each with its code and a sentence for people."""

from __future__ import annotations

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown


def damaged(what: str) -> InvalidInput:
    """The bytes don't make sense."""
    return InvalidInput(f"The archive is damaged: {what}.", code="archive-damaged")


def unsafe_name(name: str, why: str) -> InvalidInput:
    """A member has a name that no entry may have."""
    return InvalidInput(
        f"The archive holds a member with a name that is not allowed, {shown(name)}: {why}",
        code="archive-unsafe-name",
    )


def doubled(name: str, other: str) -> InvalidInput:
    """Two members would be the same file, here or on another system."""
    same = "twice" if name == other else f"beside {shown(other)}, which some systems take for the same"
    return InvalidInput(
        f"The archive holds {shown(name)} {same}; pack it again without.", code="archive-duplicate-name"
    )


def special(name: str, kind: str) -> InvalidInput:
    """A member is neither a file nor a folder."""
    return InvalidInput(
        f"The archive holds {shown(name)}, which is a {kind}; only files and folders are extracted.",
        code="archive-special-file",
    )


def encrypted() -> InvalidInput:
    """It can't be read without a password."""
    return InvalidInput("The archive is encrypted; upload it without a password.", code="archive-encrypted")


def over_limit(what: str) -> InvalidInput:
    """It would become more than the installation allows."""
    return InvalidInput(f"The archive is more than may be extracted: {what}.", code="archive-over-limit")


def unsupported(what: str) -> InvalidInput:
    """Nothing here can read it."""
    return InvalidInput(
        f"{what} Archives may be ZIP, TAR (also .gz, .bz2, .xz, .zst), 7z, or a single .gz, .bz2 or .xz.",
        code="unsupported-format",
    )
