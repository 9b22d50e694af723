"""Errors for untrusted archives, each with its code and a message for users."""

from __future__ import annotations

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown

DAMAGED = "archive-damaged"
_ABOUT_NAMES = frozenset({"archive-unsafe-name", "archive-duplicate-name", "archive-special-file"})


def damaged(reason: str) -> InvalidInput:
    """The archive is truncated or contradicts itself."""
    return InvalidInput(f"The archive is damaged: {reason}.", code=DAMAGED)


def unsafe_name(name: str, reason: str) -> InvalidInput:
    """A member's name is not a valid entry path."""
    return InvalidInput(
        f"The archive contains a member whose name is not allowed, {shown(name)}: {reason}",
        code="archive-unsafe-name",
    )


def duplicate_name(name: str, other: str) -> InvalidInput:
    """Two members would be the same file, here or on a case-insensitive file system."""
    how = "twice" if name == other else f"and {shown(other)}, which are the same name on some systems"
    return InvalidInput(
        f"The archive contains {shown(name)} {how}; repack it without duplicates.",
        code="archive-duplicate-name",
    )


def special_file(name: str, kind: str) -> InvalidInput:
    """A member is neither a file nor a folder."""
    return InvalidInput(
        f"The archive contains {shown(name)}, which is a {kind}; only files and folders are extracted.",
        code="archive-special-file",
    )


def hard_link(name: str, linked: str, *, is_skipped: bool) -> InvalidInput:
    """A member is a hard link to something that can't be copied."""
    reason = (
        "exists already and is therefore not extracted; set overwrite, or extract into an empty folder."
        if is_skipped
        else "is no earlier file of the archive."
    )
    return InvalidInput(
        f"The archive contains {shown(name)}, which is a hard link to {shown(linked)}; this {reason}",
        code="archive-special-file",
    )


def encrypted() -> InvalidInput:
    """The archive can't be read without a password."""
    return InvalidInput("The archive is encrypted; upload it without a password.", code="archive-encrypted")


def over_limit(reason: str) -> InvalidInput:
    """The archive exceeds the installation's limits."""
    return InvalidInput(f"The archive exceeds the extraction limits: {reason}.", code="archive-over-limit")


def unsupported(reason: str) -> InvalidInput:
    """No reader exists for the format."""
    return InvalidInput(
        f"{reason} Supported archives: ZIP, TAR (also .gz, .bz2, .xz, .zst), 7z, or a single .gz, .bz2 or .xz.",
        code="unsupported-format",
    )


def wrong_name_encoding(raw: bytes, encoding: str) -> InvalidInput:
    """A member's name is not in the encoding that was asked for."""
    return InvalidInput(
        f"The archive contains a name that isn't {encoding}, {shown(ascii(raw)[2:-1])}; choose another nameEncoding, "
        "or leave it out.",
        code="archive-name-encoding",
    )


def with_doubtful_name(error: InvalidInput) -> InvalidInput:
    """The error, with advice if the name in it looks wrong, since its encoding was guessed."""
    if error.code not in _ABOUT_NAMES:
        return error
    return InvalidInput(
        f"{error.message} The names aren't in UTF-8, and their encoding is a guess: if this one looks wrong, set "
        "nameEncoding.",
        code=error.code,
    )


def multi_volume(kind: str) -> InvalidInput:
    """The file is one of several that make up an archive."""
    return InvalidInput(
        f"The file is one part of a multi-volume {kind} archive, which can't be read by itself; join the parts, or pack "
        "the files again without splitting, and upload the whole archive.",
        code="unsupported-format",
    )
