"""Readers of the index that are killed: the file is read again, and one that is given up is tried again later."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import sql
from tests.raster.rasters import write_raster
from tests.support.processes import add_worker, dismiss, frozen, gone, other_environment
from tests.support.world import Dataset, World, eventually

pytestmark = pytest.mark.xdist_group("index readers")


@pytest.fixture(scope="module")
def ailing(make_stack: StackFactory) -> Iterator[World]:
    """A stack with one worker, whose readers stop within each file."""
    with make_stack(workers=1, failpoint="index-reading:stop") as world:
        yield world


def kill_reader(world: World) -> None:
    """Kill the reader that has stopped within a file."""
    found: list[int] = []

    def is_there() -> bool:
        children = psutil.Process(world.stack.workers[0].pid).children(recursive=True)
        found[:] = [child.pid for child in children if is_frozen(child.pid)]
        return bool(found)

    eventually(is_there)
    psutil.Process(found[0]).kill()
    eventually(lambda: gone(found[0]))


def is_frozen(pid: int) -> bool:
    try:
        return frozen(pid)
    except psutil.NoSuchProcess:
        return False


def heal(world: World) -> None:
    """Replace the worker by one whose readers don't stop."""
    with other_environment(world, failpoint=""):
        add_worker(world)
    dismiss(world, world.stack.workers[0])


def is_indexed(dataset: Dataset, path: str) -> bool:
    return bool(dataset.entry(path)["indexed"])


def index_error(dataset: Dataset, path: str) -> dict[str, Any]:
    return dict(dataset.entry(path)["properties"].get("indexError", {}))


def test_a_killed_reader_is_an_attempt_and_no_verdict_about_the_file(ailing: World, tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "field.tif", np.ones((1, 8, 8), "uint8"))
    names = ["rescanned.tif", "retried.tif", "once.tif"]
    dataset = ailing.dataset()
    for name in names[:2]:
        dataset.upload(name, raster, indexed=False)
        for _ in range(3):
            kill_reader(ailing)
        eventually(partial(is_indexed, dataset, name))
        error = index_error(dataset, name)
        assert error["code"] == "index-given-up"
        assert "attempt 3: it was ended by SIGKILL" in error["message"]
        assert dataset.entry(name)["type"] == "image"  # by its name
    dataset.upload(names[2], raster, indexed=False)
    kill_reader(ailing)
    heal(ailing)

    # Killed once: read again. Given up: as a file that hasn't been read, which a tool looks at itself.
    eventually(partial(is_indexed, dataset, "once.tif"))
    assert (dataset.entry("once.tif")["type"], index_error(dataset, "once.tif")) == ("geoRaster", {})
    assert dataset.run("raster-export", {"formula": "b1"}, path="retried.tif")["state"] == "Succeeded"

    assert dataset.entry("retried.tif")["type"] == "image"
    sql(
        ailing,
        "UPDATE entries SET index_due_at = index_due_at - interval '1 hour' WHERE path = 'retried.tif'",
    )
    eventually(lambda: dataset.entry("retried.tif")["type"] == "geoRaster")
    assert index_error(dataset, "retried.tif") == {}

    assert dataset.entry("rescanned.tif")["type"] == "image"
    assert dataset.run("rescan-index")["result"] == {"total": 3, "ok": 3, "failed": []}
    assert dataset.entry("rescanned.tif")["type"] == "geoRaster"
