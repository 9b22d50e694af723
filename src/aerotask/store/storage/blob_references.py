"""References to stored blobs: every blob that a row needs, with the length and hash that the row gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Text, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.models import Artifact, Derivative, Entry

FETCHED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ReferencedBlob:
    """A blob that a row needs; `size_bytes` is None if only the input of an active task names it."""

    key: str
    sha256: str
    size_bytes: int | None


# DISTINCT, so that each part has its first keys even if many entries share a blob.
_PAGE = """
    SELECT blob_key, max(sha256) AS sha256, max(size_bytes) AS size_bytes FROM (
        (SELECT DISTINCT ON (blob_key) blob_key, size_bytes, sha256 FROM entries
         WHERE blob_key {condition} ORDER BY blob_key LIMIT :max_count)
        UNION ALL
        (SELECT DISTINCT ON (blob_key) blob_key, size_bytes, sha256 FROM derivatives
         WHERE blob_key {condition} ORDER BY blob_key LIMIT :max_count)
        UNION ALL
        (SELECT DISTINCT ON (blob_key) blob_key, size_bytes, sha256 FROM artifacts
         WHERE blob_key {condition} ORDER BY blob_key LIMIT :max_count)
        UNION ALL
        (SELECT DISTINCT ON (blob_key) blob_key, CAST(NULL AS bigint), sha256
         FROM task_inputs JOIN tasks ON tasks.id = task_inputs.task_id
         WHERE blob_key {condition} AND tasks.state IN ('Created', 'Enqueued', 'Scheduled', 'Processing')
         ORDER BY blob_key LIMIT :max_count)
    ) AS referenced GROUP BY blob_key ORDER BY blob_key LIMIT :max_count
"""
_AFTER = text(_PAGE.format(condition="> :after"))
_AMONG = text(_PAGE.format(condition="= ANY (:keys)")).bindparams(bindparam("keys", type_=ARRAY(Text)))
_OWNERS = text("""
    SELECT 'entry ' || o.slug || '/' || d.slug || '/' || e.path FROM entries e
        JOIN datasets d ON d.id = e.dataset_id JOIN organizations o ON o.id = d.org_id WHERE e.blob_key = :key
    UNION ALL
    SELECT m.kind || ' derivative in ' || o.slug || '/' || d.slug FROM derivatives m
        JOIN datasets d ON d.id = m.dataset_id JOIN organizations o ON o.id = d.org_id WHERE m.blob_key = :key
    UNION ALL
    SELECT 'artifact ' || a.file_name || ' of task ' || a.task_id FROM artifacts a WHERE a.blob_key = :key
""")


async def list_after(connection: AsyncConnection, key: str, *, max_count: int) -> list[ReferencedBlob]:
    """The next referenced blobs after a key."""
    rows = await connection.execute(_AFTER, {"after": key, "max_count": max_count})
    return [ReferencedBlob(*row) for row in rows]


async def stream_referenced(connection: AsyncConnection) -> AsyncIterator[ReferencedBlob]:
    """Every referenced blob once, in the order of the keys."""
    after = ""
    while page := await list_after(connection, after, max_count=FETCHED_ROWS):
        for blob in page:
            yield blob
        after = page[-1].key


async def list_among(connection: AsyncConnection, keys: Sequence[str]) -> list[ReferencedBlob]:
    """Those of the blobs that are referenced."""
    rows = await connection.execute(_AMONG, {"keys": list(keys), "max_count": len(keys)})
    return [ReferencedBlob(*row) for row in rows]


async def count(connection: AsyncConnection) -> int:
    """The number of referenced blobs; shared ones count several times."""
    tables = (Entry, Derivative, Artifact)
    queries = [select(func.count()).select_from(table).where(table.blob_key.is_not(None)) for table in tables]
    return sum([(await connection.execute(query)).scalar_one() for query in queries])


async def list_owners(connection: AsyncConnection, key: str) -> list[str]:
    """The entries, derivatives and artifacts that have the blob, for people."""
    return list((await connection.execute(_OWNERS, {"key": key})).scalars())
