"""Upload benchmark: 2 GiB over HTTP, whole and resumable; throughput and the API's memory, compared with `cp` and sha256sum.

python benchmarks/upload.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx
import psutil

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.stack import running_stack

MIB = 1024 * 1024
SIZE_BYTES = 2048 * MIB
PASSWORD = "only for this benchmark"
DATASET = "/orgs/bench/ds/bench"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-"))
    source = folder / "source.bin"
    digest = write_source(source)
    copy_s = timed(["cp", str(source), str(folder / "copy.bin")])
    hash_s = timed(["sha256sum", str(source)])
    with OwnedFolder(folder / "data") as owned, (folder / "log").open("wb") as log:
        settings = {"AEROTASK_ADMIN_PASSWORD": PASSWORD}
        with running_stack(owned, workers=0, settings=settings, log=log) as stack:
            assert stack.api is not None
            ways: dict[str, Callable[[httpx.Client, BinaryIO], None]] = {
                "PUT, raw body": put_raw,
                "POST, form": post_form,
                "tus, one part": partial(send_parts, part_bytes=SIZE_BYTES),
                "tus, 8 MiB": partial(send_parts, part_bytes=8 * MIB),
            }
            for name, way in ways.items():
                took, before, highest = upload(stack.address, stack.api.pid, source, digest, way)
                show(name, took, copy_s, before, highest)
        owned.discard()
    print(f"cp of the same file: {copy_s:.2f} s; sha256sum: {hash_s:.2f} s")
    shutil.rmtree(folder)


def write_source(path: Path) -> str:
    digest = hashlib.sha256()
    piece = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // MIB):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def put_raw(client: httpx.Client, file: BinaryIO) -> None:
    client.put(f"{DATASET}/obj/big.bin", content=iter(lambda: file.read(MIB), b"")).raise_for_status()


def post_form(client: httpx.Client, file: BinaryIO) -> None:
    data, files = {"path": "big.bin"}, {"file": ("big.bin", file)}
    client.post(f"{DATASET}/obj", data=data, files=files).raise_for_status()


def send_parts(client: httpx.Client, file: BinaryIO, *, part_bytes: int) -> None:
    """Uploads by the tus protocol, in chunks of that size."""
    tus = {"Tus-Resumable": "1.0.0"}
    announced = {"Upload-Length": str(SIZE_BYTES), "Upload-Metadata": "path YmlnLmJpbg=="}
    created = client.post(f"{DATASET}/uploads", headers={**tus, **announced}).raise_for_status()
    for offset in range(0, SIZE_BYTES, part_bytes):
        headers = {
            **tus,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(part_bytes),
        }
        pieces = (file.read(MIB) for _ in range(part_bytes // MIB))
        client.patch(created.headers["location"], headers=headers, content=pieces).raise_for_status()


def upload(
    address: str, pid: int, source: Path, digest: str, way: Callable[[httpx.Client, BinaryIO], None]
) -> tuple[float, int, int]:
    """Duration, and the API's memory before and at its peak."""
    api = psutil.Process(pid)
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], api.memory_info().rss)

    with httpx.Client(base_url=address, trust_env=False, timeout=600) as client:
        credentials = {"username": "admin", "password": PASSWORD}
        token = client.post("/users/authenticate", json=credentials).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        for path in ("/orgs", "/orgs/bench/ds"):
            client.post(path, json={"slug": "bench"})
        before = api.memory_info().rss
        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        with source.open("rb") as file:
            way(client, file)
        took = time.perf_counter() - started
        done.set()
        watcher.join()
        assert client.get(f"{DATASET}/list").json()[0]["hash"] == digest
    return took, before, peak[0]


def show(name: str, took: float, copy_s: float, before: int, highest: int) -> None:
    rate = SIZE_BYTES / MIB / took
    print(
        f"{name:14s} {took:6.2f} s   {rate:5.0f} MiB/s   {took / copy_s:4.1f} × cp   "
        f"API memory {before / MIB:.0f} → at most {highest / MIB:.0f} MiB"
    )


if __name__ == "__main__":
    main()
