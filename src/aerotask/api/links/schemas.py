"""Request and response schemas of links."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from aerotask.api.http.schema import Body, Printable
from aerotask.db.clock import DAY_S
from aerotask.domain.access import LinkScope
from aerotask.representations.base import ApiModel, Moment


class NewLinkBody(Body):
    """Link to create, to one of an entry, a folder and a task."""

    path: str | None = None
    """The file that it opens."""
    folder: str | None = None
    """The folder that it opens with all below it; empty for the whole dataset with its tasks."""
    task_id: UUID | None = None
    """The task that it opens."""
    ttl_s: int = Field(7 * DAY_S, ge=1, le=366 * DAY_S)
    """Seconds until it expires."""
    scope: LinkScope = LinkScope.DOWNLOAD
    """`download` gives files too, `view` only images, map tiles, lists, status, log and events."""
    note: Annotated[str, Field(max_length=200), Printable] = ""
    """The purpose, for those who manage links."""


class NewLinkResponse(ApiModel):
    """Link that was just created, with its address."""

    id: UUID
    url: str
    """The address of the thing itself; it is shown only in this response."""
    base_url: str
    """Under it lies all that the link opens, at the same addresses as under the dataset's."""
    expires_at: Moment


class LinkResponse(ApiModel):
    """Link as listed, without its address."""

    id: UUID
    path: str | None
    """The file, or folder with all below it; empty for the whole dataset, null for a task."""
    task_id: UUID | None
    scope: LinkScope
    note: str
    owner: str
    """The user on whose behalf it reads."""
    created_at: Moment
    expires_at: Moment
