"""Publishing of a run's derivatives, one after the other, while the run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from aerotask.aio import cancel_and_wait, finish_in_thread
from aerotask.blobs.blob_store import Blob, BlobStore
from aerotask.domain.text_cleaning import clean_json, clean_line
from aerotask.failpoints import failpoint
from aerotask.sandbox.child_files import take_file
from aerotask.sdk.changes import PutDerivative
from aerotask.sdk.plan import raise_if_unplanned
from aerotask.services.tasks.outcome.changes import StoredChanges
from aerotask.services.tasks.outcome.commit import CommitService
from aerotask.store.queue.claims import ClaimedTask
from aerotask.worker.supervise import ChildEnd, Ended

_Declared: TypeAlias = tuple[ClaimedTask, PutDerivative[Path]]


@dataclass(slots=True)
class DerivativePublisher:
    """Publisher of one attempt's derivatives; an error stops the attempt."""

    commits: CommitService
    blobs: BlobStore
    folder: Path
    """The attempt's folder; the child writes to its folder `out` only."""
    stop: asyncio.Event
    lost: asyncio.Event
    """Set when the lease is lost, together with `stop`."""
    _declared: asyncio.Queue[_Declared | None] = field(default_factory=asyncio.Queue)

    def add(self, task: ClaimedTask, made: PutDerivative[Path]) -> None:
        """Publish the derivative once all before it are published; the task has its inputs."""
        self._declared.put_nowait((task, made))

    async def publish_during(self, run: Awaitable[Ended]) -> Ended:
        """The end of the run, once all its derivatives are published; if that was stopped, the run counts as stopped.

        Raises:
            LeaseLost: the task is no longer ours.
            TaskFailed: a declaration is malformed, or names a file or path that isn't the run's (`bad-output`).
            OSError: the storage can't take it.
        """
        publishing = asyncio.create_task(self._publish_all())
        try:
            ended = await run
            self._declared.put_nowait(None)
            return ended if await publishing else Ended(ChildEnd.STOPPED)
        finally:
            await cancel_and_wait(publishing)

    async def _publish_all(self) -> bool:
        """Publish until the run has ended; False if it was stopped before that."""
        try:
            while (declared := await self._declared.get()) is not None:
                if not await self._publish(*declared):
                    return False
        except BaseException:
            self.stop.set()
            raise
        return True

    async def _publish(self, task: ClaimedTask, made: PutDerivative[Path]) -> bool:
        raise_if_unplanned(made.of, task.writes)
        blob = None if self.stop.is_set() else await self._store(made.content)
        if blob is None:
            return False
        stored = PutDerivative(blob, made.of, made.kind, made.builder, made.properties)
        await self.commits.publish(task, StoredChanges(derivatives=(stored,)), lost=self.lost)
        failpoint("derivative-published")
        return True

    async def _store(self, file: Path) -> Blob | None:
        """The stored content of the child's file; None if it was stopped."""
        copy = self.folder / "publishing"
        sha256 = await finish_in_thread(
            lambda: take_file(
                file,
                copy,
                workdir=self.folder / "out",
                require_space=self.blobs.require_space,
                stopped=self.stop.is_set,
            )
        )
        return None if sha256 is None else await self.blobs.ingest(copy, sha256=sha256)


def declared_derivative(declared: Mapping[str, Any]) -> PutDerivative[Path]:
    """The derivative that a child's message declares.

    Raises:
        KeyError: the message is malformed.
    """
    return PutDerivative(
        Path(str(declared["path"])),
        of=str(declared["of"]),
        kind=str(declared["kind"]),
        builder=clean_line(str(declared["builder"])),
        properties=clean_json(declared["properties"]),
    )
