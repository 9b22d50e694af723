"""Conversion of an entry's row to the view that tools get."""

from __future__ import annotations

from typing import Any

from aerotask.sdk.dataset import EntryView
from aerotask.store.datasets.entries import EntryRow
from aerotask.store.datasets.plan_rows import EntryForPlan


def entry_view(row: EntryRow | EntryForPlan) -> EntryView:
    """The entry as tools see it."""
    return EntryView(
        row.path,
        row.type,
        row.sha256,
        row.size_bytes,
        row.indexed,
        _mapping(row.properties) or {},
        int(row.modified_at.timestamp()),
        _mapping(row.point_geom),
        _mapping(row.polygon_geom),
    )


def _mapping(value: Any) -> dict[str, Any] | None:
    """The JSON object; None instead of a damaged value, which a tool shouldn't have to expect."""
    return value if isinstance(value, dict) else None
