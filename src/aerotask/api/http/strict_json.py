"""Strict requests: JSON bodies bounded in size, without NaN, NUL, lone surrogates or deep nesting; closed queries."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.config import Settings
from aerotask.domain.errors import InvalidInput, TooLarge

MAX_DEPTH = 64
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


class BoundedRequest(Request):
    """Request with a body of at most `max_body_bytes` and strict JSON."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body's pieces.

        Raises:
            TooLarge: the declared or received body is longer than the limit.
        """
        settings: Settings = self.app.state.settings
        limit = settings.http.max_body_bytes
        received = 0
        if _declared_length(self) > limit:
            raise _too_large(limit)
        async for piece in super().stream():
            received += len(piece)
            if received > limit:
                raise _too_large(limit)
            yield piece

    async def json(self) -> Any:
        """The body as JSON.

        Raises:
            InvalidInput: the body isn't strict JSON (NaN, lone surrogates), contains NUL or is nested too deeply.
        """
        if not hasattr(self, "_strict_json"):
            try:
                self._strict_json = orjson.loads(await self.body())
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"The body is not valid JSON: {error}", code="invalid-json") from error
            _raise_if_unstorable(self._strict_json, depth=0)
        return self._strict_json

    async def expect_json(self) -> None:
        """Read the body as JSON.

        Raises:
            InvalidInput: as for `json`, or the Content-Type isn't JSON.
            TooLarge: the body is longer than the limit.
        """
        await self.body()
        if not _JSON_TYPE.match(self.headers.get("content-type", "")):
            raise InvalidInput(
                "Send the body as JSON, with the header 'Content-Type: application/json'.",
                code="not-json",
            )
        await self.json()


class StrictBodyRoute(APIRoute):
    """Route whose handler gets a `BoundedRequest`, with a JSON body read and checked beforehand."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with the request replaced by a bounded one."""
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle_bounded(request: Request) -> Response:
            bounded = BoundedRequest(request.scope, request.receive)
            if takes_json:
                # FastAPI would turn errors of its own reading into a 400 without a reason.
                await bounded.expect_json()
            return await handle(bounded)

        return handle_bounded


class StrictRoute(ClosedQueryRoute, StrictBodyRoute):
    """Route that checks the query before the body."""


def _declared_length(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is longer than the limit of {limit} bytes.", code="body-too-large")


def _raise_if_unstorable(value: Any, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="json-too-deep")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput("The JSON contains a NUL character.", code="json-nul")
    elif isinstance(value, dict):
        for key, item in value.items():
            _raise_if_unstorable(key, depth=depth + 1)
            _raise_if_unstorable(item, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _raise_if_unstorable(item, depth=depth + 1)
