"""Errors for untrusted archives, each with its code and a message for users."""

from __future__ import annotations

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown


def damaged(reason: str) -> InvalidInput:
    """The archive is truncated or contradicts itself."""
    return InvalidInput(f"The archive is damaged: {reason}.", code="archive-damaged")


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
