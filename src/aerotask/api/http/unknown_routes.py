"""Messages about requests that no route takes: the methods of an address, and the nearest to an unknown address."""

from __future__ import annotations

from difflib import SequenceMatcher

from fastapi import FastAPI, Request
from starlette.routing import Match

from aerotask.domain.paths import shown

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Share of equal letters in the fixed parts of an address (difflib's ratio).
_LIKENESS = 0.75
_LONGEST_COMPARED = 256


def allowed_methods(request: Request) -> list[str]:
    """The methods that some route takes at the request's address."""
    return [method for method in _METHODS if _matches(request, method=method)]


def unknown_route_message(request: Request) -> str:
    """Message that there is no such address, with the nearest one that there is."""
    path = request.scope["path"]
    without_slash = path.rstrip("/") or "/"
    if without_slash != path and any(
        _matches(request, method=method, path=without_slash) for method in _METHODS
    ):
        return f"There is nothing at {shown(path)}; leave the slash at its end away: {shown(without_slash)}."
    similar = _nearest_address(request.app, path)
    advice = f"did you mean {similar}?" if similar else "/docs lists all addresses."
    return f"There is nothing at {shown(path)}; {advice}"


def _matches(request: Request, *, method: str, path: str | None = None) -> bool:
    scope = dict(request.scope) | {"method": method}
    if path is not None:
        scope["path"] = scope.get("root_path", "") + path
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _nearest_address(app: FastAPI, path: str) -> str | None:
    """The documented address most like the path, with its variable parts in braces."""
    written = path[:_LONGEST_COMPARED].strip("/").split("/")
    likenesses = {
        address: _likeness(address.strip("/").split("/"), written) for address in app.openapi()["paths"]
    }
    best = max(likenesses, key=lambda address: likenesses[address])
    return best if likenesses[best] >= _LIKENESS else None


def _likeness(address: list[str], written: list[str]) -> float:
    """Likeness of the fixed parts of an address and what was written there, from 0 to 1."""
    if len(address) != len(written):
        return 0
    fixed = [(part, there) for part, there in zip(address, written, strict=True) if not part.startswith("{")]
    names, others = ("/".join(parts) for parts in zip(*fixed, strict=True)) if fixed else ("", "")
    return SequenceMatcher(None, names, others).ratio() if names else 0
