"""COG writer for pixels in the type of their source: threads read units of it and write their tiles, then overviews.

The source's description, nodata value, mask and colour table are kept. Peak memory follows from `UNITS_BYTES` and
`TILE_BYTES`, and not from the raster's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from aerotask.domain.errors import InvalidInput
from aerotask.raster.overviews import OverviewRules, write_overviews
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.pixels import has_own_mask, native_nodata
from aerotask.raster.tiff.codec import FAST, Tile, TileLayout, tile_shape
from aerotask.raster.tiff.cog_layout import ImageFields, arrange_cog, scratch_tiff
from aerotask.raster.tiff.directory import CLASSIC_LIMIT_BYTES
from aerotask.raster.tiff.template import Georeference, describe_source, georeference_of, template_fields
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape, Window, grid_shape, shape_of, tiles_within, windows

TILE_PX = 512
TILE_BYTES = 1024 * 1024
"""Maximum size of a tile with all its bands, since a reader decodes whole tiles; with more, tiles have fewer pixels."""
UNITS_BYTES = 64 * 1024 * 1024
"""Memory for pixels, of all threads together."""

Stage = Literal["pixels", "overviews", "cog"]
OnStage = Callable[[Stage, float], None]
"""Receives the stage and its progress from 0 to 1; an exception that it raises ends the writing."""

Planes = NDArray[Any]
"""(bands, rows, cols)"""
Mask = NDArray[np.bool_]
"""(rows, cols), true for valid pixels."""
ReadUnit = Callable[[Window], tuple[Planes, Mask | None]]
"""Reads a unit; the arrays may be overwritten by the next call."""


@dataclass(frozen=True, slots=True)
class CogImage:
    """Everything about the COG but its pixels."""

    layout: TileLayout
    fields: ImageFields
    rules: OverviewRules
    has_mask: bool
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class CogLevel:
    """The image, or an overview of its own: its shape, the shape of the units, and their reader for one thread."""

    shape_yx: Shape
    unit_yx: Shape
    reader: Callable[[], AbstractContextManager[ReadUnit]]


def describe_cog(
    source: Any, shape_yx: Shape, *, georeference: Georeference | None = None, nodata: float | None = None
) -> CogImage:
    """The COG for an image of that shape that otherwise is as the open raster `source`.

    Raises:
        InvalidInput: bands of several types, or of complex numbers (`unsupported-layout`).
    """
    dtype = _dtype(source)
    description = describe_source(source)
    if nodata is not None:
        description = replace(description, nodata=nodata)
    colours = list(source.colorinterp)
    is_palette = ColorInterp.palette in colours
    blank = native_nodata(description.nodata, dtype)
    if blank is None:
        blank = np.nan if description.nodata is not None and dtype.kind == "f" else 0
    layout = _layout(shape_yx, source.count, dtype, blank, is_palette=is_palette)
    rules = OverviewRules(
        nodata=description.nodata,
        alpha=colours.index(ColorInterp.alpha) if ColorInterp.alpha in colours else None,
        # Sums of whole numbers of 64 bits don't fit into any type; such numbers are mostly identifiers.
        is_nearest=is_palette or (dtype.kind in "iu" and dtype.itemsize == 8),
    )
    fields = template_fields(
        replace(description, predictor=layout.predictor), georeference or georeference_of(source)
    )
    return CogImage(layout, ImageFields(fields), rules, has_mask=has_own_mask(source))


def write_cog(
    image: CogImage, levels: Sequence[CogLevel], target: Path, *, threads: int, on_stage: OnStage
) -> int:
    """Write the image, the overviews in `levels` and those still missing as a COG, and return its size.

    `target` must not exist.

    Raises:
        InvalidInput: a source is damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
    """
    with scratch_tiff(target, image.layout, deflate_level=FAST, with_mask=image.has_mask) as tiff:
        total = sum(_unit_count(level) for level in levels)
        done = 0
        for level in levels:
            writer = _LevelWriter(tiff, len(tiff.levels), level)
            tiff.add_level(level.shape_yx)
            report = partial(_report_units, done, total, on_stage)
            writer.write(threads=threads, on_unit=report)
            done += _unit_count(level)
        rules = replace(image.rules, nodata=None) if image.has_mask else image.rules
        write_overviews(tiff, threads=threads, on_progress=partial(on_stage, "overviews"), rules=rules)
        return arrange_cog(
            tiff,
            target,
            image.fields,
            on_progress=partial(on_stage, "cog"),
            classic_limit_bytes=image.classic_limit_bytes,
        )


def fill_tile(tile: Tile, planes: Planes) -> None:
    """Interleave (bands, rows, cols) into a tile (rows, cols, bands), or put one band into a tile (rows, cols).

    Beyond the image's edge the last row and column are repeated, so that overviews don't fade there.
    """
    rows, cols = planes.shape[1:]
    tile[:rows, :cols] = planes.transpose(1, 2, 0) if tile.ndim == 3 else planes[0]
    tile[:rows, cols:] = tile[:rows, cols - 1 : cols]
    tile[rows:] = tile[rows - 1 : rows]


def _report_units(before: int, total: int, on_stage: OnStage, in_level: int) -> None:
    on_stage("pixels", (before + in_level) / total)


def _dtype(source: Any) -> np.dtype[Any]:
    if any(dtype.startswith("complex") for dtype in source.dtypes):  # numpy knows no complex_int16
        raise InvalidInput(
            "The raster has complex numbers, which maps can't show.", code="unsupported-layout"
        )
    dtypes: set[np.dtype[Any]] = {np.dtype(dtype) for dtype in source.dtypes}
    if len(dtypes) > 1:
        raise InvalidInput(
            f"The raster's bands have several types ({', '.join(sorted(map(str, dtypes)))}); convert them to one "
            "type ('gdal_translate -ot').",
            code="unsupported-layout",
        )
    [dtype] = dtypes
    return dtype


def _layout(
    shape_yx: Shape, count: int, dtype: np.dtype[Any], blank: float, *, is_palette: bool
) -> TileLayout:
    bytes_per_px = count * dtype.itemsize
    tile_yx = tile_shape(shape_yx, tile_px=TILE_PX, bytes_per_px=bytes_per_px, max_bytes=TILE_BYTES)
    as_indices = is_palette and count == 1 and dtype.kind == "u"
    return TileLayout(tile_yx if as_indices else (*tile_yx, count), dtype, blank)


def _unit_count(level: CogLevel) -> int:
    down, across = grid_shape(level.shape_yx, level.unit_yx)
    return down * across


@dataclass(frozen=True, slots=True)
class _LevelWriter:
    tiff: TiledTiff
    number: int
    level: CogLevel

    def write(self, *, threads: int, on_unit: Callable[[int], None]) -> None:
        """Write all tiles; `on_unit` receives the number of units that are done."""
        done = 0

        def count(_unit: Window) -> None:
            nonlocal done
            done += 1
            on_unit(done)

        units = windows(self.level.shape_yx, self.level.unit_yx)
        run_in_threads(units, threads=threads, worker=self._worker, on_result=count)

    @contextmanager
    def _worker(self) -> Iterator[Callable[[Window], Window]]:
        with self.level.reader() as read:
            write_tile = _TileWriter(self.tiff, self.tiff.levels[self.number])
            write_mask = None
            if self.tiff.mask:
                write_mask = _TileWriter(self.tiff.mask, self.tiff.mask.levels[self.number])

            def write_unit(unit: Window) -> Window:
                planes, mask = read(unit)
                write_tile.write(unit, planes)
                if write_mask:
                    valid = np.ones(shape_of(unit), np.bool_) if mask is None else mask
                    write_mask.write(unit, valid[np.newaxis])
                return unit

            yield write_unit


class _TileWriter:
    """Writer of the tiles of a level for one thread."""

    def __init__(self, tiff: TiledTiff, level: TiffLevel) -> None:
        self._tiff, self._level = tiff, level
        self._tile = tiff.layout.new_tile()

    def write(self, unit: Window, planes: Planes) -> None:
        """Write the unit's tiles; those in which every sample is blank are stored once."""
        top, left = unit[0].start, unit[1].start
        for place_yx, (rows, cols) in tiles_within(unit, self._tiff.layout.tile_yx):
            part = planes[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
            if self._is_blank(part):
                self._tiff.put_blank(self._level, place_yx)
            else:
                fill_tile(self._tile, part)
                self._tiff.put(self._level, place_yx, self._tile)

    def _is_blank(self, part: Planes) -> bool:
        """Whether every sample has the blank value; the corner is asked first, which most often tells."""
        blank = self._tiff.layout.blank
        is_nan = blank != blank  # noqa: PLR0124  NaN
        areas = (part[:, :1, :1], part)
        return all((np.isnan(area) if is_nan else area == blank).all() for area in areas)
