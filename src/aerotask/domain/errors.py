"""The one tree of errors: a stable `code`, a message for people, typed details.

HTTP statuses are not known here; `api/http/errors.py` maps the classes to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong at one place of the input (`pointer` is a JSON Pointer, RFC 6901)."""

    pointer: str
    message: str
    code: str | None = None
    """What kind of fault it is, where several of different kinds are told at once."""


def json_pointer(parts: Iterable[str]) -> str:
    """The JSON Pointer to a place, given the keys and positions that lead there (RFC 6901, section 3)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


class AerotaskError(Exception):
    """Base of every error that reaches a person; `code` is stable, `message` says what to do."""

    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code


class InvalidInput(AerotaskError, ValueError):
    """What was asked for can't be done as asked; asking again the same way won't help.

    A `ValueError` too, so that pydantic collects it with the other faults of a body.
    """

    default_code = "invalid-input"

    def __init__(self, message: str, *, code: str | None = None, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)


class InvalidPath(InvalidInput):
    """A dataset path that is unsafe, reserved or malformed."""

    default_code = "invalid-path"


class Unauthenticated(AerotaskError):
    """No credentials, or credentials that don't hold."""

    default_code = "not-signed-in"


class Forbidden(AerotaskError):
    """The caller may see the thing but not do this to it."""

    default_code = "forbidden"


class NotFound(AerotaskError):
    """No such thing, or none that this caller may know of."""

    default_code = "not-found"


class Conflict(AerotaskError):
    """The state of things doesn't allow it; `location` names what stands in the way, if it has an address."""

    default_code = "conflict"

    def __init__(self, message: str, *, code: str | None = None, location: str | None = None) -> None:
        super().__init__(message, code=code)
        self.location = location


class PreconditionFailed(AerotaskError):
    """The thing isn't as the client takes it to be; look at it again."""

    default_code = "precondition-failed"


class Locked(AerotaskError):
    """Somebody else is changing the thing at this moment."""

    default_code = "locked"


class KeyReused(AerotaskError):
    """An idempotency key came with another request than the first time."""

    default_code = "idempotency-key-reused"


class TooLarge(AerotaskError):
    """A body, a file or an estimated output beyond its limit."""

    default_code = "too-large"


class UseTask(TooLarge):
    """Too much to answer at once; the task named here does it."""

    def __init__(
        self, message: str, *, tool_id: str, params: Mapping[str, object], code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.tool_id = tool_id
        self.params = params

    def facts(self) -> Mapping[str, object]:
        """The task to submit, for the answer's body."""
        return {"task": {"toolId": self.tool_id, "params": self.params}}


class LimitReached(AerotaskError):
    """A quota or rate limit; asking again after `retry_after_s` may succeed."""

    default_code = "quota-exceeded"

    def __init__(  # noqa: PLR0913  the four facts that the contract promises with every 429
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
        """The limit's name and value and the current use, for the answer's body."""
        return {"limitName": self.limit_name, "limit": self.limit, "current": self.current}


class Gone(AerotaskError):
    """It was there and has expired or been removed."""

    default_code = "gone"


class Unavailable(AerotaskError):
    """Postgres, Redis or the storage is out of reach for the moment."""

    default_code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 5) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class TaskFailed(AerotaskError):
    """A tool's run ended in a way that a person should read; `retryable` says whether trying again may help."""

    default_code = "tool-failed"

    def __init__(self, message: str, *, code: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
