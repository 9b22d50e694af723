"""Closed query strings: every route refuses query parameters that it doesn't declare."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote_plus

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from aerotask.domain.errors import FieldError, InvalidInput, json_pointer
from aerotask.domain.paths import shown
from aerotask.domain.suggestions import hint

MAX_REPORTED = 10
"""Unknown parameters that one error names."""


class ClosedQueryRoute(APIRoute):
    """Route that refuses query parameters other than its own and those of its dependencies, before anything else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the check of the request's query."""
        handle = super().get_route_handler()
        known = declared_parameters(self)

        async def handle_closed(request: Request) -> Response:
            raise_if_unknown(request.scope["query_string"], known)
            return await handle(request)

        return handle_closed


def without_query(app: ASGIApp) -> ASGIApp:
    """The ASGI application, which takes no query parameters, behind the same check."""

    async def handle_closed(scope: Scope, receive: Receive, send: Send) -> None:
        raise_if_unknown(scope["query_string"], frozenset())
        await app(scope, receive, send)

    return handle_closed


def declared_parameters(route: APIRoute) -> frozenset[str]:
    """The query parameters of a route and its dependencies, as its OpenAPI description has them."""
    names: set[str] = set()
    dependants = [route.dependant]
    while dependants:
        each = dependants.pop()
        # On its own, since FastAPI's list has fields of all kinds, and those of models don't say which kind they are.
        names.update(field.alias for field in get_flat_params(Dependant(query_params=each.query_params)))
        dependants += each.dependencies
    return frozenset(names)


def raise_if_unknown(query: bytes, known: frozenset[str]) -> None:
    """Checks the names in a query string.

    Raises:
        InvalidInput: a name is not among the known ones (`unknown-parameter`).
    """
    if not query:
        return
    # As `parse_qsl` reads them, but without the values, which take most of its time.
    pairs = query.decode("latin-1").split("&")
    names = {unquote_plus(pair.partition("=")[0]) for pair in pairs if pair}
    if not names <= known:
        raise _unknown_parameters(sorted(names - known), sorted(known))


def _unknown_parameters(names: list[str], known: list[str]) -> InvalidInput:
    errors = [
        FieldError(json_pointer(("query", shown(name)[1:-1])), f"unknown{hint(name, known)}")
        for name in names[:MAX_REPORTED]
    ]
    described = f"this route has {', '.join(known)}" if known else "this route has none"
    return InvalidInput(
        f"There is no query parameter {shown(names[0])}{hint(names[0], known)}; {described}.",
        code="unknown-parameter",
        errors=errors,
    )
