"""Database and storage that don't belong together: nothing is removed, and no process starts before an operator decides."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import StackFactory
from tests.guarantees.invariants import stored_files
from tests.support.databases import fresh_database
from tests.support.rows import add_dataset, add_user
from tests.support.served import served
from tests.support.storage import seen_unnamed
from tests.support.world import World, eventually

from aerotask.config import Settings
from aerotask.domain.ids import new_id
from aerotask.services.storage.installation import StorageMismatch
from aerotask.stack.servers import LocalServers
from aerotask.store.datasets import entry_writes
from aerotask.store.datasets.entries import EntryContent
from aerotask.wiring import Platform

DAYS_S = 3 * 24 * 3600


def aerotask(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A finished run of the command line."""
    command = [sys.executable, "-m", "aerotask", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def age(world: World) -> None:
    then = time.time() - DAYS_S
    for file in stored_files(world).values():
        os.utime(file, (then, then))


@pytest.mark.timeout(400)  # ten processes start one after the other
def test_a_new_database_is_kept_from_a_filled_storage(
    make_stack: StackFactory, servers: LocalServers
) -> None:
    with make_stack(workers=1) as world:
        dataset = world.dataset()
        for name in ("a.txt", "b.txt", "c.txt"):
            dataset.upload(name, name.encode())
        age(world)
        files = set(stored_files(world))

        with asyncio.Runner() as runner:
            scope = fresh_database(servers.postgres.url, template="template0")
            new = {**world.stack.environment, "AEROTASK_DATABASE_URL": runner.run(scope.__aenter__())}
            refused = aerotask(new, "migrate")
            assert (refused.returncode, tables(new)) == (1, [])
            assert "AEROTASK_DATABASE_URL" in refused.stderr
            assert "aerotask migrate --adopt-storage" in refused.stderr
            assert set(stored_files(world)) == files

            assert aerotask(new, "migrate", "--adopt-storage").returncode == 0
            # The storage is the new database's now: the processes of the former one may not go on with it.
            eventually(lambda: world.admin.get("/readyz").json()["storage"] == "mismatch")
            for command in ("api", "worker"):
                refused = aerotask(dict(world.stack.environment), command)
                assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
                assert "aerotask migrate --adopt-storage" in refused.stderr
            assert aerotask(new, "storage", "sweep").returncode == 0
            assert set(stored_files(world)) == files  # they are old, but were seen unnamed only now

            assert aerotask(dict(world.stack.environment), "migrate").returncode == 1
            assert aerotask(dict(world.stack.environment), "migrate", "--adopt-storage").returncode == 0
            runner.run(scope.__aexit__(None, None, None))
        eventually(lambda: world.admin.get("/readyz").json()["ready"])


def tables(environment: dict[str, str]) -> list[str]:
    async def found() -> list[str]:
        connection = await asyncpg.connect(environment["AEROTASK_DATABASE_URL"])
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        return [row["tablename"] for row in rows]

    return asyncio.run(found())


def unnamed_files(settings: Settings, count: int) -> list[str]:
    """Old files in the storage that no row names; their keys."""
    folder = settings.storage_folder / "blobs" / "00"
    folder.mkdir()
    keys = [f"{str(new_id())[:-2]}00" for _ in range(count)]
    for key in keys:
        (folder / key).write_bytes(b"x")
        os.utime(folder / key, (0, 0))
    return keys


def stored(settings: Settings) -> int:
    return len([*(settings.storage_folder / "blobs").glob("*/*")])


async def test_the_grace_time_begins_when_this_database_sees_a_file_unnamed(
    platform: Platform, settings: Settings
) -> None:
    keys = unnamed_files(settings, 3)
    assert (await platform.maintenance.remove_orphans(), stored(settings)) == (0, 3)
    await seen_unnamed(platform.db, keys[:2], ago_s=settings.blob_grace_s + 1)
    assert (await platform.maintenance.remove_orphans(), stored(settings)) == (2, 1)


async def test_a_file_that_is_named_again_has_its_whole_grace_time_again(
    platform: Platform, settings: Settings
) -> None:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    (key,) = unnamed_files(settings, 1)
    await seen_unnamed(platform.db, [key], ago_s=settings.blob_grace_s + 1)
    async with platform.db.begin() as connection:
        await entry_writes.put_file(connection, rows.dataset_id, "a", EntryContent(key, "00", 1, "generic"))
    assert await platform.maintenance.remove_orphans() == 0
    async with platform.db.begin() as connection:
        await entry_writes.remove_within(connection, rows.dataset_id, "a")
    assert (await platform.maintenance.remove_orphans(), stored(settings)) == (0, 1)


async def test_a_removal_of_more_than_a_tenth_waits_for_a_confirmation(settings: Settings) -> None:
    async with served(settings) as api:
        keys = unnamed_files(settings, 101)
        await seen_unnamed(api.platform.db, keys, ago_s=settings.blob_grace_s + 1)
        assert await api.platform.maintenance.remove_orphans() == 0
        assert stored(settings) == 101
        ready = (await api.client.get("/readyz")).json()
        assert (ready["storage"], ready["sweep"]) == ("ok", "needs-confirmation")
        assert held_blobs((await api.client.get("/metrics")).text) == 101

        environment = {**os.environ, **variables(settings)}
        stopped = await asyncio.to_thread(aerotask, environment, "storage", "sweep")
        assert (stopped.returncode, stored(settings)) == (1, 101)
        assert "101 files" in stopped.stderr
        assert "aerotask storage sweep --confirm" in stopped.stderr
        confirmed = await asyncio.to_thread(aerotask, environment, "storage", "sweep", "--confirm")
        assert (confirmed.returncode, stored(settings)) == (0, 0)
        assert (await api.client.get("/readyz")).json()["sweep"] == "ok"
        assert held_blobs((await api.client.get("/metrics")).text) == 0


async def test_the_sweep_stops_beside_a_foreign_storage(platform: Platform, settings: Settings) -> None:
    keys = unnamed_files(settings, 3)
    await seen_unnamed(platform.db, keys, ago_s=settings.blob_grace_s + 1)
    (settings.storage_folder / "installation").write_text(str(new_id()))
    with pytest.raises(StorageMismatch, match="aerotask migrate --adopt-storage"):
        await platform.maintenance.remove_orphans()
    assert stored(settings) == 3


def held_blobs(metrics: str) -> float:
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    return families["aerotask_sweep_held_blobs"].samples[0].value


def variables(settings: Settings) -> dict[str, str]:
    return {
        "AEROTASK_DATABASE_URL": settings.database_url.get_secret_value(),
        "AEROTASK_REDIS_URL": settings.redis_url.get_secret_value(),
        "AEROTASK_STORAGE_URL": settings.storage_url,
        "AEROTASK_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
