"""FastAPI application: routes, error handlers, documentation and the platform's lifespan."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from aerotask import __version__
from aerotask.api.accounts import api_keys, audit, users
from aerotask.api.datasets import datasets, derivatives, downloads, entries, orgs, tree, uploads
from aerotask.api.http import errors, middleware
from aerotask.api.links import contents as linked_contents
from aerotask.api.links import links
from aerotask.api.links import tasks as linked_tasks
from aerotask.api.links import tiles as linked_tiles
from aerotask.api.system import docs, system
from aerotask.api.tasks import events, results, tasks, tools, usage, webhooks
from aerotask.api.tiles import tiles
from aerotask.config import Settings
from aerotask.registry import load_registry
from aerotask.wiring import open_platform

_DESCRIPTION = (
    "Long-running tools over drone and raster datasets: submit a task, watch it, download its result. "
    "Query parameters that a route doesn't describe are refused."
)


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings."""
    registry = load_registry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_platform(settings, application="aerotask api", registry=registry) as platform:
            app.state.platform = platform
            async with (
                platform.installation.verified(on_failure=_stop),
                platform.wakeups.running(on_failure=_stop),
                platform.watch.notifications.running(on_failure=_stop),
            ):
                yield

    app = _Api(
        settings,
        title="Aerotask",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # `docs.router` serves the document
        redirect_slashes=False,  # a client that doesn't follow would take the redirect for an empty answer
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = settings
    errors.install(app)
    # Starlette matches a request against one route after the other, so frequently used routes come first.
    for router in (
        tasks.router,
        results.router,
        users.router,
        api_keys.router,
        orgs.router,
        usage.router,
        datasets.router,
        entries.router,
        downloads.router,
        derivatives.router,
        tree.router,
        uploads.router,
        tools.router,
        tools.alias_router(registry),
        tasks.own_tasks_router,
        webhooks.router,
        events.router,
        tiles.router,
        linked_tiles.router,
        linked_contents.router,
        linked_tasks.router,
        links.router,
        system.router,
        audit.router,
        docs.router,
    ):
        app.include_router(router)
    app.mount("/docs/assets", docs.assets())
    return app


class _Api(FastAPI):
    """FastAPI with the security middleware, and OpenAPI without its 422: malformed requests get 400 here."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def build_middleware_stack(self) -> ASGIApp:
        """The middleware stack, with the security middleware outermost."""
        return middleware.add_security(
            super().build_middleware_stack(), self._settings, long_url_hints=downloads.LONG_URL_HINTS
        )

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            for item in document["paths"].values():
                for method, operation in item.items():
                    _describe(method, operation)
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas.update(errors.problem_schemas())
            self.openapi_schema = document
        return self.openapi_schema


def _describe(method: str, operation: dict[str, Any]) -> None:
    """Corrects an operation's responses to those that middleware and error handlers really send."""
    responses = operation["responses"]
    if errors.MEDIA_TYPE not in responses.get("422", {}).get("content", {}):
        responses.pop("422", None)  # FastAPI's validation error, which is a 400 here
    described = errors.problems(400, 403, 414)
    responses.setdefault("400", described[400])  # for unknown query parameters
    if operation.get("parameters"):
        responses.setdefault("414", described[414])
    if method not in {"get", "head"} and "401" in responses:
        responses.setdefault("403", described[403])  # for read-only API keys


def _operation_id(route: APIRoute) -> str:
    return route.name


def _stop() -> None:
    """Shuts the process down gracefully; its supervisor starts a new one."""
    os.kill(os.getpid(), signal.SIGTERM)
