"""The pool of children, with jobs that crash, hang, and eat memory."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.support.served import until

from aerotask.domain.errors import InvalidInput, Unavailable, cause_of
from aerotask.sandbox.pool import JOBS_PER_CHILD, ChildCrashed, JobTimeout, Pool, PoolLimits
from aerotask.sandbox.protocol import Message

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.sandbox.render_program"


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("AEROTASK_SECRET_KEY", "secret")
    made = Pool(PROGRAM, PoolLimits(children=2, max_waiting=2, job_timeout_s=60))
    yield made
    await made.close()


async def pid_of(pool: Pool) -> int:
    return int((await pool.run(Message("echo", {}))).body["pid"])


def child_count(pool: Pool) -> int:
    process = pool._spawner._process
    return 0 if process is None else len(psutil.Process(process.pid).children())


async def test_a_job_returns_json_and_bytes(pool: Pool) -> None:
    reply = await pool.run(Message("echo", {"n": 1}))
    assert (reply.body["n"], reply.content) == (1, b"\0\n\0\n\0\n")


async def test_children_have_no_secrets_and_are_reused(pool: Pool) -> None:
    first = await pool.run(Message("echo", {}))
    second = await pool.run(Message("echo", {}))
    assert first.body == second.body
    assert first.body["secret"] is None


async def test_a_child_is_replaced_after_many_jobs(pool: Pool) -> None:
    first = await pid_of(pool)
    pool._idle[0].jobs = JOBS_PER_CHILD - 1
    assert await pid_of(pool) == first
    assert await pid_of(pool) != first
    assert child_count(pool) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched in /proc")
async def test_a_child_whose_processes_use_too_much_memory_together_is_killed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two processes at their limit are allowed together: 2 × (32 + 256) MiB.
    monkeypatch.setattr(pool, "limits", replace(pool.limits, memory_bytes=32 * 1024**2))
    with pytest.raises(ChildCrashed, match="its processes used too much memory together"):
        await pool.run(Message("fill", {"processes": 10, "bytes": 64 * 1024**2}))
    assert child_count(pool) == 0


async def test_a_refusal_keeps_the_child(pool: Pool) -> None:
    first = await pid_of(pool)
    with pytest.raises(InvalidInput, match="It is damaged") as refused:
        await pool.run(Message("refuse", {}))
    assert refused.value.code == "damaged-raster"
    assert cause_of(refused.value) == "OSError: TIFFReadDirectory of /cache/3-abc"
    assert await pid_of(pool) == first


async def test_an_unexpected_error_replaces_the_child(pool: Pool) -> None:
    first = await pid_of(pool)
    with pytest.raises(InvalidInput) as refused:
        await pool.run(Message("unexpected", {}))
    assert refused.value.code == "drawing-failed"
    assert "KeyError" not in refused.value.message
    assert await pid_of(pool) != first


async def test_a_crash_is_reported_and_the_next_job_is_done(pool: Pool) -> None:
    with pytest.raises(ChildCrashed, match="SIGSEGV"):
        await pool.run(Message("segfault", {}))
    await pid_of(pool)


async def test_memory_is_bounded(pool: Pool) -> None:
    with pytest.raises(InvalidInput) as refused:
        await pool.run(Message("eat", {}))
    assert refused.value.code == "out-of-memory"
    await pid_of(pool)


async def test_a_job_that_hangs_in_c_is_killed_in_time(pool: Pool) -> None:
    await pid_of(pool)  # so that starting the fork server isn't part of what is timed
    pool.limits = PoolLimits(children=2, max_waiting=2, job_timeout_s=0.5)
    with pytest.raises(JobTimeout):
        await pool.run(Message("hang", {}))
    assert child_count(pool) == 0
    pool.limits = PoolLimits(children=2, max_waiting=2, job_timeout_s=60)
    await pid_of(pool)


async def test_jobs_beyond_the_queue_limit_are_refused(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    held = [asyncio.create_task(pool.run(Message("hold", {"until": str(gate), "n": n}))) for n in range(4)]
    await until(lambda: len(list(tmp_path.glob("gate.begun.*"))) == 2 and pool._semaphore.waiting == 2)
    with pytest.raises(Unavailable) as refused:
        await pool.run(Message("echo", {}))
    assert (refused.value.code, refused.value.retry_after_s) == ("drawing-busy", 2)
    assert child_count(pool) == 2
    gate.unlink()
    assert len({reply.body["pid"] for reply in await asyncio.gather(*held)}) == 2
    await pid_of(pool)


async def test_a_cancelled_job_costs_its_child_but_no_permit(pool: Pool) -> None:
    await pid_of(pool)
    for _ in range(3):
        leaving = asyncio.create_task(pool.run(Message("hang", {})))
        await until(lambda: not pool._idle and child_count(pool) == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert child_count(pool) == 0
        await pid_of(pool)


async def test_a_killed_fork_server_is_replaced(pool: Pool) -> None:
    await pid_of(pool)
    process = pool._spawner._process
    assert process is not None
    process.kill()
    await until(pool._idle[0].child.exited.done)
    await pid_of(pool)


async def test_closing_leaves_no_process(pool: Pool) -> None:
    pid = await pid_of(pool)
    process = pool._spawner._process
    assert process is not None
    await pool.close()
    await until(lambda: not psutil.pid_exists(pid) and not psutil.pid_exists(process.pid))


async def test_one_caller_cannot_lock_all_others_out(pool: Pool, tmp_path: Path) -> None:
    await pool.close()
    pool = Pool(PROGRAM, PoolLimits(children=1, max_waiting=8, job_timeout_s=60, max_waiting_per_caller=2))
    gate = tmp_path / "gate"
    gate.touch()
    order: list[str] = []

    async def request(caller: str, kind: str, **body: object) -> None:
        await pool.run(Message(kind, body), caller=caller)
        order.append(caller)

    try:
        held = [asyncio.create_task(request("greedy", "hold", until=str(gate), n=0))]
        await until((tmp_path / "gate.begun.0").exists)
        held += [asyncio.create_task(request("greedy", "echo")) for _ in range(2)]
        await until(lambda: pool._semaphore.waiting == 2)
        with pytest.raises(Unavailable):
            await pool.run(Message("echo", {}), caller="greedy")
        held.append(asyncio.create_task(request("another", "echo")))
        await until(lambda: pool._semaphore.waiting == 3)
        gate.unlink()
        await asyncio.gather(*held)
    finally:
        await pool.close()
    assert order == ["greedy", "greedy", "another", "greedy"]


async def test_renewing_the_pool_replaces_idle_children(pool: Pool) -> None:
    first = await pid_of(pool)
    pool.renew()
    assert await pid_of(pool) != first
    assert child_count(pool) == 1
