"""One attempt at a task: prepare its inputs, run the tool in a child process, store its outputs, commit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from aerotask.aio import background
from aerotask.db.outages import is_outage, outlast
from aerotask.domain.access import Access
from aerotask.domain.errors import AerotaskError, TaskFailed
from aerotask.domain.retry import OUTAGE_S, FailureKind, retry_delay_s
from aerotask.domain.settings import StorageQuota
from aerotask.failpoints import failpoint
from aerotask.sandbox.child_log import LOGGED
from aerotask.sandbox.output_log import log_record
from aerotask.sandbox.protocol import Message
from aerotask.sdk import Limits, Snapshot, Tool
from aerotask.services.datasets.storage_quota import Headroom, headroom_for
from aerotask.services.tasks.outcome.commit import Outcome, outcome_of, retry_if_away
from aerotask.services.tasks.snapshots import derivatives_of_inputs, take_snapshot
from aerotask.services.tasks.work_dirs import work_folder
from aerotask.store.queue.claims import ClaimedTask, with_inputs
from aerotask.store.queue.leases import Failure, LeaseLost, Retry
from aerotask.worker.context import WorkerContext
from aerotask.worker.jobs import ToolInputs, ToolJob, ToolNeeds
from aerotask.worker.outputs import store_outputs
from aerotask.worker.publishing import DerivativePublisher, declared_derivative
from aerotask.worker.reporter import Reporter
from aerotask.worker.supervise import ChildEnd, Ended, supervise

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed task that this worker runs."""

    context: WorkerContext
    task: ClaimedTask
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    _damaged: set[str] = field(default_factory=set)
    """Inputs that the child found damaged."""

    @property
    def folder(self) -> Path:
        """The attempt's own folder: `in` holds the inputs, `out` is the tool's work folder."""
        lease = self.task.lease
        return work_folder(self.context.blobs.work_root, lease.task_id, lease.attempt)

    def mark_lost(self) -> None:
        """Kill the child and commit nothing: the lease is lost."""
        self._lost.set()
        self._stop.set()

    def hand_over(self) -> None:
        """Kill the child and give the task back to the queue: the worker stops."""
        self._stop.set()

    def touch(self) -> None:
        """Refresh the work folder's time, otherwise maintenance removes it as abandoned."""
        with suppress(OSError):
            os.utime(self.folder)

    async def run(self) -> None:
        """Run the attempt to its end, whatever its outcome."""
        log = _log.bind(task_id=str(self.task.lease.task_id), attempt=self.task.lease.attempt)
        log.info("task.started", tool=self.task.tool_id)
        settings = self.context.settings
        reporter = Reporter(
            self.context.db,
            self.task.lease,
            next_line=self.task.log_next,
            log_limits=settings.logs,
            interval_s=settings.queue.heartbeat_s,
        )
        try:
            # A report that is cancelled midway may have been committed; repeating its lines changes nothing.
            async with background(reporter.run(self._lost), on_end=self._stop.set):
                outcome = await self._outcome(reporter)
            outcome = await self.context.commits.finish(
                self.task, outcome, reporter.pending(), lost=self._lost
            )
            log.info("task.ended", outcome=_name_of(outcome))
        except LeaseLost:
            log.info("task.abandoned")
        finally:
            await self.context.folder_removal.remove(self.folder)

    async def _outcome(self, reporter: Reporter) -> Outcome:
        reporter.log(f"Attempt {self.task.lease.attempt} of {self.task.tool_id}.")
        try:
            tool = self.context.registry.get(self.task.tool_id, self.task.tool_version)
            publisher = self._publisher()
            ended = await publisher.publish_during(
                supervise(
                    self.context.spawner,
                    await self._job(),
                    inputs_for=lambda needs: self._prepare(tool, needs),
                    on_event=lambda event: self._on_event(event, reporter, publisher),
                    stop=self._stop,
                    cancel_grace_s=self.context.settings.worker.cancel_grace_s,
                    timeout_s=self.context.settings.worker.task_timeout_s,
                )
            )
            await self._report_damage()
            return await self._to_outcome(ended, reporter)
        except FileNotFoundError as error:
            _log.error("blob.missing", task_id=str(self.task.lease.task_id), file=str(error.filename))
            return await self._retry_if_away() or self._after_missing_input(reporter)
        except (AerotaskError, OSError) as error:
            if is_outage(error):
                raise
            if isinstance(error, OSError):
                _log.error("storage.failed", task_id=str(self.task.lease.task_id), error=str(error))
            return await outcome_of(error, self.context.blobs, attempt=self.task.lease.attempt)

    async def _retry_if_away(self) -> Retry | None:
        return await retry_if_away(self.context.blobs, attempt=self.task.lease.attempt)

    def _after_missing_input(self, reporter: Reporter) -> Retry | Failure:
        """A storage that is there may still lack a file for a while: mounted in part, or being restored."""
        text = "The content of an input is missing from the storage."
        reporter.log(text)
        failure = Failure("input-missing", text, retryable=True, counts_as_failed=True)
        return self._retry_or_fail(FailureKind.RETRYABLE_ERROR, "input-missing", failure, reporter)

    def _publisher(self) -> DerivativePublisher:
        commits, blobs = self.context.commits, self.context.blobs
        return DerivativePublisher(commits, blobs, self.folder, stop=self._stop, lost=self._lost)

    def _on_event(self, event: Message, reporter: Reporter, publisher: DerivativePublisher) -> None:
        if event.kind == "damaged":
            self._damaged.add(str(event.body["path"]))
        elif event.kind == "derivative":
            publisher.add(self.task, declared_derivative(event.body))
        elif event.kind == LOGGED:
            lease = self.task.lease
            log_record(event.body, task_id=str(lease.task_id), attempt=lease.attempt, tool=self.task.tool_id)
        else:
            reporter.on_event(event)

    async def _report_damage(self) -> None:
        """Check the inputs that the child found damaged, since it may run anybody's code, and report them."""
        for item in self.task.inputs:
            if item.path in self._damaged:
                damage = await self.context.blobs.find_damage(
                    item.blob_key, size_bytes=None, sha256=item.sha256
                )
                if damage is not None:
                    await self.context.damage.report(damage)

    async def _check_access(self, needed: Access) -> None:
        """Check the owner's permissions again: they may have been revoked since the submit.

        Raises:
            TaskFailed: they have been (`access-revoked`).
        """
        rights = await outlast(
            lambda: self.context.access.rights_of_user(self.task.user_id, self.task.dataset_id),
            give_up_after_s=OUTAGE_S,
        )
        if needed not in rights:
            raise TaskFailed(
                "The task's owner no longer has the permissions on this dataset that the tool requires.",
                code="access-revoked",
            )

    async def _snapshot(self, paths: Sequence[str]) -> Snapshot:
        if not paths:
            return Snapshot("")
        inputs = {item.path: item for item in self.task.inputs}
        file = self.folder / "snapshot"
        return await outlast(
            lambda: take_snapshot(
                self.context.db, self.task.dataset_id, below=paths, inputs=inputs, file=file
            ),
            give_up_after_s=OUTAGE_S,
        )

    async def _job(self) -> ToolJob:
        out = self.folder / "out"
        await self.context.blobs.make_work_folder(self.folder.name)
        await asyncio.to_thread(out.mkdir, mode=0o700, exist_ok=True)
        return ToolJob(
            tool_id=self.task.tool_id,
            tool_version=self.task.tool_version,
            params=self.task.params,
            workdir=str(out),
            reads=str(self.folder),
            threads=self.context.threads,
            memory_bytes=self.task.memory_bytes,
            max_file_bytes=2 * self.context.settings.quotas.output_bytes,
        )

    async def _prepare(self, tool: Tool[Any], needs: ToolNeeds) -> ToolInputs:
        await self._check_access(needs.access)
        self.task = await outlast(self._with_inputs, give_up_after_s=OUTAGE_S)
        files = {item.path: self.folder / "in" / item.path for item in self.task.inputs}
        await self.context.blobs.link_all_to([(item.blob_key, files[item.path]) for item in self.task.inputs])
        snapshot = await self._snapshot(needs.snapshot)
        return ToolInputs(
            files={path: str(file) for path, file in files.items()},
            hashes=tuple(item.sha256 for item in self.task.inputs),
            limits=asdict(await self._limits()),
            slug=snapshot.slug,
            snapshot=None if snapshot.file is None else str(snapshot.file),
            derived=await self._derived(tool),
            derived_since_submit=await self._derived(tool, since_submit=True),
        )

    async def _with_inputs(self) -> ClaimedTask:
        async with self.context.db.read() as connection:
            return await with_inputs(connection, self.task)

    async def _limits(self) -> Limits:
        """The tool's limits, with the storage headroom, so that a run can fail before it has done all its work."""
        tools, storage = self.context.tool_limits, self.context.settings.storage
        if not self.task.writes or storage.unlimited:
            return tools
        headroom = await outlast(lambda: self._headroom(storage), give_up_after_s=OUTAGE_S)
        return replace(tools, storage_left_bytes=headroom.left_bytes)

    async def _headroom(self, storage: StorageQuota) -> Headroom:
        async with self.context.db.read() as connection:
            return await headroom_for(connection, storage, self.task.dataset_id)

    async def _derived(
        self, tool: Tool[Any], *, since_submit: bool = False
    ) -> tuple[tuple[str, str, str], ...]:
        """The inputs' existing derivatives; another task may have built them, or an earlier attempt."""

        async def read() -> tuple[tuple[str, str, str], ...]:
            async with self.context.db.read() as connection:
                return await derivatives_of_inputs(connection, self.task, since_submit=since_submit)

        return await outlast(read, give_up_after_s=OUTAGE_S) if tool.uses_derivatives else ()

    async def _to_outcome(self, ended: Ended, reporter: Reporter) -> Outcome:
        if self._lost.is_set():
            raise LeaseLost
        if ended.how is ChildEnd.STOPPED:
            return Retry("worker stopping")
        if ended.how is ChildEnd.TIMED_OUT:
            limit = self.context.settings.worker.task_timeout_s
            return Failure("timed-out", f"The tool ran longer than the limit of {limit:.0f} s.")
        if retry := await self._retry_if_away():
            return retry
        if ended.how is ChildEnd.CRASHED or ended.last is None:
            return self._after_crash(ended.detail, reporter)
        if ended.how is ChildEnd.FAILED:
            if ended.last.kind == "cancelled":  # not by us: another process sent the signal
                return self._after_crash("it was interrupted", reporter)
            return self._after_error(ended.last.body, reporter)
        failpoint("output-written")
        reporter.set_phase("storing")
        return await store_outputs(
            self.context.blobs,
            ended.last.body,
            workdir=self.folder / "out",
            may_write=self.task.writes,
        )

    def _after_crash(self, detail: str, reporter: Reporter) -> Retry | Failure:
        reporter.log(f"The tool's process crashed: {detail}.")
        failure = Failure(
            "tool-crashed",
            f"The tool's process crashed ({detail}) in the last of {self.task.failed_attempts + 1} failed "
            "attempts. The input may be damaged or too large; other tasks are not affected.",
            retryable=True,
            counts_as_failed=True,
        )
        return self._retry_or_fail(FailureKind.CRASH, "tool crashed", failure, reporter)

    def _after_error(self, error: Mapping[str, Any], reporter: Reporter) -> Retry | Failure:
        code, message, again = str(error["code"]), str(error["message"]), bool(error["again"])
        failure = Failure(code, message, retryable=bool(error["retryable"]), counts_as_failed=again)
        if not again:
            return failure
        reporter.log(f"The attempt failed: {message}")
        return self._retry_or_fail(FailureKind.RETRYABLE_ERROR, code, failure, reporter)

    def _retry_or_fail(
        self, kind: FailureKind, reason: str, failure: Failure, reporter: Reporter
    ) -> Retry | Failure:
        delay_s = retry_delay_s(
            kind,
            failed_attempts=self.task.failed_attempts + 1,
            max_attempts=self.context.settings.queue.max_attempts,
        )
        if delay_s is None:
            return failure
        reporter.log(f"Retrying in {delay_s:.0f} s.")
        return Retry(reason, delay_s=delay_s, counts_as_failed=True)


def _name_of(outcome: Outcome) -> str:
    if isinstance(outcome, Failure):
        return outcome.code
    return "retry" if isinstance(outcome, Retry) else "succeeded"
