"""State transition of tasks: one guarded UPDATE that also writes the history; the row count decides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Update, case, func, update

from aerotask.db.clock import db_now, iso_now
from aerotask.db.models import Task, in_states
from aerotask.domain.states import ACTIVE, TaskState, sources_of

NO_LEASE: Mapping[str, Any] = {
    "lease_token": None,
    "lease_until": None,
    "renewed_at": None,
    "worker_no": None,
}


def move(target: TaskState, *, actor: str | BindParameter[str], reason: str, **values: Any) -> Update:
    """An UPDATE of tasks whose state may change to `target`; the caller adds the condition for which ones.

    Leaving Processing drops the lease; a terminal state sets `finished_at`.
    """
    if target is not TaskState.PROCESSING:
        values = {**NO_LEASE, **values}
    if target is not TaskState.SCHEDULED:
        values = {"waits_for": None, **values}
    if target.terminal:
        # A task that has already ended keeps its time.
        values.setdefault("finished_at", _unless_ended())
    return (
        update(Task)
        .where(in_states(sources_of(target)))
        .values(state=target, history=Task.history.op("||")(_event(target, actor, reason)), **values)
    )


# Cached: building an expression costs more than running it, and there are few different ones.
@lru_cache(maxsize=256)
def _event(target: TaskState, actor: str | BindParameter[str], reason: str) -> ColumnElement[Any]:
    return func.jsonb_build_array(
        func.jsonb_build_object(
            "at", iso_now(), "from", Task.state, "to", target.value, "by", actor, "reason", reason
        )
    )


@lru_cache
def _unless_ended() -> ColumnElement[Any]:
    return case((in_states(ACTIVE), db_now()), else_=Task.finished_at)
