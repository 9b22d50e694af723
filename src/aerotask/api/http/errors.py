"""Error handlers: map every exception to an `application/problem+json` response (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic.alias_generators import to_camel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from aerotask.api.http.unknown_routes import allowed_methods, unknown_route_message
from aerotask.db.outages import is_outage
from aerotask.domain.disk_full import is_disk_full
from aerotask.domain.errors import (
    AerotaskError,
    CauseInChild,
    Conflict,
    ContentDamaged,
    DiskFull,
    FieldError,
    Forbidden,
    Gone,
    InvalidInput,
    KeyReused,
    LimitReached,
    Locked,
    NotFound,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UseTask,
    cause_of,
    json_pointer,
)
from aerotask.domain.suggestions import message_of

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

_STATUS: Mapping[type[AerotaskError], int] = {
    InvalidInput: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    PreconditionFailed: 412,
    TooLarge: 413,
    KeyReused: 422,
    Locked: 423,
    LimitReached: 429,
    ContentDamaged: 500,
    Unavailable: 503,
    DiskFull: 507,
}
# Statuses after which the same request may succeed later.
_MAY_RETRY = frozenset({408, 423, 429, 500, 503, 507})
# Most conflicts last until a client resolves them; these end by themselves.
_TRANSIENT_CONFLICTS = frozenset({"input-changed", "not-ended", "not-finished"})
# Unlike other internal errors, these last until an operator has acted.
_LASTING = frozenset({"content-damaged"})
# SQLSTATE disk_full (PostgreSQL documentation, appendix A).
_POSTGRES_DISK_FULL = "53100"

_LINK = re.compile(r"^/links/[^/]+")
_log = structlog.get_logger(__name__)


class ErrorDetail(BaseModel):
    """Validation error at one place of a body or of params."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) to the invalid value.")
    message: str
    code: str | None = Field(None, description="The error code, where the errors differ in it.")


class Problem(BaseModel):
    """Problem document (RFC 9457) of an error response."""

    model_config = {"alias_generator": to_camel, "populate_by_name": True}

    type: str = Field(description="A URN that identifies the kind of error.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, for people.")
    code: str = Field(description="Stable identifier in kebab-case, for programs.")
    error: str = Field(description="The same text as `detail`.")
    no_retry: bool = Field(description="Whether repeating the same request is pointless.")
    errors: list[ErrorDetail] | None = Field(
        None, description="The places where a body or params failed validation."
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of a route's error responses; 503 is possible on every route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in (*statuses, 503)
    }


def problem_schemas() -> dict[str, Any]:
    """OpenAPI components that the descriptions of error responses refer to."""
    schema = Problem.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Problem": schema}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
) -> JSONResponse:
    """A problem response."""
    body: dict[str, object] = {
        "type": f"urn:aerotask:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "noRetry": (status not in _MAY_RETRY and code not in _TRANSIENT_CONFLICTS) or code in _LASTING,
    }
    if errors:
        body["errors"] = [_error_detail(error) for error in errors]
    body.update(facts or {})
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def _error_detail(error: FieldError) -> dict[str, str]:
    detail = {"pointer": error.pointer, "message": error.message}
    return detail if error.code is None else detail | {"code": error.code}


def install(app: FastAPI) -> None:
    """Installs the error handlers in the app."""
    app.add_exception_handler(AerotaskError, _aerotask_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)
    app.add_exception_handler(DBAPIError, _database_error)
    app.add_exception_handler(PoolTimeout, _unavailable)
    app.add_exception_handler(OSError, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _aerotask_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AerotaskError):
        raise error
    if isinstance(error.__cause__, CauseInChild):  # a library's, which the response doesn't tell
        _log.warning(
            "request.refused",
            method=request.method,
            path=request.url.path,
            code=error.code,
            cause=cause_of(error),
        )
    if isinstance(error, ContentDamaged):
        await request.app.state.platform.damage.report(error)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    return problem(
        status,
        error.code,
        error.message,
        errors=error.errors if isinstance(error, InvalidInput) else (),
        headers=_headers(error),
        facts=error.facts() if isinstance(error, LimitReached | UseTask) else None,
    )


def _headers(error: AerotaskError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, LimitReached | Unavailable):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, Conflict) and error.location:
        return {"Location": error.location}
    return {}


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    route = request.scope.get("route")
    body = (
        route.body_field.field_info.annotation if isinstance(route, APIRoute) and route.body_field else None
    )
    errors = [_field_error(detail, body) for detail in error.errors()]
    first = f" {errors[0].pointer}: {errors[0].message}" if errors else ""
    return problem(400, "invalid-request", f"The request is malformed:{first}", errors=errors)


def _field_error(detail: Mapping[str, Any], body: object) -> FieldError:
    pointer = json_pointer(map(str, detail["loc"]))
    if detail["type"] == "json_invalid":
        return FieldError(pointer, f"not valid JSON ({detail['ctx']['error']})")
    return FieldError(pointer, message_of(detail, body, detail["loc"][1:]))


async def _http_error(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: unknown routes or methods, unreadable bodies."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request))
        message = f"{request.method} isn't possible at this address; it takes {allowed}."
        return problem(status, "method-not-allowed", message, headers={"Allow": allowed})
    if status == HTTPStatus.NOT_FOUND and "endpoint" not in request.scope:
        return problem(status, "unknown-route", unknown_route_message(request))
    code = HTTPStatus(status).phrase.lower().replace(" ", "-")
    return problem(status, code, str(error.detail), headers=error.headers)


async def _client_disconnect(_request: Request, _error: Exception) -> Response:
    """Response to a client that disconnected within the body; it isn't delivered, nor logged as a failure."""
    return problem(400, "invalid-request", "The body ended too early.")


async def _database_error(request: Request, error: Exception) -> Response:
    if is_outage(error):
        return await _unavailable(request, error)
    return await _unexpected(request, error)


async def _unavailable(request: Request, error: Exception) -> Response:
    if is_disk_full(error) or getattr(getattr(error, "orig", None), "sqlstate", None) == _POSTGRES_DISK_FULL:
        _log.error("request.disk_full", error=str(error))
        return await _aerotask_error(request, DiskFull())
    _log.warning("request.unavailable", error=str(error))
    return problem(
        503,
        "unavailable",
        "Postgres, Redis or the storage can't be reached; try again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _logged_path(request: Request) -> str:
    """The request's path without the token of a link, which is a secret."""
    return _LINK.sub("/links/…", request.url.path)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request.failed", method=request.method, path=_logged_path(request), exc_info=error)
    return problem(500, "internal-error", "An internal error occurred; it has been logged.")
