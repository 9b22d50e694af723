"""A private dataset with a raster, a page, a COG and a task's result, and links to its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from tests.support.world import Dataset, World
from tests.tiles.maps import halves, on_tile

PAGE = b"<script>alert(1)</script>"


@dataclass(frozen=True, slots=True)
class Site:
    """The dataset, what its task wrote, and a client without credentials."""

    dataset: Dataset
    raster: bytes
    task: dict[str, Any]
    anonymous: httpx.Client

    @property
    def task_address(self) -> str:
        """The task's address below a dataset or link."""
        return f"tasks/{self.task['taskId']}"

    def link(self, *, maker: httpx.Client | None = None, **body: Any) -> dict[str, Any]:
        """A new link."""
        answer = (maker or self.dataset.client).post(f"{self.dataset.address}/links", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def base(self, **body: Any) -> str:
        """The address of a new link, under which lies all that it opens."""
        return str(self.link(**body)["baseUrl"])

    def status(self, address: str, method: str = "GET", **options: Any) -> int:
        """The status of a request without credentials."""
        return self.anonymous.request(method, address, **options).status_code


@pytest.fixture(scope="session")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The dataset; tests that change it make one of their own."""
    pixels = np.concatenate([halves(3, 1), halves(1, 3)])
    raster = on_tile(tmp_path_factory.mktemp("site") / "field.tif", pixels).read_bytes()
    dataset = world.dataset()
    dataset.upload("maps/field.tif", raster)
    for path in ("maps/page.html", "maps-2/page.html", "notes.md"):
        dataset.upload(path, PAGE)
    assert dataset.run("build", {"path": "maps/field.tif"})["state"] == "Succeeded"
    task = dataset.run("raster-export", {"path": "maps/field.tif", "formula": "b1"})
    assert task["state"] == "Succeeded"
    return Site(dataset, raster, task, world.client())
