"""Error classes: a stable `code`, a message for people, typed details.

HTTP statuses are not set here; `api/http/errors.py` maps the classes to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in one place of the input (`pointer` is a JSON Pointer, RFC 6901)."""

    pointer: str
    message: str
    code: str | None = None
    """The kind of error, where errors of several kinds are reported together."""


def json_pointer(parts: Iterable[str]) -> str:
    """The JSON Pointer of a path of keys and positions (RFC 6901, section 3)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


class AerotaskError(Exception):
    """Base of every error that clients see; `code` is stable, `message` says what to do."""

    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code


class CauseInChild(Exception):
    """Cause of an error that was raised in a child process, as text for the log alone."""


_MAX_CAUSES = 5
_MAX_CAUSE_CHARS = 2000


def cause_of(error: BaseException) -> str | None:
    """Texts of the exceptions from which the error was raised, or None; for the log alone.

    Libraries put paths of the server and their own jargon into theirs, so clients get the error's `message` only.
    """
    texts: list[str] = []
    cause = error.__cause__
    while cause is not None and len(texts) < _MAX_CAUSES:
        is_text = isinstance(cause, CauseInChild)
        texts.append(str(cause) if is_text else f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return "; from ".join(texts)[:_MAX_CAUSE_CHARS] or None


class InvalidInput(AerotaskError, ValueError):
    """The request is invalid; repeating it unchanged won't help.

    It is a `ValueError` too, so that pydantic collects it with the other errors of a body.
    """

    default_code = "invalid-input"

    def __init__(self, message: str, *, code: str | None = None, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)


class InvalidPath(InvalidInput):
    """A dataset path that is unsafe, reserved or malformed."""

    default_code = "invalid-path"


class Unauthenticated(AerotaskError):
    """Missing or invalid credentials."""

    default_code = "not-signed-in"


class Forbidden(AerotaskError):
    """The caller may see the resource but lacks the right for the operation."""

    default_code = "forbidden"


class NotFound(AerotaskError):
    """The resource does not exist, or the caller may not see it."""

    default_code = "not-found"


class Conflict(AerotaskError):
    """The current state doesn't allow the operation; `location` is the address of the conflicting resource, if any."""

    default_code = "conflict"

    def __init__(self, message: str, *, code: str | None = None, location: str | None = None) -> None:
        super().__init__(message, code=code)
        self.location = location


class PreconditionFailed(AerotaskError):
    """The resource is not in the state that the client expects; read it again."""

    default_code = "precondition-failed"


class Locked(AerotaskError):
    """Another request is changing the resource."""

    default_code = "locked"


class KeyReused(AerotaskError):
    """An idempotency key was reused with a different request."""

    default_code = "idempotency-key-reused"


class TooLarge(AerotaskError):
    """A body, file or estimated output exceeds its limit."""

    default_code = "too-large"


class UseTask(TooLarge):
    """The response would be too large; the task described here produces it."""

    def __init__(
        self, message: str, *, tool_id: str, params: Mapping[str, object], code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.tool_id = tool_id
        self.params = params

    def facts(self) -> Mapping[str, object]:
        """The task to submit, for the response body."""
        return {"task": {"toolId": self.tool_id, "params": self.params}}


class LimitReached(AerotaskError):
    """A quota or rate limit is reached; repeating the request after `retry_after_s` may succeed."""

    default_code = "quota-exceeded"

    def __init__(  # noqa: PLR0913  the four fields that every 429 response has
        self,
        message: str,
        *,
        code: str | None = None,
        limit_name: str,
        limit: int,
        current: int,
        retry_after_s: int,
    ) -> None:
        super().__init__(message, code=code)
        self.limit_name = limit_name
        self.limit = limit
        self.current = current
        self.retry_after_s = retry_after_s

    def facts(self) -> Mapping[str, object]:
        """The limit's name and value and the current usage, for the response body."""
        return {"limitName": self.limit_name, "limit": self.limit, "current": self.current}


class Gone(AerotaskError):
    """The resource existed but has expired or been removed."""

    default_code = "gone"


class Unavailable(AerotaskError):
    """Postgres, Redis or the storage is temporarily unavailable."""

    default_code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 5) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class DiskFull(Unavailable):
    """The disk of the storage or of Postgres is full."""

    default_code = "disk-full"

    def __init__(self) -> None:
        super().__init__(
            "The storage is full: delete files or datasets that are no longer needed, which frees their space at once, "
            "or ask the operator for more; then try again.",
            retry_after_s=60,
        )


class ContentDamaged(AerotaskError):
    """A stored file isn't what its row says; `reason` is for operators."""

    default_code = "content-damaged"

    def __init__(self, blob_key: str, reason: str) -> None:
        super().__init__(
            "The stored file is damaged, so it isn't sent. An administrator can find and repair such files with "
            "'aerotask storage verify'."
        )
        self.blob_key = blob_key
        self.reason = reason


class TaskFailed(AerotaskError):
    """A tool's run failed with a message for its user; `retryable` means that another attempt may succeed."""

    default_code = "tool-failed"

    def __init__(self, message: str, *, code: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
