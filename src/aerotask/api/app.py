"""The app: routes, errors, documentation, and the platform for as long as it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse

from aerotask import __version__
from aerotask.api import (
    callbacks,
    datasets,
    derivatives,
    docs,
    entries,
    errors,
    events,
    orgs,
    own_tasks,
    system,
    tasks,
    users,
)
from aerotask.config import Settings
from aerotask.wiring import open_platform

_DESCRIPTION = "Long-running tools over drone and raster datasets: submit, follow, download."


def create_app(settings: Settings) -> FastAPI:
    """The app of these settings."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_platform(settings, application="aerotask api") as platform:
            app.state.platform = platform
            async with platform.hints.running(), platform.follow.changes.running():
                yield

    app = _Api(
        title="Aerotask",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    errors.install(app)
    for module in (
        users,
        orgs,
        datasets,
        entries,
        derivatives,
        tasks,
        own_tasks,
        callbacks,
        events,
        system,
        docs,
    ):
        app.include_router(module.router)
    app.mount("/docs/assets", docs.assets())
    app.add_api_route("/", _front_page, include_in_schema=False)
    return app


class _Api(FastAPI):
    """Describes what it does: malformed requests are 400 here, so no route answers 422."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            for item in document["paths"].values():
                for operation in item.values():
                    operation["responses"].pop("422", None)
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas.update(errors.problem_schemas())
            self.openapi_schema = document
        return self.openapi_schema


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _front_page() -> RedirectResponse:
    return RedirectResponse("/docs")
