"""Routes: what was made of an entry."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from aerotask.api.datasets.entries import FILE_ANSWERS, EntryPathParam
from aerotask.api.deps import Place, PlaceDep
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import file_response
from aerotask.derivatives.kinds import FACTS, Kind, download_name
from aerotask.representations.base import Answer, Moment
from aerotask.store.datasets.derivatives import DerivativeRow


class DerivativeAnswer(Answer):
    """A derivative of an entry."""

    kind: str
    """`cog`, `copc`, `nxz`, `pmtiles` or `gpkg`."""
    url: str
    size: int
    hash: str
    """SHA-256 of the derivative, which is also its ETag."""
    created_at: Moment
    properties: dict[str, Any]
    """What is known of it: statistics of bands, bounds, layers, and warnings, by kind."""


class _KindConvertor(Convertor[str]):
    """Lets only kinds be the last segment of an address, so that everything else stays part of an entry's path."""

    regex = "|".join(Kind)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("derivativeKind", _KindConvertor())
router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"])


@router.get(
    "/build/{path:path}/{kind:derivativeKind}", responses=FILE_ANSWERS | problems(400, 401, 404, 412, 416)
)
@router.head("/build/{path:path}/{kind:derivativeKind}", include_in_schema=False)
async def get_derivative(
    at: PlaceDep,
    path: EntryPathParam,
    kind: Annotated[Kind, Path(description="The kind of derivative.")],
    request: Request,
) -> Response:
    """Download one derivative of an entry, whole or in ranges."""
    made = await at.platform.derivatives.open(at.caller, at.org, at.slug, path, kind)
    return await file_response(
        request,
        made.content,
        file_name=download_name(path, kind),
        media_type=FACTS[kind].media_type,
        sha256=made.row.sha256,
    )


@router.get("/build/{path:path}", responses=problems(400, 401, 404))
async def list_derivatives(at: PlaceDep, path: EntryPathParam) -> list[DerivativeAnswer]:
    """What was made of an entry by the tool `build`, by kind."""
    rows = await at.platform.derivatives.list_of(at.caller, at.org, at.slug, path)
    return [_answer(at, path, row) for row in rows]


def _answer(at: Place, path: str, row: DerivativeRow) -> DerivativeAnswer:
    return DerivativeAnswer(
        kind=row.kind,
        url=f"{at.address}/build/{quote(path)}/{row.kind}",
        size=row.size_bytes,
        hash=row.sha256,
        created_at=row.created_at,
        properties=row.properties,
    )
