"""Conversion of an entry's row to the view that tools get."""

from __future__ import annotations

from typing import Any

from aerotask.metadata.model import is_given_up
from aerotask.sdk.dataset import EntryView
from aerotask.store.datasets.entries import EntryRow
from aerotask.store.datasets.plan_rows import EntryForPlan


def entry_view(row: EntryRow | EntryForPlan) -> EntryView:
    """The entry as tools see it; one that the indexer gave up is as one that it hasn't read yet."""
    was_given_up = is_given_up(row.properties)
    return EntryView(
        row.path,
        row.type,
        row.sha256,
        row.size_bytes,
        row.indexed and not was_given_up,
        {} if was_given_up else _mapping(row.properties) or {},
        int(row.modified_at.timestamp()),
        _mapping(row.point_geom),
        _mapping(row.polygon_geom),
    )


def _mapping(value: Any) -> dict[str, Any] | None:
    """The JSON object; None instead of a damaged value, which a tool shouldn't have to expect."""
    return value if isinstance(value, dict) else None
