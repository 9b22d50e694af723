"""The way from one page of a list to the next."""

from __future__ import annotations

from starlette.datastructures import URL

from aerotask.services.tasks.tasks import MAX_TAKE


def page_headers(url: URL, *, skip: int, take: int, total: int) -> dict[str, str]:
    """`X-Total-Count`, and `Link` (RFC 8288) with relative addresses of the pages beside this one."""
    beside = neighbours(url, skip=skip, take=take, total=total)
    headers = {"X-Total-Count": str(total)}
    if beside:
        headers["Link"] = ", ".join(f'<{page}>; rel="{relation}"' for relation, page in beside.items())
    return headers


def neighbours(url: URL, *, skip: int, take: int, total: int) -> dict[str, str]:
    """The relative addresses of the pages beside this one, as far as there are any: `next` and `prev`."""
    size = max(1, min(take, MAX_TAKE))
    pages: dict[str, str] = {}
    if skip + size < total:
        pages["next"] = _page(url, skip + size, size)
    if skip > 0:
        pages["prev"] = _page(url, max(0, skip - size), size)
    return pages


def _page(url: URL, skip: int, take: int) -> str:
    page = url.include_query_params(skip=skip, take=take)
    return f"{page.path}?{page.query}"
