"""Conversion of an entry's row to the view that tools get."""

from __future__ import annotations

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
        row.properties or {},
        int(row.modified_at.timestamp()),
        row.point_geom,
        row.polygon_geom,
    )
