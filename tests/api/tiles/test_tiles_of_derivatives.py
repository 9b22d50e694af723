"""Tiles, TileJSON and thumbnails come from a raster's COG derivative, if there is one."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import httpx
import numpy as np
from tests.support.served import Served, served
from tests.tiles.images import pixels_of
from tests.tiles.maps import AT, BLACK, WHITE, halves, on_tile

from aerotask.config import Settings
from aerotask.store.datasets import derivatives
from aerotask.store.datasets.derivatives import NewDerivative

HERE = "/orgs/acme/ds/acme"
GREY = [127, 127, 127, 255]
TILE = f"tiles/{AT.z}/{AT.x}/{AT.y}.png"


async def get(api: Served, path: str) -> httpx.Response:
    style = {} if path == "thumb" else {"rescale": "-1,1"}
    return await api.client.get(f"{HERE}/{path}", params={"path": "large.tif", **style})


async def build(api: Served, file: Path, *, source: Path) -> None:
    """Stores the file as the COG derivative of the source."""
    hashed = hashlib.sha256(await asyncio.to_thread(source.read_bytes)).hexdigest()
    blob = await api.platform.blobs.ingest(file)
    made = NewDerivative(
        api.rows.dataset_id, hashed, "cog", hashed, "1", blob.key, blob.size_bytes, blob.sha256, {}
    )
    async with api.platform.db.begin() as connection:
        await derivatives.put(connection, [made])


async def test_images_come_from_the_newest_derivative(settings: Settings, tmp_path: Path) -> None:
    source = on_tile(tmp_path / "large.tif", np.zeros((1, 4200, 4200)), compress="deflate")
    async with served(settings) as api:
        body = await asyncio.to_thread(source.read_bytes)
        (await api.client.put(f"{HERE}/obj/large.tif", content=body)).raise_for_status()
        assert pixels_of((await get(api, TILE)).content)[9, 9].tolist() == GREY
        tags = [(await get(api, "thumb")).headers["etag"]]

        # Colours that the original doesn't have show which of the two is rendered.
        for name, left, right, colours in (("a", -5, 5, [BLACK, WHITE]), ("b", 5, -5, [WHITE, BLACK])):
            await build(api, on_tile(tmp_path / f"{name}.tif", halves(left, right)), source=source)
            tile = await get(api, TILE)
            assert pixels_of(tile.content)[9, [9, 200]].tolist() == colours
            tags += [tile.headers["etag"], (await get(api, "thumb")).headers["etag"]]
        assert len(set(tags)) == 5
