"""Merge pipeline: several single-band rasters written as one multi-band COG, pixel for pixel.

Each thread reads a unit of all bands, from every source at its own offset. Peak memory follows from `UNITS_BYTES` and
`TILE_BYTES`, and not from the rasters' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from aerotask.raster.cog import CogImage, CogLevel, OnStage, ReadUnit, write_cog
from aerotask.raster.io import block_bytes, open_raster
from aerotask.raster.merge.plan import MergePlan
from aerotask.raster.overviews import OverviewRules
from aerotask.raster.parallel import MAX_THREADS
from aerotask.raster.tiff.codec import DEFLATE_LEVEL, TileLayout, tile_shape
from aerotask.raster.tiff.cog_layout import ImageFields
from aerotask.raster.tiff.directory import CLASSIC_LIMIT_BYTES
from aerotask.raster.tiff.exif import carried_exif
from aerotask.raster.tiff.template import Georeference, TemplateFields, georeference_of, template_fields
from aerotask.raster.windows import Shape, Window, shape_of, unit_shape

TILE_PX = 512
TILE_BYTES = 8 * 1024 * 1024
"""Maximum size of a tile with all its bands: with many bands, tiles have fewer pixels."""
UNITS_BYTES = 256 * 1024 * 1024
"""Memory for source pixels, of all threads together; a raster in strips is read across its whole width."""
DECODING_BYTES = 256 * 1024 * 1024
"""Memory for decoding the sources' blocks, of all threads together; large blocks are read by fewer threads."""
SOFTWARE = "Aerotask merge-multispectral"


@dataclass(frozen=True, slots=True)
class MergeWriteOptions:
    """Options of the pipeline; production uses the defaults, tests and benchmarks set others."""

    threads: int
    tile_px: int = TILE_PX
    unit_yx: Shape | None = None
    """The unit's shape in whole tiles, instead of the one planned from the sources' blocks."""
    deflate_level: int = DEFLATE_LEVEL
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES
    exif: Mapping[str, Any] = field(default_factory=dict)
    """EXIF tags by name, as read by `metadata.exif`: the source of position, time and camera."""


def merge_bands(plan: MergePlan, target: Path, *, writing: MergeWriteOptions, on_stage: OnStage) -> int:
    """Write the COG at `target`, which must not exist, and return its size.

    Raises:
        InvalidInput: a source is damaged (`damaged-raster`).
        OSError: the target can't be written; its `errno` says why.
    """
    layout = _layout(plan, writing.tile_px)
    carried = carried_exif(writing.exif)
    with _opened(plan) as sources:
        georeference = Georeference() if plan.is_shifted else georeference_of(sources[0])
        threads = _threads(sources, writing.threads)
        unit_yx = writing.unit_yx or _unit_shape(plan, sources, layout, threads)
    fields = {item.code: item for item in template_fields(describe_merged(plan, layout), georeference)}
    fields |= {item.code: item for item in carried.fields}
    image = CogImage(
        layout,
        ImageFields(tuple(fields.values()), carried.sub_directories),
        OverviewRules(nodata=plan.first.bands[0].nodata),
        has_mask=False,
        deflate_level=writing.deflate_level,
        classic_limit_bytes=writing.classic_limit_bytes,
    )
    level = CogLevel(plan.shape_yx, unit_yx, partial(_unit_reader, plan, layout.dtype))
    return write_cog(image, [level], target, threads=threads, on_stage=on_stage)


def describe_merged(plan: MergePlan, layout: TileLayout) -> TemplateFields:
    """TIFF fields and tags that describe the merged bands."""
    return TemplateFields(
        dtype=plan.first.bands[0].dtype,
        band_names=tuple(band.name for band in plan.bands),
        colours=tuple(ColorInterp[band.colour] for band in plan.bands),
        nodata=plan.first.bands[0].nodata,
        tags={"TIFFTAG_SOFTWARE": SOFTWARE},
        scalings=tuple(
            (source.profile.bands[0].scale, source.profile.bands[0].offset) for source in plan.sources
        ),
        predictor=layout.predictor,
    )


@contextmanager
def _opened(plan: MergePlan) -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_raster(source.file)) for source in plan.sources]


def _layout(plan: MergePlan, tile_px: int) -> TileLayout:
    dtype = np.dtype(plan.first.bands[0].dtype)
    count = len(plan.sources)
    bytes_per_px = count * dtype.itemsize
    tile_yx = tile_shape(plan.shape_yx, tile_px=tile_px, bytes_per_px=bytes_per_px, max_bytes=TILE_BYTES)
    return TileLayout((*tile_yx, count), dtype, 0)


def _threads(sources: list[Any], wanted: int) -> int:
    decoded_bytes = sum(block_bytes(source) for source in sources)
    return max(1, min(wanted, MAX_THREADS, DECODING_BYTES // (2 * decoded_bytes)))


def _unit_shape(plan: MergePlan, sources: list[Any], layout: TileLayout, threads: int) -> Shape:
    block_yx = tuple(max(source.block_shapes[0][axis] for source in sources) for axis in (0, 1))
    return unit_shape(
        plan.shape_yx,
        tile_yx=layout.tile_yx,
        block_yx=(block_yx[0], block_yx[1]),
        bytes_per_px=len(sources) * layout.dtype.itemsize,
        unit_bytes=UNITS_BYTES // threads,
    )


@contextmanager
def _unit_reader(plan: MergePlan, dtype: np.dtype[Any]) -> Iterator[ReadUnit]:
    """The sources and the buffer of one thread."""
    with _opened(plan) as sources:
        reader = _UnitReader(sources, plan, dtype)
        yield lambda unit: (reader.read(unit), None)


class _UnitReader:
    """Reader of a unit of the output from all sources, each at its own offset, into one buffer."""

    def __init__(self, sources: list[Any], plan: MergePlan, dtype: np.dtype[Any]) -> None:
        self._sources, self._offsets = sources, plan.offsets
        self._buffer = np.empty(0, dtype)

    def read(self, unit: Window) -> NDArray[Any]:
        """The pixels (bands, rows, cols); they are overwritten by the next read."""
        rows, cols = shape_of(unit)
        size = len(self._sources) * rows * cols
        if self._buffer.size < size:
            self._buffer = np.empty(size, self._buffer.dtype)
        planes = self._buffer[:size].reshape(-1, rows, cols)
        for plane, source, (down, right) in zip(planes, self._sources, self._offsets, strict=True):
            area = RasterioWindow(unit[1].start + right, unit[0].start + down, cols, rows)
            source.read(1, window=area, out=plane)
        return planes
