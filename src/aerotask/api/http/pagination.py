"""Pagination headers and links of list responses."""

from __future__ import annotations

from starlette.datastructures import URL


def page_headers(url: URL, *, skip: int, take: int, total: int) -> dict[str, str]:
    """Headers `X-Total-Count` and `Link` (RFC 8288), with relative URLs of the next and previous page."""
    links = page_links(url, skip=skip, take=take, total=total)
    headers = {"X-Total-Count": str(total)}
    if links:
        headers["Link"] = ", ".join(f'<{page}>; rel="{relation}"' for relation, page in links.items())
    return headers


def page_links(url: URL, *, skip: int, take: int, total: int) -> dict[str, str]:
    """Relative URLs of the pages `next` and `prev`, where they exist; `take` is the page size."""
    pages: dict[str, str] = {}
    if skip + take < total:
        pages["next"] = _page(url, skip + take, take)
    if skip > 0:
        pages["prev"] = _page(url, max(0, skip - take), take)
    return pages


def _page(url: URL, skip: int, take: int) -> str:
    page = url.include_query_params(skip=skip, take=take)
    return f"{page.path}?{page.query}"
