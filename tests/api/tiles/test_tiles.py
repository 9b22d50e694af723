"""Rendering in the API process with hostile files, crashing and hanging children."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from sqlalchemy.event import listen
from tests.raster.rasters import write_raster
from tests.raster.test_raster_io import declared
from tests.sandbox.render_program import REGISTRY
from tests.support.processes import gone
from tests.support.served import Served, served, until
from tests.tiles.images import pixels_of
from tests.tiles.maps import AT, WHITE, halves, on_tile

from aerotask.config import Settings
from aerotask.domain.access import Caller
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.domain.settings import RenderSettings
from aerotask.sandbox.pool import PoolLimits
from aerotask.tiles.renderer import Renderer

ROOT = Path(__file__).resolve().parents[3]
HERE = "/orgs/acme/ds/acme"


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings.model_copy(update={"render": RenderSettings(processes=1)})) as running:
        yield running


def renderer_of(api: Served) -> Renderer:
    return api.platform.tiles.renderer


def drawing_children(api: Served) -> list[psutil.Process]:
    server = renderer_of(api)._pool._spawner._process
    return [] if server is None else psutil.Process(server.pid).children()


async def put(api: Served, path: str, content: bytes | Path) -> None:
    body = await asyncio.to_thread(content.read_bytes) if isinstance(content, Path) else content
    (await api.client.put(f"{HERE}/obj/{path}", content=body)).raise_for_status()


async def tile(api: Served, path: str = "a.tif", **params: Any) -> httpx.Response:
    query = {"path": path, "rescale": "-1,1", **params}
    return await api.client.get(f"{HERE}/tiles/{AT.z}/{AT.x}/{AT.y}.png", params=query)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_second_request_is_served_from_the_cache(
    api: Served, settings: Settings, tmp_path: Path
) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    first = await tile(api)
    assert pixels_of(first.content)[0, 0].tolist() == WHITE
    for child in drawing_children(api):
        child.kill()
    renderer_of(api)._pool._spawner.program = "there.is.no.such.program"
    again = await tile(api)
    assert again.content == first.content
    cached = [path.read_bytes() for path in (settings.storage_folder / "cache").glob("??/*")]
    assert first.content in cached


async def test_a_raster_and_its_cog_are_found_by_one_query(api: Served, tmp_path: Path) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    assert (await tile(api)).status_code == 200
    statements: list[str] = []

    def record(*event: Any) -> None:
        statements.append(event[2])

    for engine in (api.platform.db.engine, api.platform.db.reader):
        listen(engine.sync_engine, "before_cursor_execute", record)
    assert (await tile(api)).status_code == 200
    assert (
        len([statement for statement in statements if "entries" in statement or "derivatives" in statement])
        == 1
    )


async def test_the_error_for_a_heic_says_why_there_is_no_thumbnail(api: Served) -> None:
    await put(api, "a.heic", b"\0\0\0\x18ftypheic")
    answer = await api.client.get(f"{HERE}/thumb", params={"path": "a.heic"})
    assert code_of(answer) == (400, "no-thumbnail")
    assert "HEIC" in answer.json()["detail"]


async def test_damaged_render_info_in_the_cache_is_computed_again(
    api: Served, settings: Settings, tmp_path: Path
) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    assert (await tile(api)).status_code == 200
    for file in (settings.storage_folder / "cache").glob("*/*"):
        file.write_bytes(b"{}" if file.read_bytes().startswith(b"{") else b"")
    renderer_of(api)._render_infos.clear()
    assert pixels_of((await tile(api)).content)[0, 0].tolist() == WHITE


async def test_a_killed_child_is_replaced(api: Served, tmp_path: Path) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    assert (await tile(api)).status_code == 200
    (child,) = drawing_children(api)
    child.send_signal(signal.SIGSEGV)
    await until(partial(gone, child.pid))
    assert (await tile(api, colormap="viridis")).status_code == 200
    assert [each.pid for each in drawing_children(api)] != [child.pid]


async def test_a_crash_or_timeout_fails_only_its_own_job(api: Served, tmp_path: Path) -> None:
    """The child is stopped before it gets the job, so that it can be killed, or time out, within the job."""
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    pool = renderer_of(api)._pool
    for kind, expected in (("crash", (400, "drawing-crashed")), ("hang", (503, "drawing-timed-out"))):
        params = {"formula": "b1" if kind == "crash" else "b1*1"}
        assert (
            await tile(api, colormap="inferno", **params)
        ).status_code == 200  # starts a child, and caches the render info
        (child,) = drawing_children(api)
        os.kill(child.pid, signal.SIGSTOP)
        pool.limits = PoolLimits(1, 8, job_timeout_s=60 if kind == "crash" else 0.5)
        request = asyncio.create_task(tile(api, colormap="magma", **params))
        await until(lambda: not pool._idle)
        assert (await api.client.get("/healthz")).status_code == 200
        if kind == "crash":
            os.kill(child.pid, signal.SIGKILL)
        answer = await request
        assert code_of(answer) == expected
        pool.limits = PoolLimits(1, 8, job_timeout_s=60)
        assert (
            code_of(await tile(api, colormap="magma", **params)) == expected
        )  # refused without another attempt
        assert (await tile(api, colormap="plasma", **params)).status_code == 200
    assert answer.headers["retry-after"] == "60"


async def test_jobs_beyond_the_queue_limit_are_refused(api: Served, tmp_path: Path) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    assert (await tile(api)).status_code == 200
    (child,) = drawing_children(api)
    pool = renderer_of(api)._pool
    pool.limits = PoolLimits(1, max_waiting=2, job_timeout_s=60)
    os.kill(child.pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(tile(api, rescale=f"-{n},1")) for n in range(2, 5)]
    await until(lambda: pool._semaphore.waiting == 2)
    refused = await tile(api, rescale="-9,1")
    assert code_of(refused) == (503, "drawing-busy")
    assert refused.headers["retry-after"] == "2"
    os.kill(child.pid, signal.SIGCONT)
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200, 200]


async def test_concurrent_requests_for_a_tile_render_it_once(api: Served, tmp_path: Path) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    answers = await asyncio.gather(*(tile(api) for _ in range(20)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert renderer_of(api)._pool._idle[0].jobs == 2  # render info and tile


async def test_hostile_files_are_refused(api: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tif"
    write_raster(secret, halves(0, 1))
    vrt = f"""<VRTDataset rasterXSize="256" rasterYSize="256"><VRTRasterBand dataType="Float32" band="1">
        <SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
    whole = on_tile(tmp_path / "whole.tif", np.random.default_rng(1).random((1, 256, 256), np.float32))
    files: dict[str, tuple[bytes | Path, str]] = {
        "vrt.tif": (vrt.encode(), "unreadable-raster"),
        "empty.tif": (b"", "unreadable-raster"),
        "truncated.tif": (whole.read_bytes()[:50_000], "damaged-raster"),
        "large.tif": (
            declared(tmp_path / "large.tif", width=1_500_000, height=1_500_000),
            "raster-too-large",
        ),
        "header.tif": (b"II*\0\xff\xff\xff\xff", "unreadable-raster"),
    }
    for name, (content, code) in files.items():
        await put(api, name, content)
        assert code_of(await tile(api, name)) == (400, code), name
        answer = await api.client.get(f"{HERE}/thumb", params={"path": name})
        assert code_of(answer) == (400, code), name
    pictures = {
        "cut.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 64,
        "bomb.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\x7f" * 8 + b"\x08\x06\0\0\0\0\0\0\0",
        "a.laz": b"LASF" + b"\xff" * 400,
    }
    for name, text in pictures.items():
        await put(api, name, text)
        answer = await api.client.get(f"{HERE}/thumb", params={"path": name})
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["code"] in {"damaged-raster", "unreadable-cloud"}, name


