"""Checks of JSON columns on reading: a damaged value is shown as empty, its row names it, and the log too.

The product writes valid values only, but a whole list must not fail when somebody or something else changed one row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import structlog

from aerotask.domain.states import TaskState

_LOGGED_ROWS = 1000
_STATES = frozenset(map(str, TaskState))

_log = structlog.get_logger(__name__)


class JsonColumns:
    """The JSON columns of one row, which remembers those that don't have the expected form."""

    __slots__ = ("_damaged",)

    def __init__(self) -> None:
        self._damaged: list[str] = []

    def mapping(self, column: str, value: Any) -> dict[str, Any]:
        """The object; an empty one instead of anything else."""
        if isinstance(value, dict):
            return value
        self._damaged.append(column)
        return {}

    def optional_mapping(self, column: str, value: Any) -> dict[str, Any] | None:
        """The object or None; None instead of anything else."""
        if value is None or isinstance(value, dict):
            return value
        self._damaged.append(column)
        return None

    def items(self, column: str, value: Any, is_valid: Callable[[Any], bool]) -> list[Any]:
        """The list; without items that are not valid, and an empty one instead of anything else."""
        if isinstance(value, list) and all(map(is_valid, value)):
            return value
        self._damaged.append(column)
        return list(filter(is_valid, value)) if isinstance(value, list) else []

    def damaged(self, table: str, row: object) -> tuple[str, ...]:
        """The columns without the expected form; if there are any, the log names them once in a process."""
        if not self._damaged:
            return ()
        columns = tuple(self._damaged)
        _log_damaged(table, str(row), columns)
        return columns


# Clients read the same rows again and again.
@lru_cache(maxsize=_LOGGED_ROWS)
def _log_damaged(table: str, row: str, columns: tuple[str, ...]) -> None:
    _log.error("row.damaged", table=table, row=row, columns=", ".join(columns))


def is_transition(value: Any) -> bool:
    """Whether it is an event of a task's history, as `queue.transitions` writes it."""
    return (
        isinstance(value, dict)
        and _is_time(value.get("at"))
        and (value.get("from", "") is None or _is_state(value.get("from")))
        and _is_state(value.get("to"))
        and isinstance(value.get("by"), str)
        and isinstance(value.get("reason"), str)
    )


def is_content(value: Any) -> bool:
    """Whether it is an input or output of a task: a path and the content's hash."""
    return (
        isinstance(value, dict) and isinstance(value.get("path"), str) and isinstance(value.get("hash"), str)
    )


def is_delivery_attempt(value: Any) -> bool:
    """Whether it is an attempt to deliver a webhook, as the worker records it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("at"), str)
        and isinstance(value.get("status"), int | None)
        and isinstance(value.get("error"), str | None)
        and isinstance(value.get("durationMs"), int)
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, str) and value in _STATES


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
