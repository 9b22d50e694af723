"""One attempt at a task, from its lease to its end: inputs, child, outputs, one transaction."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import structlog
from pydantic import ValidationError

from aerotask.aio import background, cancel_and_wait
from aerotask.db.outages import is_outage, outlast
from aerotask.derivatives.sources import source_key
from aerotask.domain.errors import AerotaskError, TaskFailed
from aerotask.domain.retry import OUTAGE_S, FailureKind, after_failure
from aerotask.domain.settings import StorageQuota
from aerotask.failpoints import failpoint
from aerotask.sdk import Limits, Snapshot, Tool, ToolParams
from aerotask.services.datasets.storage_quota import UNLIMITED, Headroom, room_for, within_limits
from aerotask.services.tasks.snapshots import take_snapshot
from aerotask.services.tasks.webhooks import owe
from aerotask.services.tasks.work_dirs import work_folder
from aerotask.store.datasets import derivatives
from aerotask.store.queue import leases, retention
from aerotask.store.queue.claims import ClaimedTask, with_inputs
from aerotask.store.queue.leases import Failure, LeaseLost, Retry
from aerotask.worker.commit import apply_success
from aerotask.worker.context import WorkerContext
from aerotask.worker.jobs import ToolJob
from aerotask.worker.outputs import StoredChanges, store_outputs
from aerotask.worker.reporter import Reporter
from aerotask.worker.supervise import ChildEnd, Ended, supervise

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_log = structlog.get_logger(__name__)


class LostLease(Exception):
    """The task is somebody else's now."""


