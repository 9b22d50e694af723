"""The fork server and its children, without a database."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs
from tests.metadata.vectors import ENDLESS_IN_GDAL, add_view, write_points
from tests.support.world import eventually

from aerotask.domain.access import Access
from aerotask.domain.errors import TaskFailed
from aerotask.sandbox.confinement import supported_confinement
from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Spawner, clean_environment
from aerotask.worker import tool_child
from aerotask.worker.jobs import IndexJob, ToolInputs, ToolJob, ToolNeeds
from aerotask.worker.supervise import ChildEnd, Ended, supervise


@pytest.fixture
async def spawner(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Spawner]:
    monkeypatch.setenv("PYTHONPATH", str(plugins))
    monkeypatch.setenv("AEROTASK_SECRET_KEY", "secret")
    started = Spawner(tool_child.PROGRAM)
    yield started
    await started.close()


def job(tool: str, workdir: Path, **params: Any) -> ToolJob:
    versions = {"nothing": "1.10"}
    return ToolJob(
        tool_id=tool,
        tool_version=versions.get(tool, "1"),
        params=params,
        workdir=str(workdir),
        threads=1,
        memory_bytes=256 * 1024 * 1024,
        max_file_bytes=10**9,
    )


async def run(
    spawner: Spawner,
    the_job: ToolJob | IndexJob,
    *,
    inputs: ToolInputs | None = None,
    stop: asyncio.Event | None = None,
    timeout_s: float = 60,
) -> tuple[Ended, list[Message]]:
    events: list[Message] = []

    async def inputs_for(_needs: ToolNeeds) -> ToolInputs:
        return inputs or ToolInputs()

    ended = await supervise(
        spawner,
        the_job,
        on_event=events.append,
        stop=stop or asyncio.Event(),
        cancel_grace_s=0.2,
        timeout_s=timeout_s,
        inputs_for=inputs_for,
    )
    return ended, events


def fork_server_of(spawner: Spawner) -> psutil.Process:
    assert spawner._process is not None
    return psutil.Process(spawner._process.pid)


async def test_a_child_does_its_job_and_reports_the_outcome(spawner: Spawner, tmp_path: Path) -> None:
    ended, events = await run(spawner, job("patient", tmp_path, lines=2, publish="x"))
    assert ended.how is ChildEnd.DONE
    assert [event.body["line"] for event in events if event.kind == "log"] == ["line 0", "line 1"]
    assert ended.last is not None
    assert [made["name"] for made in ended.last.body["artifacts"]] == ["made.txt"]


async def test_a_child_validates_the_params_and_says_what_the_run_needs(
    spawner: Spawner, tmp_path: Path
) -> None:
    asked: list[ToolNeeds] = []

    async def inputs_for(needs: ToolNeeds) -> ToolInputs:
        asked.append(needs)
        return ToolInputs()

    async def outcome(tool: str, **params: Any) -> Ended:
        return await supervise(
            spawner,
            replace(job(tool, tmp_path, **params), tool_version="1"),
            on_event=lambda _event: None,
            stop=asyncio.Event(),
            cancel_grace_s=0.2,
            timeout_s=60,
            inputs_for=inputs_for,
        )

    refused = await outcome("bulk-download", paths="no list")
    assert (refused.how, refused.last and refused.last.body["code"]) == (ChildEnd.FAILED, "invalid-params")
    assert asked == []
    await outcome("archive-extract", sourcePath="a.zip", destPath="b", deleteArchive=True)
    assert asked == [ToolNeeds(Access.DELETE, ("b",))]


async def test_an_error_while_the_inputs_are_prepared_ends_the_child(
    spawner: Spawner, tmp_path: Path
) -> None:
    async def inputs_for(_needs: ToolNeeds) -> ToolInputs:
        raise TaskFailed("No longer permitted.", code="access-revoked")

    with pytest.raises(TaskFailed, match="No longer permitted"):
        await supervise(
            spawner,
            job("patient", tmp_path),
            on_event=lambda _event: None,
            stop=asyncio.Event(),
            cancel_grace_s=0.2,
            timeout_s=60,
            inputs_for=inputs_for,
        )
    assert fork_server_of(spawner).children() == []


async def test_many_children_run_at_once(spawner: Spawner, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    for folder in folders:
        folder.mkdir()
    results = await asyncio.gather(*(run(spawner, job("nothing", f, label=f.name)) for f in folders))
    assert [ended.last.body["result"]["label"] for ended, _ in results if ended.last] == [
        str(number) for number in range(20)
    ]


async def test_a_child_that_was_just_forked_is_killed(spawner: Spawner) -> None:
    """It leads no session yet that a signal would reach."""
    for _ in range(30):
        child = await spawner.spawn()
        spawner.signal(child, signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await child.exited == -signal.SIGKILL
        child.writer.close()


async def test_a_crash_is_reported_with_its_signal(spawner: Spawner, tmp_path: Path) -> None:
    ended, _ = await run(spawner, job("segfault", tmp_path))
    assert (ended.how, ended.detail) == (ChildEnd.CRASHED, "it was ended by SIGSEGV")


async def test_a_stopped_child_is_gone_even_if_it_ignores_signals(spawner: Spawner, tmp_path: Path) -> None:
    stop = asyncio.Event()
    events: list[Message] = []

    def on_event(event: Message) -> None:
        events.append(event)
        stop.set()

    ended = await supervise(
        spawner, job("deaf", tmp_path), on_event=on_event, stop=stop, cancel_grace_s=0.1, timeout_s=60
    )
    assert ended.how is ChildEnd.STOPPED
    assert fork_server_of(spawner).children() == []


async def test_a_child_that_takes_too_long_is_killed(spawner: Spawner, tmp_path: Path) -> None:
    ended, _ = await run(spawner, job("deaf", tmp_path), timeout_s=0.5)
    assert ended.how is ChildEnd.TIMED_OUT


async def test_children_die_with_their_fork_server_and_another_is_started(
    spawner: Spawner, tmp_path: Path
) -> None:
    pids: list[int] = []

    def kill_server(event: Message) -> None:
        if event.kind == "log":
            pids.extend(child.pid for child in fork_server_of(spawner).children())
            fork_server_of(spawner).kill()

    ended = await supervise(
        spawner,
        job("deaf", tmp_path),
        on_event=kill_server,
        stop=asyncio.Event(),
        cancel_grace_s=0.1,
        timeout_s=60,
    )
    assert ended.how is ChildEnd.CRASHED
    assert pids
    eventually(lambda: not any(map(psutil.pid_exists, pids)), timeout_s=5)
    assert (await run(spawner, job("nothing", tmp_path)))[0].how is ChildEnd.DONE


def test_children_die_with_a_killed_worker_even_if_they_ignore_signals(plugins: Path, tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from pathlib import Path
from aerotask.worker.jobs import ToolJob
from aerotask.sandbox.confinement import supported_confinement
from aerotask.sandbox.spawner import Spawner
from aerotask.worker.supervise import supervise

async def main():
    job = ToolJob("deaf", "1", {{}}, {str(tmp_path)!r}, 1, 10**9, 10**9)
    spawner = Spawner("aerotask.worker.tool_child")
    def print_pids(event):
        server = spawner._process.pid
        children = Path(f"/proc/{{server}}/task/{{server}}/children").read_text().split()
        print(server, *children, flush=True)
    await supervise(spawner, job, on_event=print_pids, stop=asyncio.Event(), cancel_grace_s=1, timeout_s=60)

asyncio.run(main())
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(plugins)},
    )
    assert worker.stdout is not None
    with worker.stdout:
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 2
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    eventually(lambda: not any(map(psutil.pid_exists, pids)), timeout_s=5)


async def test_an_index_job_describes_each_file(spawner: Spawner, tmp_path: Path) -> None:
    text, bad = tmp_path / "a.md", tmp_path / "b.tif"
    text.write_text("# x", encoding="utf-8")
    bad.write_text("no raster", encoding="utf-8")
    files = (("1", str(text)), ("2", str(bad)))
    ended, events = await run(
        spawner, IndexJob(files=files, folder=str(tmp_path), memory_bytes=256 * 1024 * 1024)
    )
    assert ended.how is ChildEnd.DONE
    described = [event.body for event in events if event.kind == "described"]
    assert [(body["id"], body["type"]) for body in described] == [("1", "markdown"), ("2", "generic")]
    assert described[1]["properties"]["indexError"]["code"]


async def test_the_kernel_ends_an_index_job_that_needs_too_much_processor_time(
    spawner: Spawner, tmp_path: Path
) -> None:
    endless = add_view(write_points(tmp_path / "a.gpkg"), ENDLESS_IN_GDAL)
    files = (("1", str(endless)), ("2", str(endless)))
    job = IndexJob(files, str(tmp_path), 256 * 1024 * 1024, file_cpu_s=0.5)
    ended, events = await run(spawner, job)
    assert (ended.how, ended.signal) == (ChildEnd.CRASHED, signal.SIGPROF)
    assert ended.detail == "it was ended by SIGPROF; it had used up its processor time"
    assert [(event.kind, event.body["id"]) for event in events] == [("begun", "1")]


async def test_an_index_job_begins_no_file_after_its_time(spawner: Spawner, tmp_path: Path) -> None:
    text = tmp_path / "a.md"
    text.write_text("# x", encoding="utf-8")
    job = IndexJob((("1", str(text)), ("2", str(text))), str(tmp_path), 256 * 1024 * 1024, batch_s=0)
    ended, events = await run(spawner, job)
    assert ended.how is ChildEnd.DONE
    assert [(event.kind, event.body["id"]) for event in events] == [("begun", "1"), ("described", "1")]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched in /proc")
async def test_processes_that_use_too_much_memory_together_are_killed(
    spawner: Spawner, tmp_path: Path
) -> None:
    # Each within its own limit; with one thread, two processes at theirs are allowed together: 2 × (32 + 256) MiB.
    crowd = replace(job("crowd", tmp_path, processes=12, mib=60, endless=True), memory_bytes=32 * 1024**2)
    ended, _ = await run(spawner, crowd)
    assert ended.how is ChildEnd.FAILED
    assert ended.last is not None
    assert (ended.last.body["code"], ended.last.body["again"]) == ("out-of-memory", False)
    assert fork_server_of(spawner).children(recursive=True) == []


async def test_processes_within_their_common_limit_run_to_their_end(spawner: Spawner, tmp_path: Path) -> None:
    pair = replace(job("crowd", tmp_path, processes=2, mib=60), memory_bytes=32 * 1024**2)
    ended, _ = await run(spawner, pair)
    assert ended.last is not None
    assert ended.last.body.get("result") == {"filled": [60 * 1024**2] * 2}


@pytest.mark.parametrize("tool", ["intruder", "connected"])
async def test_a_compromised_child_reaches_only_what_it_was_given(
    spawner: Spawner, tmp_path: Path, tool: str
) -> None:
    work, given, foreign = tmp_path / "out", tmp_path / "in", tmp_path / "foreign"
    for folder in (work, given, foreign):
        folder.mkdir()
        (folder / "file").write_bytes(b"content")
    the_job = job(tool, work, foreign=str(foreign / "file"), path="a.tif")
    the_job = replace(the_job, reads=str(given))
    ended, _ = await run(spawner, the_job, inputs=ToolInputs({"a.tif": str(given / "file")}))
    assert ended.last is not None
    found = ended.last.body["result"]
    supported = supported_confinement()
    assert {name for name, how in found.items() if how == "works"} >= {
        "read an input",
        "write an output",
        "write a temporary file",
    }
    if supported.files or os.getuid() != 0:
        assert found["look into the fork server"] == found["patch the fork server"] == "PermissionError"
    if supported.network:
        assert found["leave the session"] == found["local socket"] == "PermissionError"
        assert found["internet socket"] == ("works" if tool == "connected" else "PermissionError")
    if tool == "connected":
        assert found["name of a host"] == "works"
    if supported.signals:
        assert found["signal the fork server"] == "PermissionError"
    if supported.files:
        foreign_ones = [how for name, how in found.items() if "foreign" in name or "beside" in name]
        assert foreign_ones == ["PermissionError"] * 3
        assert found["change an input"] == found["remove an input"] == "PermissionError"
        assert (given / "file").read_bytes() == (foreign / "file").read_bytes() == b"content"


async def test_a_cancelled_spawn_leaves_no_socket_behind(spawner: Spawner) -> None:
    await spawner.start()
    before = psutil.Process().num_fds()
    server = fork_server_of(spawner)
    server.suspend()  # so that it forks nothing
    try:
        cancelled = asyncio.create_task(spawner.spawn())
        async with asyncio.timeout(30):
            while not spawner._forks:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.005)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert psutil.Process().num_fds() == before
    finally:
        server.resume()


async def test_what_children_print_reaches_the_log_without_escape_sequences(
    spawner: Spawner, tmp_path: Path
) -> None:
    with capture_logs() as log:
        ended, _ = await run(spawner, job("confused", tmp_path, how="print"))
        await spawner.close()
    assert ended.how is ChildEnd.DONE
    printed = [event["line"] for event in log if event["event"] == "child.printed"]
    assert " [2J 31m red" in printed
    assert not {"\x1b", "\x9b"} & set("".join(printed))
    assert max(map(len, printed)) <= 4000
    assert sum(map(len, printed)) > 4000


def test_settings_and_secrets_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROTASK_SECRET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in clean_environment().values()
    assert clean_environment()["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
