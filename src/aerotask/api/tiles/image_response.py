"""Answers that are pictures: tagged before they are drawn, so that who has one costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from aerotask.api.http.ranges import matches
from aerotask.services.tiles.tiles import PendingImage

PINNED_S = 24 * 3600
"""How long a client may keep a picture whose address names the content's version."""
SHARED_S = 60
"""How long a cache between may, which would go on giving it to all when the dataset is private by then."""

# Map clients fetch pictures from pages elsewhere. Nobody is recognised by cookies here, so that gives nothing away.
ELSEWHERE = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}


def image_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's answers."""
    return {
        200: {"description": "The picture.", "content": {media_type: {}}},
        304: {"description": "The client has this picture."},
    }


async def image_response(
    request: Request, picture: PendingImage, media_type: str, *, pinned: bool
) -> Response:
    """The picture, or 304 if the request names its tag; `pinned` if the address names the content's version."""
    etag = f'"{picture.digest}"'
    headers = {"ETag": etag, "Cache-Control": cache_control(picture, pinned=pinned), **ELSEWHERE}
    known = request.headers.get("if-none-match")
    if known is not None and matches(known, etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(await picture.draw(), headers=_safe(headers), media_type=media_type)


def cache_control(picture: PendingImage, *, pinned: bool) -> str:
    """How long a picture may be kept, and by whom; without a version in the address, the server is asked each time."""
    who = "public" if picture.shared else "private"
    if not pinned:
        return f"{who}, no-cache"
    return f"{who}, max-age={PINNED_S}" + (f", s-maxage={SHARED_S}" if picture.shared else "")


def _safe(headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "X-Content-Type-Options": "nosniff"}
