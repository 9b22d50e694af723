"""COG writer for pixels in the type of their source: threads read units of it and write their tiles, then overviews.

The source's description, nodata value, mask, colour table, ICC profile and XMP are kept. Peak memory follows from
`UNITS_BYTES` and `cog_levels.TILE_BYTES`, and not from the raster's size.
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
from aerotask.raster.overviews import (
    Halve,
    OverviewRules,
    Quarter,
    halving_for,
    put_halved,
    write_overviews,
)
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.pixels import has_own_mask, native_nodata
from aerotask.raster.tiff.codec import FAST, Tile, TileLayout
from aerotask.raster.tiff.cog_layout import ImageFields, arrange_cog, scratch_tiff
from aerotask.raster.tiff.cog_levels import cog_tile_shape, overview_shapes
from aerotask.raster.tiff.directory import CLASSIC_LIMIT_BYTES
from aerotask.raster.tiff.template import (
    Georeference,
    describe_source,
    embedded_fields,
    georeference_of,
    template_fields,
)
from aerotask.raster.tiff.writer import TiffLevel, TiledTiff
from aerotask.raster.windows import Shape, Window, grid_shape, shape_of, tiles_within, windows

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
    deflate_level: int = FAST
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES

    @property
    def effective_rules(self) -> OverviewRules:
        """The rules without the nodata value, if there is a mask: that decides alone."""
        return replace(self.rules, nodata=None) if self.has_mask else self.rules


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
    fields += embedded_fields(source)
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
    with scratch_tiff(
        target, image.layout, deflate_level=image.deflate_level, with_mask=image.has_mask
    ) as tiff:
        total = sum(_unit_count(level) for level in levels)
        done = 0
        for level in levels:
            writer = _LevelWriter(tiff, len(tiff.levels), level)
            tiff.add_level(level.shape_yx)
            report = partial(_report_units, done, total, on_stage)
            writer.write(threads=threads, on_unit=report)
            done += _unit_count(level)
        rules = image.effective_rules
        write_overviews(tiff, threads=threads, on_progress=partial(on_stage, "overviews"), rules=rules)
        return arrange_cog(
            tiff,
            target,
            image.fields,
            on_progress=partial(on_stage, "cog"),
            classic_limit_bytes=image.classic_limit_bytes,
        )


def write_overview_cog(
    image: CogImage, level: CogLevel, target: Path, *, threads: int, on_stage: OnStage
) -> int:
    """Write a COG of the overviews of `level` alone, pixel by pixel those of `write_cog`, and return its size.

    The image of this COG is the first overview, of half the size. `target` must not exist, and the units of the level
    must be whole multiples of two tiles.

    Raises:
        InvalidInput: the source is damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
    """
    with scratch_tiff(target, image.layout, deflate_level=FAST, with_mask=image.has_mask) as tiff:
        tiff.add_level(overview_shapes(level.shape_yx, image.layout.tile_yx)[0])
        rules = image.effective_rules
        writer = _HalvedWriter(tiff, level, halving_for(image.layout, rules))
        writer.write(threads=threads, on_progress=partial(on_stage, "pixels"))
        write_overviews(tiff, threads=threads, on_progress=partial(on_stage, "overviews"), rules=rules)
        return arrange_cog(tiff, target, image.fields, on_progress=partial(on_stage, "cog"))


def _fill_tile(tile: Tile, planes: Planes) -> None:
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
    tile_yx = cog_tile_shape(shape_yx, bytes_per_px)
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
            if _is_blank(part, self._tiff.layout.blank):
                self._tiff.put_blank(self._level, place_yx)
            else:
                _fill_tile(self._tile, part)
                self._tiff.put(self._level, place_yx, self._tile)


@dataclass(frozen=True, slots=True)
class _HalvedWriter:
    """Writer of the first overview of a level that isn't stored itself."""

    tiff: TiledTiff
    level: CogLevel
    halve: Halve

    def write(self, *, threads: int, on_progress: Callable[[float], None]) -> None:
        done, total = 0, _unit_count(self.level)

        def count(_unit: Window) -> None:
            nonlocal done
            done += 1
            on_progress(done / total)

        units = windows(self.level.shape_yx, self.level.unit_yx)
        run_in_threads(units, threads=threads, worker=self._worker, on_result=count)

    @contextmanager
    def _worker(self) -> Iterator[Callable[[Window], Window]]:
        rows, cols = self.tiff.layout.tile_yx
        with self.level.reader() as read:

            def write_unit(unit: Window) -> Window:
                planes, mask = read(unit)
                for place_yx, area in tiles_within(unit, (2 * rows, 2 * cols)):
                    put_halved(self.tiff, 0, place_yx, self.halve, self._quarters(unit, area, planes, mask))
                return unit

            yield write_unit

    def _quarters(self, unit: Window, area: Window, planes: Planes, mask: Mask | None) -> Iterator[Quarter]:
        """The tiles of the level within the area, as `write_cog` would have stored them."""
        top, left = unit[0].start, unit[1].start
        for (row, col), (rows, cols) in tiles_within(area, self.tiff.layout.tile_yx):
            part = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
            tile = self._tile(self.tiff, planes[:, part[0], part[1]])
            valid = None
            if self.tiff.mask:
                of_part = np.ones(shape_of(part), np.bool_) if mask is None else mask[part]
                valid = self._tile(self.tiff.mask, of_part[np.newaxis])
            yield Quarter((row % 2, col % 2), tile, valid)

    @staticmethod
    def _tile(tiff: TiledTiff, part: Planes) -> Tile | None:
        if _is_blank(part, tiff.layout.blank):
            return None
        tile = tiff.layout.new_tile()
        _fill_tile(tile, part)
        return tile


def _is_blank(part: Planes, blank: float) -> bool:
    """Whether every sample has the blank value; the corner is asked first, which most often tells."""
    is_nan = blank != blank  # noqa: PLR0124  NaN
    areas = (part[:, :1, :1], part)
    return all((np.isnan(area) if is_nan else area == blank).all() for area in areas)
