"""OpenAPI document, and the Swagger UI page at `/docs` with bundled assets: it works offline and under a strict CSP."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from aerotask.api.http.closed_query import ClosedQueryRoute, without_query

router = APIRouter(include_in_schema=False, route_class=ClosedQueryRoute)

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Aerotask API</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="/docs/assets/swagger-ui-bundle.js"></script>
  <script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


@router.get("/")
async def front_page() -> RedirectResponse:
    """Redirect to the documentation."""
    return RedirectResponse("/docs")


@router.get("/openapi.json")
@router.head("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """Serve the OpenAPI document."""
    app: FastAPI = request.app
    return JSONResponse(app.openapi())


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Serve the Swagger UI page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/start.js")
async def start() -> Response:
    """Serve the script that starts Swagger UI."""
    return Response(_START, media_type="text/javascript")


def assets() -> ASGIApp:
    """Application that serves the static files of Swagger UI, from the package fastapi-offline."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package fastapi-offline, which bundles Swagger UI, is not installed")
    return without_query(StaticFiles(directory=Path(spec.origin).parent / "static"))
