"""Overviews of a raster that has none, made when it arrives: those of its COG, pixel by pixel, without the image itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from aerotask.derivatives.cog import PERCENTS
from aerotask.derivatives.raster_readers import (
    SAMPLE_PX,
    CountingReader,
    LevelReader,
    sample_level,
    threads_for,
    units_of,
)
from aerotask.derivatives.statistics import percentiles_of
from aerotask.raster.cog import CogLevel, describe_cog, write_overview_cog
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.tiff.cog_levels import missing_overviews
from aerotask.raster.tiff.template import Georeference

_SHARES = {"pixels": (0.0, 0.9), "overviews": (0.9, 0.95), "cog": (0.95, 1.0)}


def build_overviews(
    source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None] = lambda _share: None
) -> dict[str, Any]:
    """Write the overviews that the raster at `source` lacks at `target`, which must not exist; returns statistics.

    The first one, half the size of the raster or of its smallest overview, is the image of the file, and the others
    are its overviews. The statistics are those of the COG; there are none if the raster has overviews of its own,
    since not all of its pixels are read then.

    Raises:
        InvalidInput: the raster has bands without overviews (`unsupported-layout`), or it can't be
            read (the codes are those of `raster.io.open_raster`).
        OSError: the disk is full (`ENOSPC`).
        ValueError: the raster lacks no overviews.
    """
    with open_raster(source) as opened:
        profile = read_profile(opened)
        if not missing_overviews(profile):
            raise ValueError("the raster lacks no overviews")
        image = describe_cog(opened, opened.shape, georeference=Georeference())
        threads = threads_for(opened, threads)
        own = len(profile.overview_sizes)
        counting = None if own else CountingReader(source, opened)
        reader = counting or LevelReader(source, opened, own - 1)
        colours = list(opened.colorinterp)
    width, height = profile.overview_sizes[-1] if own else (profile.width, profile.height)
    rows, cols = image.layout.tile_yx
    units = units_of(profile, (2 * rows, 2 * cols), (height, width), threads)

    def report(stage: str, share: float) -> None:
        begin, end = _SHARES[stage]
        on_progress(begin + (end - begin) * share)

    level = CogLevel((height, width), units, reader.opened)
    write_overview_cog(image, level, target, threads=threads, on_stage=report)
    if counting is None:
        return {}
    bands = [number for number, colour in enumerate(colours, start=1) if colour != ColorInterp.alpha]
    return {"bands": _statistics(counting, source, target, bands)}


def _statistics(
    counting: CountingReader, source: Path, target: Path, bands: list[int]
) -> list[Mapping[str, Any]]:
    statistics = counting.statistics()
    percentiles = percentiles_of(_sample(source, target, bands), PERCENTS)
    return [
        statistics[band - 1].to_properties() | {"percentiles": of_band}
        for band, of_band in zip(bands, percentiles, strict=True)
    ]


def _sample(source: Path, target: Path, bands: list[int]) -> Any:
    """The reduced view of the bands from which the COG's percentiles come."""
    with open_raster(source) as opened:
        if max(opened.shape) <= SAMPLE_PX:
            return opened.read(indexes=bands, masked=True)
    with open_raster(target) as made:
        level = sample_level(made)
    with open_raster(target, overview_level=level) as small:
        return small.read(indexes=bands, masked=True)
