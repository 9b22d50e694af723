"""Dataset paths, file names and slugs: normalisation, and rejection of path attacks."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from aerotask.domain.errors import InvalidInput, InvalidPath
from aerotask.domain.text_cleaning import CONTROLS

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
RESERVED_ROOT = ".ddb"

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_]|-(?!-)){0,127}")
_NOT_NAMES = frozenset({"", ".", ".."})
# `zip://…`, `s3:…`, `NETCDF:"…"`, `C:…`: GDAL or Windows would not read these as file names.
_DRIVER_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*:")


def entry_path(raw: str) -> str:
    """The dataset path in canonical form: `/`-separated, relative, NFC.

    Raises:
        InvalidPath: the path is empty, too long, reserved, or could leave its dataset.
    """
    path = canonical(raw)
    if not path:
        raise InvalidPath("The path is empty; name a file or folder of the dataset.")
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise InvalidPath(f"The path is longer than {MAX_PATH_BYTES} bytes.")
    fault = next(filter(None, map(_fault, _readings(path))), None) or _lookalike_fault(path)
    if fault:
        raise InvalidPath(f"The path {shown(raw)} {fault}.")
    return path


def canonical(raw: str) -> str:
    """The text in canonical spelling, valid or not, for comparison with paths."""
    return unicodedata.normalize("NFC", raw).removesuffix("/")


def folder_path(raw: str | None) -> str:
    """As `entry_path`, but None, `""`, `/` and `.` give the empty string for the dataset's root."""
    if raw is None or raw in {"", "/", "."}:
        return ""
    return entry_path(raw)


def file_name(raw: str) -> str:
    """A single file name without separators or control characters.

    Raises:
        InvalidPath: the name contains a separator or a control character, is reserved or too long.
    """
    if "/" in raw or "%2f" in raw.lower():
        raise InvalidPath(f"{shown(raw)} is not a file name: it contains a separator.")
    return entry_path(raw)


def slug(raw: str) -> str:
    """A valid slug: 1–128 characters of `[a-z0-9_-]`, the first alphanumeric, no `--`.

    Raises:
        InvalidInput: the slug is invalid.
    """
    if not _SLUG.fullmatch(raw):
        raise InvalidInput(
            "A slug must have 1 to 128 characters of a-z, 0-9, '_' and '-', start with a letter or digit "
            "and not contain '--'.",
            code="invalid-slug",
        )
    return raw


def parents(path: str) -> tuple[str, ...]:
    """The folders above `path`, outermost first: `a/b/c` → `("a", "a/b")`."""
    segments = path.split("/")[:-1]
    return tuple("/".join(segments[: depth + 1]) for depth in range(len(segments)))


def depth(path: str) -> int:
    """Number of folders above `path`."""
    return path.count("/")


def base_name(path: str) -> str:
    """The last segment of `path`."""
    return path.rsplit("/", 1)[-1]


def within(path: str, folder: str) -> bool:
    """True if `path` is `folder` or below it; every path is within the root `""`."""
    return folder in {"", path} or path.startswith(folder + "/")


def overlap(one: str, other: str) -> bool:
    """True if two paths are equal or one is below the other."""
    return within(one, other) or within(other, one)


def shown(raw: str) -> str:
    """The text quoted for a message: control characters escaped, cut to a readable length."""
    quoted = CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", raw[:120])
    return f"'{quoted}{'…' if len(raw) > 120 else ''}'"


def _readings(path: str) -> tuple[str, ...]:
    """Every form that a later layer might read: as given, percent-decoded once and twice."""
    decoded = unquote(path)
    return tuple(dict.fromkeys((path, decoded, unquote(decoded))))


def _fault(path: str) -> str | None:
    if CONTROLS.search(path):
        return "contains a control character"
    if path.startswith("/"):
        return "is absolute; paths are relative to the dataset"
    if "\\" in path:
        return "contains a backslash; separate folders with '/'"
    if _DRIVER_PREFIX.match(path):
        return "starts like a URL or a GDAL driver prefix"
    segments = path.split("/")
    if any(segment in _NOT_NAMES for segment in segments):
        return "contains an empty, '.' or '..' segment"
    if any(len(segment.encode()) > MAX_NAME_BYTES for segment in segments):
        return f"contains a name longer than {MAX_NAME_BYTES} bytes"
    if segments[0].lower() == RESERVED_ROOT:
        return f"is reserved: '{RESERVED_ROOT}' is for the index"
    return None


def _lookalike_fault(path: str) -> str | None:
    """The error of the path after compatibility folding (U+FF0E, U+2025, …), which other systems may apply."""
    folded = unicodedata.normalize("NFKC", unquote(path))
    segments = re.split(r"[/\\]", folded)
    if any(segment in _NOT_NAMES for segment in segments) or segments[0].lower() == RESERVED_ROOT:
        return "looks like a path that is not allowed"
    return None
