"""Stacks for benchmarks of the running product: durable servers, high quotas, the test tools, an authenticated client."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_servers
from aerotask.stack.stack import Stack, running_stack

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
PASSWORD = "only for this benchmark"
TASKS = "/orgs/bench/ds/bench/tasks"


@dataclass(frozen=True, slots=True)
class Bench:
    """One Postgres and one Valkey, durable and on disk, shared by all candidates of a run."""

    folder: Path
    owned: OwnedFolder
    postgres_url: str
    redis_url: str
    environment: Mapping[str, str]
    log: IO[bytes]

    @contextmanager
    def stack(self, *, workers: int, **settings: str) -> Iterator[Stack]:
        """Our API and workers on these servers, with further settings besides the high quotas."""
        environment = {**self.environment, **{f"AEROTASK_{key.upper()}": settings[key] for key in settings}}
        with running_stack(self.owned, workers=workers, settings=environment, log=self.log) as running:
            yield running


@contextmanager
def bench() -> Iterator[Bench]:
    """Starts the servers; all data are removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        owned = stack.enter_context(OwnedFolder(folder / "data"))
        stack.callback(owned.discard)
        servers = stack.enter_context(running_servers(owned))
        environment = {
            "AEROTASK_DATABASE_URL": servers.postgres.url,
            "AEROTASK_REDIS_URL": servers.valkey.url,
            "AEROTASK_ADMIN_PASSWORD": PASSWORD,
            "PYTHONPATH": str(plugins(folder)),
            **{f"AEROTASK_MAX_ACTIVE_TASKS{scope}": "1000000" for scope in ("", "_PER_ORG", "_PER_USER")},
            "AEROTASK_MAX_RUNNING_TASKS_PER_USER": "1000",
        }
        log = stack.enter_context((folder / "log").open("wb"))
        yield Bench(folder, owned, servers.postgres.url, servers.valkey.url, environment, log)


def plugins(folder: Path) -> Path:
    """The test tools, one of which does nothing."""
    package = ROOT / "tests" / "plugins" / "troublesome"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--target", str(folder / "plugins"), str(package)]
    subprocess.run([*command, *offline], check=True)
    return folder / "plugins"


@contextmanager
def sign_in(address: str) -> Iterator[httpx.Client]:
    """The administrator's client; creates the organization and the dataset if they are missing."""
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        answer = client.post("/users/authenticate", json={"username": "admin", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"
        for path in ("/orgs", "/orgs/bench/ds"):
            client.post(path, json={"slug": "bench"})
        yield client


def percentile(values: list[float], share: float) -> float:
    """Quantile of the values (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def environment_with(folder: Path, *packages: str) -> Path | None:
    """Python of a new virtual environment with these packages; None if pip can't install them."""
    made = folder / f"env-{packages[0].split('[', maxsplit=1)[0]}"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    python = made / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    return python if subprocess.run(install, check=False).returncode == 0 else None
