"""Queries for task logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Text, Uuid, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Task, TaskLogLine
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits


@dataclass(frozen=True, slots=True)
class LogPage:
    """Consecutive lines of a log; `cursor` is the number of the next line to read."""

    cursor: int
    lines: tuple[str, ...]
    dropped: int
    """The number of lines at the log's beginning that have been dropped."""


@dataclass(frozen=True, slots=True)
class LogMarks:
    """Begin and end of a task's log, and its bytes."""

    dropped: int
    end: int
    total_bytes: int


def size_of(line: str) -> int:
    """The UTF-8 bytes of a line, as Postgres's `octet_length` counts them."""
    return len(line.encode())


async def append(  # noqa: PLR0913  the log's marks, the new lines, and the limits
    connection: AsyncConnection,
    task_id: TaskId,
    marks: LogMarks,
    lines: Sequence[str],
    *,
    first: int,
    limits: LogLimits,
) -> LogMarks:
    """Append lines, numbered from `first` on, and drop lines from the head that exceed the limits; the new marks.

    The caller has locked the task's row, read `marks` under that lock, and writes the new ones back in the
    same transaction. So numbers have no gaps and no duplicates, no reader sees a later line before an earlier
    one, and lines that are sent twice change nothing.
    """
    end = first + len(lines)
    if end <= marks.end:
        return marks
    # A sender that was cut off has dropped the lines before `first`, by the same limits.
    start = max(first, marks.end)
    fresh, start = _within(limits, lines[start - first :], start)
    added = {"task_id": task_id, "start": start, "lines": list(fresh)}
    await connection.execute(_ADD, added)
    total_bytes = marks.total_bytes + sum(map(size_of, fresh))
    begin = max(marks.dropped, end - limits.lines, start if start > marks.end else 0)
    if begin > marks.dropped or total_bytes > limits.total_bytes:
        excess = {"task_id": task_id, "begin": begin, "excess": total_bytes - limits.total_bytes}
        reached, freed = (await connection.execute(_DROP, excess)).one()
        return LogMarks(max(begin, reached), end, total_bytes - freed)
    return LogMarks(begin, end, total_bytes)


def _within(limits: LogLimits, lines: Sequence[str], start: int) -> tuple[Sequence[str], int]:
    """The last of the `lines` that the limits allow, and the number of the first of them."""
    total_bytes, retained = 0, 0
    for line in reversed(lines):
        total_bytes += size_of(line)
        if limits.exceeded_by(retained + 1, total_bytes):
            break
        retained += 1
    return lines[len(lines) - retained :], start + len(lines) - retained


# One array instead of one statement per line: after an outage of Postgres a whole log arrives at once.
_ADD = text("""
    INSERT INTO task_log (task_id, n, line)
    SELECT :task_id, :start + ordinal - 1, line FROM unnest(:lines) WITH ORDINALITY AS sent (line, ordinal)
""").bindparams(
    bindparam("task_id", type_=Uuid),
    bindparam("start", type_=BigInteger),
    bindparam("lines", type_=ARRAY(Text)),
)
# The running sum stops at the line that frees enough, so that only dropped lines are read.
_DROP = text("""
    WITH reached AS (
        SELECT n + 1 AS n FROM (
            SELECT n, sum(octet_length(line)) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS freed
            FROM task_log WHERE task_id = :task_id
        ) AS head
        WHERE :excess > 0 AND freed >= :excess ORDER BY n LIMIT 1
    ), gone AS (
        DELETE FROM task_log WHERE task_id = :task_id AND n < greatest(:begin, (SELECT n FROM reached))
        RETURNING n, octet_length(line) AS size
    )
    SELECT coalesce(max(n) + 1, 0), coalesce(sum(size), 0)::bigint FROM gone
""").bindparams(
    bindparam("task_id", type_=Uuid),
    bindparam("begin", type_=BigInteger),
    bindparam("excess", type_=BigInteger),
)

# Built once: many clients poll logs.
_BOUNDS = select(Task.log_dropped, Task.log_next).where(Task.id == bindparam("task_id"))
_LINES = (
    select(TaskLogLine.n, TaskLogLine.line)
    .where(TaskLogLine.task_id == bindparam("task_id"), TaskLogLine.n >= bindparam("since"))
    .order_by(TaskLogLine.n)
    .limit(bindparam("take"))
)


async def read(connection: AsyncConnection, task_id: TaskId, *, since: int, take: int) -> LogPage:
    """Up to `take` lines from number `since` on; a cursor beyond the end is set back to the end."""
    bounds = (await connection.execute(_BOUNDS, {"task_id": task_id})).one_or_none()
    dropped, end = bounds or (0, 0)  # the task has been cleared since the caller found it
    params = {"task_id": task_id, "since": since, "take": take}
    rows = (await connection.execute(_LINES, params)).all()
    cursor = rows[-1].n + 1 if rows else max(min(since, end), dropped)
    return LogPage(cursor=cursor, lines=tuple(row.line for row in rows), dropped=dropped)