async def test_a_missing_blob_is_an_outage(api: Served, settings: Settings, tmp_path: Path) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    for blob in (settings.storage_folder / "blobs").glob("*/*"):
        blob.unlink()
    assert code_of(await tile(api)) == (503, "content-missing")


async def test_a_removed_folder_of_local_files_is_recreated(
    api: Served, settings: Settings, tmp_path: Path
) -> None:
    await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    assert (await tile(api)).status_code == 200
    (folder,) = (settings.storage_folder / "work").glob("draw-*")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    for child in drawing_children(api):  # they have the file open
        child.kill()
        await until(partial(gone, child.pid))
    assert (await tile(api, colormap="viridis")).status_code == 200


async def test_no_child_and_no_file_is_left_after_shutdown(settings: Settings, tmp_path: Path) -> None:
    async with served(settings) as api:
        await put(api, "a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
        assert (await tile(api)).status_code == 200
        children = drawing_children(api)
    assert children
    await until(lambda: not any(child.is_running() for child in children))
    assert list((settings.storage_folder / "work").iterdir()) == []


async def test_a_preview_gets_the_inputs_and_validated_params_of_the_tool(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    renderer_of(api)._pool._spawner.program = "tests.sandbox.render_program"
    await put(api, "a.tif", b"x" * 100)
    tiles = replace(api.platform.tiles, registry=REGISTRY)
    caller = Caller(api.rows.user_id, "admin", is_admin=True)
    drawn = await tiles.preview(caller, "acme", "acme", "raster-export", {"path": "a.tif"}, size_px=64)
    pixels = pixels_of(drawn)
    assert pixels.shape == (32, 64, 4)
    assert np.abs(pixels[16, 32, :3].astype(int) - 100).max() <= 2
    for params, code in (
        ({"path": "b.tif"}, "no-such-entry"),
        ({"path": "a.tif", "odd": 1}, "invalid-params"),
    ):
        with pytest.raises(InvalidInput) as refused:
            await tiles.preview(caller, "acme", "acme", "raster-export", params, size_px=64)
        assert refused.value.code == code


async def test_a_tool_without_preview_is_refused(api: Served) -> None:
    await put(api, "a.tif", b"x")
    caller = Caller(api.rows.user_id, "admin", is_admin=True)
    with pytest.raises(NotFound) as refused:
        await api.platform.tiles.preview(
            caller, "acme", "acme", "raster-export", {"path": "a.tif"}, size_px=64
        )
    assert refused.value.code == "no-preview"
