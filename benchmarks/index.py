"""Metadata extraction benchmark: files per second in the indexer's child, and a dataset of 10,000 small files.

    python benchmarks/index.py [10000]
    python benchmarks/index.py waiting [100000]

Photos, rasters and clouds are generated; for comparison each kind is listed with the time to read its bytes, which hashing
needs anyway. Then that many small photos and text files are uploaded, listed and rescanned through the running product.
`waiting` measures how long an upload waits to be indexed beside that many waiting files of another organization.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import laspy
import numpy as np
import rasterio
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.stacks import TASKS, bench, percentile, sign_in
from tests.metadata.photo_files import exif_block, xmp_packet

from aerotask.sandbox.protocol import Message
from aerotask.sandbox.spawner import Spawner
from aerotask.store.datasets.index_queue import IndexLane
from aerotask.worker import tool_child
from aerotask.worker.indexing.index_batch import MEMORY_BYTES
from aerotask.worker.indexing.indexer import BATCH
from aerotask.worker.jobs import IndexJob
from aerotask.worker.supervise import ChildEnd, supervise

FILES = 200
UPLOADERS = 8
DATASET = "/orgs/bench/ds/bench"
PIECE_BYTES = 1024 * 1024
UPLOADS = 20
FLOOD = """
    INSERT INTO entries SELECT (jsonb_populate_record(e, jsonb_build_object(
        'id', gen_random_uuid(), 'path', 'copy-' || n, 'indexed', false, 'index_due_at', now(), 'index_lane', $2::int))).*
    FROM entries e JOIN datasets d ON d.id = e.dataset_id, generate_series(1, $1) n WHERE d.slug = 'greedy'
"""


def main() -> None:
    if sys.argv[1:2] == ["waiting"]:
        beside_waiting(int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
        return
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with scratch() as folder:
        kinds = {"photos": write_photo, "rasters": write_raster, "clouds": write_cloud}
        for kind, write in kinds.items():
            files = copies(folder / kind, write)
            whole_bytes = sum(file.stat().st_size for file in files)
            reading = best(partial(read_all, files))
            describing = best(partial(described, files))
            print(
                f"{kind}: {FILES / describing.wall_s:,.0f} a second ({describing.cpu_s / FILES * 1000:.2f} ms of CPU each; "
                f"{FILES} files, {whole_bytes / 1e6:,.0f} MB); reading their bytes {FILES / reading.wall_s:,.0f} a second"
            )
    with bench() as made, made.stack(workers=1) as ours, sign_in(ours.address) as client:
        many(client, entries)


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def copies(folder: Path, write: Callable[[Path], Path]) -> list[Path]:
    """Copies of a file, each in its own folder as in the indexer's child."""
    folder.mkdir()
    first = write(folder)
    files = [folder / str(number) / first.name for number in range(FILES)]
    for file in files:
        file.parent.mkdir()
        shutil.copy(first, file)
    return files


