"""Image responses with ETags that are known before rendering, so that a 304 needs none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from aerotask.api.http.cross_origin import CROSS_ORIGIN
from aerotask.api.http.ranges import matches
from aerotask.services.tiles.tiles import PendingImage

VERSIONED_MAX_AGE_S = 24 * 3600
"""Cache lifetime in clients of an image whose URL contains the content's version."""
SHARED_MAX_AGE_S = 60
"""Cache lifetime in shared caches, short since they keep serving images of a dataset that became private."""


def image_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of an image route's responses."""
    return {
        200: {"description": "The image.", "content": {media_type: {}}},
        304: {"description": "The client's copy is current."},
    }


async def image_response(
    request: Request, image: PendingImage, media_type: str, *, versioned: bool
) -> Response:
    """The image, or 304 if it matches If-None-Match; `versioned` if the URL contains the content's version."""
    etag = f'"{image.digest}"'
    headers = {"ETag": etag, "Cache-Control": cache_control(image, versioned=versioned), **CROSS_ORIGIN}
    known = request.headers.get("if-none-match")
    if known is not None and matches(known, etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(await image.render(), headers=_safe(headers), media_type=media_type)


def cache_control(image: PendingImage, *, versioned: bool) -> str:
    """The Cache-Control header of an image; without a version in the URL, clients must revalidate each time."""
    visibility = "public" if image.is_shared_cacheable else "private"
    if not versioned:
        return f"{visibility}, no-cache"
    return f"{visibility}, max-age={VERSIONED_MAX_AGE_S}" + (
        f", s-maxage={SHARED_MAX_AGE_S}" if image.is_shared_cacheable else ""
    )


def _safe(headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "X-Content-Type-Options": "nosniff"}
