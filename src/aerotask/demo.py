"""Demonstration of the main workflow over HTTP, shown in a terminal (`make demo`)."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aerotask.demo_data.orthophoto import write_orthophoto
from aerotask.domain.errors import TaskFailed
from aerotask.raster.export.preview import write_preview
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.private_files import write_private
from aerotask.stack.stack import admin_password_file, running_stack
from aerotask.tools import DEMO_TOOL

ORG, DATASET = "demo", "survey"
DATASET_URL = f"/orgs/{ORG}/ds/{DATASET}"
PARAMS = {"formula": "NDVI", "colormap": "rdylgn"}
SIZE_PX = 4096
PREVIEW_PX = 1024
POLL_S = 0.2
CHUNK_BYTES = 1024 * 1024
_ENDED = frozenset({"Succeeded", "Failed", "Deleted"})


@dataclass(slots=True)
class Stopwatch:
    """Stopwatch for the steps of the demonstration."""

    out: Console
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce the step, and time the block."""
        self.out.print(f"[bold cyan]▸[/bold cyan] {name}")
        started = time.perf_counter()
        yield
        self.steps.append((name, time.perf_counter() - started))

    def table(self) -> Table:
        """Table of the steps and their times."""
        table = Table("step", "seconds")
        table.columns[1].justify = "right"
        for name, seconds in self.steps:
            table.add_row(name, f"{seconds:.2f}")
        return table


def run_demo(file: Path | None, data: Path, out: Console) -> None:
    """Start everything, run the workflow over HTTP, verify the result, and stop everything.

    Raises:
        TaskFailed: the task failed, or the download doesn't match the server's SHA-256.
    """
    watch = Stopwatch(out)
    with ExitStack() as everything:
        folder = everything.enter_context(OwnedFolder(data))
        raster = file or _write_orthophoto(folder.path / "orthophoto.tif", watch)
        password = _password(admin_password_file(folder.path))
        with watch.step("start Postgres, Valkey, the API and a worker"):
            log = everything.enter_context((folder.path / "stack.log").open("ab"))
            settings = {"AEROTASK_ADMIN_PASSWORD": password}
            stack = everything.enter_context(running_stack(folder, settings=settings, log=log))
        client = everything.enter_context(httpx.Client(base_url=stack.address, timeout=60, trust_env=False))
        _prepare(client, password, raster, watch)
        artifact = _export(client, raster.name, folder.path / "out", watch)
        with watch.step("stop everything"):
            everything.close()
    out.print(watch.table())
    out.print(f"The GeoTIFF is at [bold]{artifact}[/bold]", soft_wrap=True)
    out.print(f"A preview of it is at [bold]{artifact.with_suffix('.png')}[/bold]", soft_wrap=True)


def _prepare(client: httpx.Client, password: str, raster: Path, watch: Stopwatch) -> None:
    with watch.step("sign in, create an organization and a dataset"):
        _sign_in(client, password)
        _create(client, "/orgs", {"slug": ORG, "name": "Demonstration"})
        _create(client, f"/orgs/{ORG}/ds", {"slug": DATASET, "name": "Survey"})
    with watch.step(f"upload {raster.name} ({raster.stat().st_size / 1e6:.1f} MB)"):
        _upload(client, raster)


def _export(client: httpx.Client, path: str, target: Path, watch: Stopwatch) -> Path:
    with watch.step(f"{DEMO_TOOL}: NDVI in rdylgn"):
        task = _wait_for_end(client, _submit(client, path), watch.out)
    with watch.step("download the artifact and verify its SHA-256"):
        artifact = _download(client, task["artifact"], target)
    with watch.step("render a preview of it"):
        write_preview(artifact, artifact.with_suffix(".png"), longest_px=PREVIEW_PX)
    return artifact


def _write_orthophoto(path: Path, watch: Stopwatch) -> Path:
    if not path.is_file():
        with watch.step(f"create a multispectral orthophoto of {SIZE_PX}×{SIZE_PX} pixels"):
            fresh = path.with_suffix(".new.tif")
            write_orthophoto(fresh, size_px=SIZE_PX)
            fresh.rename(path)
    return path


def _password(file: Path) -> str:
    if not file.is_file():
        write_private(file, secrets.token_urlsafe(16))
    return file.read_text(encoding="utf-8").strip()


def _sign_in(client: httpx.Client, password: str) -> None:
    response = client.post("/users/authenticate", json={"username": "admin", "password": password})
    token = response.raise_for_status().json()["token"]
    client.headers["Authorization"] = f"Bearer {token}"


def _create(client: httpx.Client, address: str, body: dict[str, str]) -> None:
    response = client.post(address, json=body)
    if response.status_code != httpx.codes.CONFLICT:  # exists from an earlier run
        response.raise_for_status()


def _upload(client: httpx.Client, raster: Path) -> None:
    with raster.open("rb") as content:
        client.put(
            f"{DATASET_URL}/obj/{quote(raster.name)}", content=iter(lambda: content.read(CHUNK_BYTES), b"")
        ).raise_for_status()


def _submit(client: httpx.Client, path: str) -> str:
    body = {"toolId": DEMO_TOOL, "path": path, "params": PARAMS, "force": True}
    response = client.post(f"{DATASET_URL}/tasks", json=body)
    if response.is_error:
        raise TaskFailed(response.json()["detail"])
    status_url: str = response.json()["statusUrl"]
    return status_url


def _wait_for_end(client: httpx.Client, status_url: str, out: Console) -> dict[str, Any]:
    cursor = 0
    columns = (TextColumn("  {task.description:<12}"), BarColumn(48), TextColumn("{task.percentage:5.1f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=out) as bars:
        bar = bars.add_task("waiting", total=100)
        while True:
            task = client.get(status_url).raise_for_status().json()
            page = client.get(f"{status_url}/log", params={"since": cursor}).raise_for_status().json()
            for line in page["lines"]:
                bars.console.print(f"    [dim]{line}[/dim]", highlight=False, markup=True, soft_wrap=True)
            cursor = page["cursor"]
            described = task["progress"]["phase"] or task["state"].lower()
            bars.update(bar, completed=task["progress"]["percent"], description=described)
            if task["state"] in _ENDED and cursor == task["logCursor"]:
                break
            time.sleep(POLL_S)
    if task["state"] != "Succeeded":
        raise TaskFailed(f"The task is {task['state']}: {(task['error'] or {}).get('message')}")
    ended: dict[str, Any] = task
    return ended


def _download(client: httpx.Client, artifact: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    target = folder / str(artifact["fileName"])
    digest = hashlib.sha256()
    with client.stream("GET", artifact["resultUrl"]) as response, target.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != artifact["sha256"]:
        raise TaskFailed("The downloaded file doesn't match the server's SHA-256.")
    return target