def write_photo(folder: Path) -> Path:
    """A 12 megapixel photo with drone metadata."""
    noise = np.random.default_rng(1).integers(0, 255, (3000, 4000, 3), np.uint8)
    exif = exif_block(
        {"Make": "DJI", "Model": "FC6310"},
        {"FocalLength": 8.8, "DateTimeOriginal": "2021:06:01 12:30:00"},
        {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 50.0, 33.5), "GPSLongitude": (9.0, 0.0, 0.0)},
    )
    looking = {"GimbalYawDegree": "45", "GimbalPitchDegree": "-90", "RelativeAltitude": "40"}
    path = folder / "photo.jpg"
    Image.fromarray(noise // 8 + 100).save(path, "JPEG", quality=85, exif=exif, xmp=xmp_packet(looking))
    return path


def write_raster(folder: Path) -> Path:
    """An orthophoto of 2048² pixels with overviews."""
    path = folder / "raster.tif"
    pixels = np.random.default_rng(1).integers(0, 255, (3, 2048, 2048), np.uint8) // 8
    profile = {
        "driver": "COG",
        "width": 2048,
        "height": 2048,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32632",
        "transform": rasterio.Affine(0.05, 0, 500_000, 0, -0.05, 5_000_000),
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


def write_cloud(folder: Path) -> Path:
    """A million points as LAZ."""
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.scales = np.array([0.001] * 3)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.random.default_rng(1).uniform(0, 100, (3, 1_000_000))
    path = folder / "cloud.laz"
    cloud.write(path)
    return path


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one run; `cpu_s` includes all child processes that have ended."""

    wall_s: float
    cpu_s: float


def best(act: Callable[[], object]) -> Spent:
    """The shorter of two runs."""
    return min((spent(act) for _ in range(2)), key=lambda run: run.wall_s)


def spent(act: Callable[[], object]) -> Spent:
    began, cpu_began = time.perf_counter(), sum(os.times()[:4])
    act()
    return Spent(time.perf_counter() - began, sum(os.times()[:4]) - cpu_began)


def described(files: list[Path]) -> None:
    asyncio.run(describe_all(files))


def read_all(files: list[Path]) -> None:
    for file in files:
        with file.open("rb", buffering=0) as content:
            while content.read(PIECE_BYTES):
                pass


async def describe_all(files: list[Path]) -> None:
    """Runs batches, each in a new child, as the indexer does; the fork server is already running."""
    spawner = Spawner(tool_child.PROGRAM)
    described: list[Message] = []
    try:
        await spawner.start()
        for batch in in_batches(files):
            folder = os.path.commonpath(batch)
            job = IndexJob(tuple((str(file), str(file)) for file in batch), folder, MEMORY_BYTES)
            ended = await supervise(
                spawner, job, on_event=described.append, stop=asyncio.Event(), cancel_grace_s=0, timeout_s=600
            )
            assert ended.how is ChildEnd.DONE, ended
    finally:
        await spawner.close()
    assert sum(event.kind == "described" for event in described) == len(files)


def in_batches(files: list[Path]) -> Iterator[list[Path]]:
    return (files[at : at + BATCH] for at in range(0, len(files), BATCH))


def many(client: httpx.Client, entries: int) -> None:
    """A dataset of many small files, from the first upload to a rescan."""
    photo = small_photo()
    began = time.perf_counter()

    def upload(number: int) -> None:
        name, content = ("photo", photo) if number % 2 else ("notes", b"# Notes")
        path = f"{DATASET}/obj/{number % 100}/{name}-{number}.{'jpg' if number % 2 else 'md'}"
        client.put(path, content=content).raise_for_status()

    with ThreadPoolExecutor(UPLOADERS) as pool:
        list(pool.map(upload, range(entries)))
    uploaded_s = time.perf_counter() - began
    while not all(entry["indexed"] for entry in listed(client)):
        time.sleep(0.2)
    indexed_s = time.perf_counter() - began
    listing_s = best(partial(listed, client)).wall_s
    folder_s = best(partial(client.get, f"{DATASET}/list", params={"path": "7"})).wall_s
    began = time.perf_counter()
    task = client.post(TASKS, json={"toolId": "rescan-index"}).raise_for_status().json()["taskId"]
    submitted_s = time.perf_counter() - began
    while (status := client.get(f"{TASKS}/{task}", params={"wait": "20"}).json())["state"] not in {
        "Succeeded",
        "Failed",
    }:
        pass
    rescan_s = time.perf_counter() - began
    assert status["state"] == "Succeeded", status
    assert status["result"]["ok"] == entries, status["result"]
    print(
        f"{entries:,} small files: uploaded in {uploaded_s:.1f} s by {UPLOADERS} connections, all indexed after "
        f"{indexed_s:.1f} s; list everything {listing_s * 1000:.0f} ms, one folder {folder_s * 1000:.0f} ms; "
        f"rescan-index {rescan_s:.1f} s ({entries / rescan_s:,.0f} a second), of which its submit {submitted_s * 1000:.0f} ms"
    )


def listed(client: httpx.Client) -> list[dict[str, object]]:
    answer = client.get(f"{DATASET}/list", params={"recursive": "true"}).raise_for_status()
    return [entry for entry in answer.json() if entry["type"] != "directory"]


def beside_waiting(count: int) -> None:
    """Seconds until an upload is indexed, alone and beside waiting files that another organization added in either way."""
    photo = small_photo()
    with bench() as made, made.stack(workers=2) as ours, sign_in(ours.address) as client:
        for path in ("/orgs", "/orgs/greedy/ds"):
            client.post(path, json={"slug": "greedy"}).raise_for_status()
        until_indexed(client, "/orgs/greedy/ds/greedy", "photo.jpg", photo)
        report("alone", [until_indexed(client, DATASET, f"alone-{n}.jpg", photo) for n in range(UPLOADS)])
        for lane in (IndexLane.BULK, IndexLane.SINGLE):
            asyncio.run(flood(made.postgres_url, count, lane))
            began = time.perf_counter()
            took = [until_indexed(client, DATASET, f"{lane.name}-{n}.jpg", photo) for n in range(UPLOADS)]
            elapsed_s = time.perf_counter() - began
            left = asyncio.run(drain(made.postgres_url))
            report(f"beside {count:,} waiting files, lane {lane.name}", took)
            print(f"    meanwhile {(count - left) / elapsed_s:,.0f} others a second; {left:,} were left")


def until_indexed(client: httpx.Client, dataset: str, name: str, content: bytes) -> float:
    began = time.perf_counter()
    client.put(f"{dataset}/obj/{name}", content=content).raise_for_status()
    while not client.get(f"{dataset}/list", params={"path": name}).raise_for_status().json()[0]["indexed"]:
        time.sleep(0.01)
    return time.perf_counter() - began


def report(what: str, took: list[float]) -> None:
    print(
        f"an upload is indexed {what}: p50 {percentile(took, 0.5):.2f} s, p95 {percentile(took, 0.95):.2f} s, "
        f"max {max(took):.2f} s of {len(took)}"
    )


async def flood(url: str, count: int, lane: IndexLane) -> None:
    """Adds unindexed copies of the other organization's photo."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FLOOD, count, int(lane))
    finally:
        await connection.close()


async def drain(url: str) -> int:
    """Removes the copies; the number of those that were not indexed yet."""
    query = "WITH gone AS (DELETE FROM entries WHERE path LIKE 'copy-%' RETURNING indexed) SELECT count(*) FROM gone"
    connection = await asyncpg.connect(url)
    try:
        while True:
            with suppress(
                asyncpg.DeadlockDetectedError
            ):  # with a worker that stores what it has read of them
                return int(await connection.fetchval(f"{query} WHERE NOT indexed"))
    finally:
        await connection.close()


def small_photo() -> bytes:
    with scratch() as folder:
        path = folder / "small.jpg"
        exif = exif_block(
            {"Make": "DJI"}, None, {"GPSLatitude": (46.0, 0.0, 0.0), "GPSLongitude": (9.0, 0.0, 0.0)}
        )
        Image.new("RGB", (64, 48)).save(path, "JPEG", exif=exif)
        return path.read_bytes()


if __name__ == "__main__":
    main()
