"""Fixtures with real servers, databases and stacks, started here and removed at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from _pytest.nodeid import NodeId
from tests.support.databases import fresh_database, make_template
from tests.support.storage import new_storage
from tests.support.world import PASSWORD, World

from aerotask.config import Settings
from aerotask.db.engine import Database, open_database
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import LocalServers, running_servers
from aerotask.stack.stack import Stack, running_stack
from aerotask.wiring import Platform, open_platform

ROOT = Path(__file__).resolve().parents[1]
SECRET = "a key for the tests, long enough to be one"

# Short enough for quick tests, long enough that a busy machine doesn't lose leases.
QUICK = {
    "AEROTASK_SECRET_KEY": SECRET,
    "AEROTASK_ADMIN_PASSWORD": PASSWORD,
    "AEROTASK_WORKER_POLL_S": "0.2",
    "AEROTASK_HEARTBEAT_S": "0.2",
    "AEROTASK_SHUTDOWN_GRACE_S": "1",
    # Otherwise the maintenance of idle stacks would slow down the tests that run.
    "AEROTASK_SWEEP_S": "2",
    # Most tests run many tasks at once as one administrator; tests of quotas set their own limits.
    "AEROTASK_MAX_ACTIVE_TASKS": "1000",
    "AEROTASK_MAX_ACTIVE_TASKS_PER_ORG": "1000",
    "AEROTASK_MAX_ACTIVE_TASKS_PER_USER": "1000",
    "AEROTASK_MAX_RUNNING_TASKS_PER_USER": "1000",
}

StackFactory = Callable[..., AbstractContextManager[World]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests of an `xdist_group` on one worker, which xdist 3.8 fails to do under pytest 9.2.

    The scheduler reads the group from a suffix of the test's id: https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """
    if not config.getoption("loadgroup", default=False):
        return
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        suffix = f"@{mark.args[0]}" if mark else ""
        if mark and not item.nodeid.endswith(suffix):
            item._id = NodeId.parse(f"{item.nodeid}{suffix}")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Postgres and Valkey of this test process, with a migrated template database."""
    with OwnedFolder(tmp_path_factory.mktemp("servers")) as folder:
        try:
            with running_servers(folder, durable=False) as running:
                asyncio.run(make_template(running.postgres.url))
                yield running
        finally:
            folder.discard()


@pytest.fixture
async def database_url(servers: LocalServers) -> AsyncIterator[str]:
    """URL of a migrated, empty database."""
    async with fresh_database(servers.postgres.url) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Migrated, empty database."""
    opened = open_database(database_url, application="tests", pool_size=20)
    yield opened
    await opened.close()


def own_redis(servers: LocalServers, number: int) -> str:
    """URL of database `number` (0–15) of the Valkey, so that workers of other tests don't receive its wake-ups."""
    return servers.valkey.url.replace("db=0", f"db={number}")


@pytest.fixture
def settings(servers: LocalServers, database_url: str, tmp_path: Path) -> Settings:
    """Settings of a separate installation, with its storage."""
    new_storage(tmp_path / "storage")
    return Settings.model_validate(
        {
            "database_url": database_url,
            "redis_url": own_redis(servers, 1),
            "storage_url": (tmp_path / "storage").as_uri(),
            "secret_key": SECRET,
        }
    )


@pytest.fixture
async def platform(settings: Settings) -> AsyncIterator[Platform]:
    """Platform in this process, without API and workers."""
    async with open_platform(settings, application="tests") as opened:
        yield opened


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for PYTHONPATH in which the example tool and the test tools are installed like any plug-in."""
    target = tmp_path_factory.mktemp("plugins")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    packages = [str(ROOT / "examples" / "hillshade"), str(ROOT / "tests" / "plugins" / "troublesome")]
    subprocess.run([*command, *offline, *packages], check=True)
    return target


@pytest.fixture(scope="session")
def make_stack(
    servers: LocalServers, plugins: Path, tmp_path_factory: pytest.TempPathFactory
) -> StackFactory:
    """Factory of stacks of real processes, each with its own databases and storage."""
    free_redis = list(range(2, 16))

    @contextmanager
    def make(*, workers: int = 1, **settings: str) -> Iterator[World]:
        data = tmp_path_factory.mktemp("stack")
        with ExitStack() as stack:
            stack.callback(free_redis.append, redis := free_redis.pop(0))
            log = stack.enter_context((data / "stack.log").open("ab"))
            runner = stack.enter_context(asyncio.Runner())
            scope = fresh_database(servers.postgres.url)
            environment = {
                **QUICK,
                "AEROTASK_DATABASE_URL": runner.run(scope.__aenter__()),
                "AEROTASK_REDIS_URL": own_redis(servers, redis),
                "AEROTASK_STORAGE_URL": (data / "storage").as_uri(),
                "PYTHONPATH": os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")]),
                **{f"AEROTASK_{name.upper()}": value for name, value in settings.items()},
            }
            stack.callback(lambda: runner.run(scope.__aexit__(None, None, None)))
            folder = stack.enter_context(OwnedFolder(data))
            running = stack.enter_context(
                running_stack(folder, workers=workers, settings=environment, log=log)
            )
            yield stack.enter_context(World(running))

    return make


@pytest.fixture(scope="session")
def world(make_stack: StackFactory) -> Iterator[World]:
    """Stack shared by most tests, with two workers and high quotas; each test creates its own dataset."""
    with make_stack(workers=2) as made:
        yield made


@pytest.fixture(scope="session")
def stack(world: World) -> Stack:
    """Processes of the shared stack."""
    return world.stack
