"""Entry benchmark: lists, searches and changes in datasets of 10,000 and 100,000 entries, compared with a bare query.

python benchmarks/entries.py
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.stack import running_stack

PASSWORD = "only for this benchmark"
SIZES = (10_000, 100_000)
RUNS = 3
# One folder per thousand photos, each with realistic metadata.
FILL = """
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, blob_key, sha256, size_bytes, indexed, properties)
        SELECT gen_random_uuid(), d.id, 'flight-' || n / 1000 || '/DJI_' || lpad(n::text, 6, '0') || '.jpg',
               'flight-' || n / 1000, 1, 'image', gen_random_uuid()::text, repeat('0', 64), 1000, true,
               jsonb_build_object('camera', repeat('x', 500))
        FROM datasets d, generate_series(0, $2 - 1) n WHERE d.slug = $1;
"""
FOLDERS = """
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, indexed)
        SELECT gen_random_uuid(), d.id, 'flight-' || n, '', 0, 'directory', true
        FROM datasets d, generate_series(0, ($2 - 1) / 1000) n WHERE d.slug = $1;
"""
BARE = "SELECT e.* FROM entries e JOIN datasets d ON d.id = e.dataset_id WHERE d.slug = $1 ORDER BY e.path"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-"))
    with OwnedFolder(folder / "data") as owned, (folder / "log").open("wb") as log:
        settings = {"AEROTASK_ADMIN_PASSWORD": PASSWORD}
        with running_stack(owned, workers=0, settings=settings, log=log) as stack:
            assert stack.api is not None
            api = psutil.Process(stack.api.pid)
            with httpx.Client(base_url=stack.address, trust_env=False, timeout=600) as client:
                credentials = {"username": "admin", "password": PASSWORD}
                token = client.post("/users/authenticate", json=credentials).json()["token"]
                client.headers["Authorization"] = f"Bearer {token}"
                client.post("/orgs", json={"slug": "bench"}).raise_for_status()
                for size in SIZES:
                    measure(client, api, stack.environment["AEROTASK_DATABASE_URL"], size)
        owned.discard()


def measure(client: httpx.Client, api: psutil.Process, database_url: str, size: int) -> None:
    slug = f"of-{size}"
    client.post("/orgs/bench/ds", json={"slug": slug}).raise_for_status()
    asyncio.run(run_sql(database_url, slug, size))
    here = f"/orgs/bench/ds/{slug}"
    bare_s = asyncio.run(read_bare(database_url, slug))
    print(f"{size} entries; a bare query reads them in {bare_s:.2f} s")

    def search(**body: Any) -> Callable[[], httpx.Response]:
        return lambda: client.post(f"{here}/search", json=body)

    steps: dict[str, Callable[[], httpx.Response]] = {
        "list a folder of 1,000": lambda: client.get(f"{here}/list", params={"path": "flight-7"}),
        "list everything": lambda: client.get(f"{here}/list", params={"recursive": "true"}),
        "search a text, everywhere": search(query="7500"),
        "search a text that is nowhere": search(query="nowhere"),
        "search a name by pattern": search(query="*_?07500.jpg"),
        "search in a folder by pattern": search(query="flight-7/*99.jpg"),
        "search a type that is nowhere": search(types=["pointCloud"]),
    }
    before = api.memory_info().rss
    for name, step in steps.items():
        show(name, min(timed(step) for _ in range(RUNS)), bare_s)
    print(f"  the API's memory: {before / 2**20:.0f} → {api.memory_info().rss / 2**20:.0f} MiB")
    for name, step in wholes(client, here).items():
        took, waited = beside(client, step)
        show(name, took, bare_s)
        print(f"    other requests waited for up to {1000 * waited:.0f} ms meanwhile")
    for name, step in changes(client, here).items():
        show(name, timed(step), bare_s)


def wholes(client: httpx.Client, here: str) -> dict[str, Callable[[], httpx.Response]]:
    """Operations on all entries at once."""

    def submit(tool: str) -> Callable[[], httpx.Response]:
        return lambda: client.post(f"{here}/tasks", json={"toolId": tool, "force": True})

    paths = [f"flight-{number}" for number in range(9)]
    return {
        "submit a bulk-download": submit("bulk-download"),
        "submit a build": submit("build"),
        "submit a rescan-index": submit("rescan-index"),
        "select 9,000 to download": lambda: client.head(f"{here}/download", params={"path": paths}),
    }


def beside(client: httpx.Client, step: Callable[[], httpx.Response]) -> tuple[float, float]:
    """Duration of the step, and the longest response time of other requests meanwhile."""
    done, waits = threading.Event(), [0.0]

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, trust_env=False) as other:
            while not done.is_set():
                waits.append(timed(lambda: other.get("/healthz")))

    asking = threading.Thread(target=ask)
    asking.start()
    took = timed(step)
    done.set()
    asking.join()
    return took, max(waits)


def changes(client: httpx.Client, here: str) -> dict[str, Callable[[], httpx.Response]]:
    def put(source: str, dest: str) -> httpx.Response:
        return client.put(f"{here}/obj", json={"source": source, "dest": dest})

    def copy(source: str, dest: str) -> httpx.Response:
        return client.post(f"{here}/obj/copy", json={"source": source, "dest": dest})

    return {
        "rename a file": lambda: put("flight-7/DJI_007500.jpg", "flight-7/renamed.jpg"),
        "rename a folder of 1,000": lambda: put("flight-7", "other"),
        "copy a folder of 1,000": lambda: copy("flight-8", "flight-8-copy"),
        "remove a folder of 1,000": lambda: client.delete(f"{here}/obj/flight-8-copy"),
        "delete the dataset": lambda: client.delete(here),
    }


async def run_sql(url: str, slug: str, size: int) -> None:
    connection = await asyncpg.connect(url)
    for statement in (FILL, FOLDERS):
        await connection.execute(statement, slug, size)
    await connection.execute("VACUUM ANALYZE entries")
    await connection.close()


async def read_bare(url: str, slug: str) -> float:
    connection = await asyncpg.connect(url)
    started = time.perf_counter()
    await connection.fetch(BARE, slug)
    took = time.perf_counter() - started
    await connection.close()
    return took


def timed(step: Callable[[], httpx.Response]) -> float:
    started = time.perf_counter()
    step().raise_for_status()
    return time.perf_counter() - started


def show(name: str, took: float, bare_s: float) -> None:
    print(f"  {name:32s} {1000 * took:8.0f} ms   {took / bare_s:6.2f} × the bare query")


if __name__ == "__main__":
    main()