Verdict: TypeAlias = StoredChanges | Failure | Retry


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed task being worked on."""

    means: WorkerContext
    task: ClaimedTask
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def folder(self) -> Path:
        """The attempt's own folder: `in` holds the inputs, `out` is where the tool writes."""
        lease = self.task.lease
        return work_folder(self.means.blobs.work_root, lease.task_id, lease.attempt)

    def lose(self) -> None:
        """The lease is no longer ours: kill the child, change nothing."""
        self._lost.set()
        self._stop.set()

    def hand_over(self) -> None:
        """The worker stops: kill the child, and let another worker begin anew."""
        self._stop.set()

    def touch(self) -> None:
        """Show the sweep that the work folder is in use."""
        with suppress(OSError):
            os.utime(self.folder)

    async def run(self) -> None:
        """Work on the task until it has ended, one way or another."""
        log = _log.bind(task_id=str(self.task.lease.task_id), attempt=self.task.lease.attempt)
        log.info("task.started", tool=self.task.tool_id)
        settings = self.means.settings
        reporter = Reporter(
            self.means.db,
            self.task.lease,
            next_line=self.task.log_next,
            log_limits=settings.logs,
            interval_s=settings.queue.heartbeat_s,
        )
        try:
            # A write that is under way may or may not arrive; the last report repeats its lines safely.
            async with background(reporter.run(self._lost), on_end=self._stop.set):
                verdict = await self._verdict(reporter)
            await self._conclude(verdict, reporter)
        except (LostLease, LeaseLost):
            log.info("task.abandoned")
        finally:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _verdict(self, reporter: Reporter) -> Verdict:
        reporter.say(f"Attempt {self.task.lease.attempt} of {self.task.tool_id}.")
        try:
            tool, params = self._tool()
            await self._check_access(tool, params)
            job = await self._prepare(tool, params)
            ended = await supervise(
                self.means.spawner,
                job,
                on_event=reporter.hear,
                stop=self._stop,
                cancel_grace_s=self.means.settings.worker.cancel_grace_s,
                timeout_s=self.means.settings.worker.task_timeout_s,
            )
            return await self._judge(ended, reporter)
        except FileNotFoundError:
            return Failure("input-missing", "The content of an input is missing from the storage.")
        except (AerotaskError, OSError) as error:
            if is_outage(error):
                raise
            return _failure_of(error)

    async def _check_access(self, tool: Tool[Any], params: ToolParams) -> None:
        """Ask again what was asked at submit.

        Raises:
            TaskFailed: the owner has lost the right since (`access-revoked`).
        """
        needed = tool.required_access(params)
        rights = await outlast(
            lambda: self.means.access.rights_of_user(self.task.user_id, self.task.dataset_id),
            give_up_after_s=OUTAGE_S,
        )
        if needed not in rights:
            raise TaskFailed(
                "Whoever submitted the task has no right to it on this dataset any more.",
                code="access-revoked",
            )

    def _tool(self) -> tuple[Tool[Any], ToolParams]:
        tool = self.means.registry.get(self.task.tool_id, self.task.tool_version)
        try:
            return tool, tool.params.model_validate_json(orjson.dumps(self.task.params))
        except ValidationError as error:
            raise TaskFailed(
                "The task's params don't fit the tool as it is installed now; submit it again.",
                code="invalid-params",
            ) from error

    async def _snapshot(self, tool: Tool[Any], params: ToolParams) -> Snapshot:
        named = tool.snapshot_of(params)
        if not named:
            return Snapshot("")
        inputs = {item.path: item for item in self.task.inputs}
        file = self.folder / "snapshot"
        return await outlast(
            lambda: take_snapshot(self.means.db, self.task.dataset_id, named=named, inputs=inputs, file=file),
            give_up_after_s=OUTAGE_S,
        )

    async def _prepare(self, tool: Tool[Any], params: ToolParams) -> ToolJob:
        out = self.folder / "out"
        await asyncio.to_thread(out.mkdir, mode=0o700, parents=True, exist_ok=True)
        self.task = await outlast(self._with_inputs, give_up_after_s=OUTAGE_S)
        lent = {item.path: self.folder / "in" / item.path for item in self.task.inputs}
        await self.means.blobs.link_all_to([(item.blob_key, lent[item.path]) for item in self.task.inputs])
        snapshot = await self._snapshot(tool, params)
        return ToolJob(
            tool_id=self.task.tool_id,
            tool_version=self.task.tool_version,
            params=self.task.params,
            inputs={path: str(file) for path, file in lent.items()},
            workdir=str(out),
            reads=str(self.folder),
            threads=self.means.threads,
            memory_bytes=self.task.memory_bytes,
            max_file_bytes=2 * self.means.settings.quotas.output_bytes,
            limits=asdict(await self._limits()),
            slug=snapshot.slug,
            snapshot=None if snapshot.file is None else str(snapshot.file),
            derived=await self._derived(tool),
        )

    async def _with_inputs(self) -> ClaimedTask:
        async with self.means.db.read() as connection:
            return await with_inputs(connection, self.task)

    async def _limits(self) -> Limits:
        """What the run is allowed, with what it may add to the storage: it had better know before it has worked."""
        tools, storage = self.means.tool_limits, self.means.settings.storage
        if not self.task.writes or storage.unlimited:
            return tools
        room = await outlast(lambda: self._room(storage), give_up_after_s=OUTAGE_S)
        return replace(tools, storage_left_bytes=room.left_bytes)

    async def _room(self, storage: StorageQuota) -> Headroom:
        async with self.means.db.read() as connection:
            return await room_for(connection, storage, self.task.dataset_id)

    async def _derived(self, tool: Tool[Any]) -> tuple[tuple[str, str, str], ...]:
        """Which derivatives the inputs have by now: another task may have made them since the submit."""
        if not tool.uses_derivatives:
            return ()
        hashes = {item.path: item.sha256 for item in self.task.inputs}
        made = await outlast(lambda: self._made_derivatives(hashes.values()), give_up_after_s=OUTAGE_S)
        keys = {path: source_key(path, hashes) for path in hashes}
        return tuple(
            (path, kind, builder) for path, key in keys.items() for kind, builder in made.get(key, ())
        )

    async def _made_derivatives(self, hashes: Collection[str]) -> Mapping[str, Sequence[tuple[str, str]]]:
        async with self.means.db.read() as connection:
            return await derivatives.made_in(connection, self.task.dataset_id, hashes)

    async def _judge(self, ended: Ended, reporter: Reporter) -> Verdict:
        if self._lost.is_set():
            raise LostLease
        if ended.how is ChildEnd.STOPPED:
            return Retry("worker stopping")
        if ended.how is ChildEnd.TIMED_OUT:
            limit = self.means.settings.worker.task_timeout_s
            return Failure("timed-out", f"The tool ran longer than the limit of {limit:.0f} s.")
        if ended.how is ChildEnd.CRASHED or ended.last is None:
            return self._after_crash(ended.detail, reporter)
        if ended.how is ChildEnd.FAILED:
            if ended.last.kind == "cancelled":  # nobody cancelled it: somebody else sent the signal
                return self._after_crash("it was interrupted", reporter)
            return self._after_error(ended.last.body, reporter)
        failpoint("output-written")
        reporter.phase("storing")
        return await store_outputs(
            self.means.blobs,
            ended.last.body,
            workdir=self.folder / "out",
            may_write=self.task.writes,
        )

    def _after_crash(self, detail: str, reporter: Reporter) -> Verdict:
        reporter.say(f"The tool's process crashed: {detail}.")
        failure = Failure(
            "tool-crashed",
            f"The tool's process crashed ({detail}), the last of {self.task.strikes + 1} attempts that "
            "ended badly. The input may be damaged or too large; other tasks are not affected.",
            retryable=True,
            counts_as_failed=True,
        )
        return self._after_strike(FailureKind.CRASH, "tool crashed", failure, reporter)

    def _after_error(self, told: Mapping[str, Any], reporter: Reporter) -> Verdict:
        code, message, again = str(told["code"]), str(told["message"]), bool(told["again"])
        failure = Failure(code, message, retryable=bool(told["retryable"]), counts_as_failed=again)
        if not again:
            return failure
        reporter.say(f"The attempt failed: {message}")
        return self._after_strike(FailureKind.RETRYABLE_ERROR, code, failure, reporter)

    def _after_strike(
        self, strike: FailureKind, reason: str, failure: Failure, reporter: Reporter
    ) -> Retry | Failure:
        limit = self.means.settings.queue.max_attempts
        retry = after_failure(strike, failed_attempts=self.task.strikes + 1, max_attempts=limit)
        if retry is None:
            return failure
        reporter.say(f"Trying again in {retry.delay_s:.0f} s.")
        return Retry(reason, delay_s=retry.delay_s, counts_as_failed=True)

    async def _conclude(self, verdict: Verdict, reporter: Reporter) -> None:
        try:
            await self._unless_lost(outlast(lambda: self._write(verdict, reporter), give_up_after_s=OUTAGE_S))
        except (AerotaskError, OSError) as error:
            if is_outage(error):
                raise
            # The changes don't fit the dataset as it is now, or can't be read.
            await self._forget(verdict)
            failure = _failure_of(error)
            await outlast(lambda: self._write(failure, reporter), give_up_after_s=OUTAGE_S)
            verdict = failure
        except LeaseLost:
            await self._forget(verdict)
            raise
        ended = verdict.code if isinstance(verdict, Failure) else type(verdict).__name__
        _log.info("task.ended", task_id=str(self.task.lease.task_id), outcome=ended)

    async def _unless_lost(self, writing: Coroutine[Any, Any, None]) -> None:
        """Finish the writing, or break it off once the lease is lost: then it could only be taken back.

        A lease whose loss can be seen is either lost to somebody else, and the writing can't commit any more, or
        ended by the writing's own commit, which then can be seen as well.

        Raises:
            LeaseLost: it was broken off.
        """
        written = asyncio.ensure_future(writing)
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({written, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not written.done():
                raise LeaseLost
            written.result()
        finally:
            await cancel_and_wait(written, lost)

    async def _write(self, verdict: Verdict, reporter: Reporter) -> None:
        means, lease, news = self.means, self.task.lease, reporter.unsent()
        log_limits, actor = means.settings.logs, f"worker {means.worker_no}"
        async with means.db.begin() as connection:
            if isinstance(verdict, StoredChanges):
                # Only what changes the dataset can make it hold more.
                storage = means.settings.storage if verdict.edits else UNLIMITED
                async with within_limits(connection, storage, self.task.dataset_id):
                    await apply_success(
                        connection,
                        self.task,
                        news,
                        verdict,
                        log_limits=log_limits,
                        actor=actor,
                        artifact_ttl=timedelta(hours=means.settings.retention.artifact_ttl_hours),
                    )
            else:
                await leases.finish(connection, lease, verdict, news, log_limits=log_limits, actor=actor)
            if self.task.callback_url is not None and not isinstance(verdict, Retry):
                await owe(connection, [lease.task_id])

    async def _forget(self, verdict: Verdict) -> None:
        """Remove stored outputs, unless a commit whose answer was lost has named them after all."""
        if not isinstance(verdict, StoredChanges) or not verdict.blob_keys:
            return
        async with self.means.db.read() as connection:
            named = await retention.named_among(connection, verdict.blob_keys)
        for key in set(verdict.blob_keys) - named:
            await self.means.blobs.remove(key)


def _failure_of(error: AerotaskError | OSError) -> Failure:
    return Failure(error.code, error.message) if isinstance(error, AerotaskError) else _storage_failure(error)


def _storage_failure(error: OSError) -> Failure:
    """What a person may retry after a repair; by itself it would only fail in the same way again."""
    if error.errno in _DISK_FULL:
        return Failure("disk-full", "The storage is full; free space, then retry.", retryable=True)
    return Failure(
        "storage-error", f"The storage failed ({error.strerror or 'unknown fault'}).", retryable=True
    )
