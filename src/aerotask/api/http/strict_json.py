"""Bodies, read strictly: bounded in size, and JSON without NaN, NUL, lone surrogates or deep nesting."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from aerotask.config import Settings
from aerotask.domain.errors import InvalidInput, TooLarge

MAX_DEPTH = 64
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


class BoundedRequest(Request):
    """A request whose body may not be longer than `max_body_bytes` and whose JSON is strict."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body's pieces.

        Raises:
            TooLarge: it is longer than the limit, by what it declares or by what came.
        """
        settings: Settings = self.app.state.settings
        limit = settings.max_body_bytes
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
            InvalidInput: it isn't JSON (neither are NaN and lone surrogates), holds NUL, or is nested
                too deeply.
        """
        if not hasattr(self, "_strict_json"):
            try:
                self._strict_json = orjson.loads(await self.body())
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"The body is not valid JSON: {error}", code="invalid-json") from error
            _refuse_unstorable(self._strict_json, depth=0)
        return self._strict_json

    async def expect_json(self) -> None:
        """Read the body as JSON.

        Raises:
            InvalidInput: as `json`, or it is declared to be something else.
            TooLarge: it is longer than the limit.
        """
        await self.body()
        if not _JSON_TYPE.match(self.headers.get("content-type", "")):
            raise InvalidInput(
                "Send the body as JSON, with the header 'Content-Type: application/json'.",
                code="not-json",
            )
        await self.json()


class StrictRoute(APIRoute):
    """A route whose handler gets a `BoundedRequest`, its body read and checked before."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the stricter request."""
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle_bounded(request: Request) -> Response:
            bounded = BoundedRequest(request.scope, request.receive)
            if takes_json:
                # Here, since FastAPI would turn whatever goes wrong into a 400 without a reason.
                await bounded.expect_json()
            return await handle(bounded)

        return handle_bounded


def _declared_length(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is longer than the limit of {limit} bytes.", code="body-too-large")


def _refuse_unstorable(value: Any, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="json-too-deep")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput("The JSON holds a NUL character.", code="json-nul")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key, depth=depth + 1)
            _refuse_unstorable(item, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item, depth=depth + 1)
