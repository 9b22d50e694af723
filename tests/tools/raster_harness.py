"""Tool harness whose rasters are indexed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.raster import extract_raster
from aerotask.sdk.testing import ToolHarness


def index(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The index metadata of a file."""
    try:
        described = extract_raster(path)
    except InvalidInput:
        return "generic", {}
    return "geoRaster" if described.is_georeferenced else "image", described.profile.to_properties()


def empty_harness(folder: Path) -> ToolHarness:
    """A harness with an empty dataset below `folder`."""
    dataset, workdir = folder / "dataset", folder / "work"
    dataset.mkdir()
    workdir.mkdir()
    return ToolHarness(dataset, workdir, describe=index)
