"""Colorizers: from values to the pixels of a tile, by a colour table, as an RGB composite, or as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from aerotask.domain.errors import InvalidInput
from aerotask.raster.colormaps import colours_of
from aerotask.raster.export.options import ExportFormat
from aerotask.raster.export.physical_values import INT16_MAX, INT16_NODATA
from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.evaluate import Flags, Floats
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.pixels import CHUNK_PX
from aerotask.raster.profile import Scaling
from aerotask.raster.tiff.codec import Tile, TileLayout

OPAQUE = 255
NOTHING = 256
LAST_COLOUR = np.float32(255)


class Colorizer(Protocol):
    """Fills the tiles of one kind of result; not thread-safe, since it has buffers."""

    @property
    def layout(self) -> TileLayout:
        """Memory layout of the tiles."""

    @property
    def clipped_px(self) -> int:
        """Number of pixels so far whose value the tiles can't hold."""

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Fill some rows of the tile, up to `cols` columns; `values` are flat, one array for each channel."""


def colorizer_for(plan: ExportPlan, source: Any, *, tile_yx: tuple[int, int]) -> Colorizer:
    """The colorizer for a plan, whose ranges must be set, and the open raster.

    Raises:
        InvalidInput: transparent pixels would be lost in a palette (`palette-impossible`).
    """
    if plan.gives_values and plan.data_type == "int16":
        if plan.number_scaling is None:
            raise ValueError("the plan's scale and offset aren't set yet")
        return Int16Colorizer(plan.number_scaling, tile_yx=tile_yx)
    if plan.gives_values:
        return ValuesColorizer(samples=1 if plan.formula else len(plan.channels), tile_yx=tile_yx)
    if plan.ranges is None:
        raise ValueError("the plan's ranges aren't set yet")
    if plan.formula is None:
        return CompositeColorizer(plan.ranges, tile_yx=tile_yx)
    if plan.keeps_colours:
        own = own_colours(source, plan.source_bands[0])
        if plan.format is not ExportFormat.PALETTE:
            return TableColorizer(own.view(np.uint32).reshape(257), None, tile_yx=tile_yx)
        blank = blank_entry(source, plan.source_bands[0], is_cut=plan.is_cut)
        return TableColorizer(np.array([*range(256), blank or 0], np.uint8), None, tile_yx=tile_yx)
    entries = palette_entries() if plan.format is ExportFormat.PALETTE else rgba_entries(plan.colormap)
    return TableColorizer(entries, plan.ranges[0], tile_yx=tile_yx)


def rgba_entries(colormap: str) -> NDArray[np.uint32]:
    """RGBA (one `uint32`) of each of the 256 colours, followed by the entry for "no value" (0)."""
    table = np.zeros((257, 4), np.uint8)
    table[:NOTHING, :3] = np.frombuffer(colours_of(colormap), np.uint8).reshape(256, 3)
    table[:NOTHING, 3] = OPAQUE
    return table.view(np.uint32).reshape(257)


def own_colours(source: Any, band: int) -> NDArray[np.uint8]:
    """RGBA of each of the 256 entries of a band's colour table, followed by that of "no value"; (257, 4)."""
    table = np.zeros((257, 4), np.uint8)
    for entry, colour in source.colormap(band).items():
        table[entry] = colour if colour[3] else 0
    return table


def blank_entry(source: Any, band: int, *, is_cut: bool) -> int | None:
    """The entry of a band's colour table that stands for no value: its nodata value, or a transparent entry.

    Raises:
        InvalidInput: there is none, but the raster has pixels without a value or is cut (`palette-impossible`).
    """
    nodata = source.nodatavals[band - 1]
    if nodata is not None and nodata in range(256):
        return int(nodata)
    transparent = [entry for entry, colour in source.colormap(band).items() if not colour[3]]
    flags = source.mask_flag_enums[band - 1]
    if not transparent and (is_cut or MaskFlags.per_dataset in flags or MaskFlags.alpha in flags):
        raise InvalidInput(
            "Pixels are transparent or outside of the cutline, but the raster has no entry of its colour table for them; take "
            "format 'gtiff' or 'cog'.",
            code="palette-impossible",
        )
    return min(transparent, default=None)


def palette_entries() -> NDArray[np.uint8]:
    """Palette index of each of the 256 colours, followed by that of "no value".

    0 is reserved for "no value"; the lowest colour shares entry 1 with the one above it.
    """
    return np.array([1, *range(1, 256), 0], np.uint8)


class TableColorizer:
    """Colour mapping of one value per pixel, by a table of 257 entries: 256 colours and "no value".

    Without a range the values are the numbers of the colours.
    """

    clipped_px = 0

    def __init__(
        self,
        entries: NDArray[np.unsignedinteger],
        value_range: ValueRange | None,
        *,
        tile_yx: tuple[int, int],
    ) -> None:
        self.layout = TileLayout(tile_yx, entries.dtype, 0)
        self._entries = entries
        self._scaler = None if value_range is None else _Scaler(value_range)
        self._index = np.empty(CHUNK_PX, np.uint16)

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Look up the colour of each valid pixel; the others get the entry `NOTHING`."""
        index = self._index[: valid.size]
        numbers = values[0] if self._scaler is None else self._scaler(values[0])
        np.copyto(index, numbers, casting="unsafe")
        if not valid.all():
            np.copyto(index, NOTHING, where=~valid)
        # Every index is in the table; the default mode "raise" would make numpy buffer the output.
        np.take(self._entries, index.reshape(-1, cols), out=tile[rows, :cols], mode="clip")


class CompositeColorizer:
    """RGB composite of three values per pixel, each scaled to a byte by its own range; valid pixels are opaque."""

    clipped_px = 0

    def __init__(self, ranges: Sequence[ValueRange], *, tile_yx: tuple[int, int]) -> None:
        self.layout = TileLayout(tile_yx, np.dtype(np.uint32), 0)
        self._scalers = [_Scaler(value_range) for value_range in ranges]

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Scale each channel by its range."""
        pixels = tile.view(np.uint8).reshape(*tile.shape, 4)[rows, :cols]
        alpha = valid.view(np.uint8) * np.uint8(OPAQUE)
        for channel, (scaler, plane) in enumerate(zip(self._scalers, values, strict=True)):
            level = scaler(plane).astype(np.uint8)
            pixels[..., channel] = np.bitwise_and(level, alpha).reshape(-1, cols)
        pixels[..., 3] = alpha.reshape(-1, cols)


class ValuesColorizer:
    """Unchanged values as float32, with NaN for pixels without a value."""

    clipped_px = 0

    def __init__(self, *, samples: int, tile_yx: tuple[int, int]) -> None:
        self.layout = TileLayout((*tile_yx, samples), np.dtype(np.float32), np.nan)

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Copy the values."""
        pixels = tile[rows, :cols]
        for channel, plane in enumerate(values):
            pixels[..., channel] = plane.reshape(-1, cols)
        pixels[~valid.reshape(-1, cols)] = np.nan


class Int16Colorizer:
    """Values as the nearest Int16 numbers by scale and offset; those beyond the numbers get the nearest of these."""

    def __init__(self, scaling: Scaling, *, tile_yx: tuple[int, int]) -> None:
        self.layout = TileLayout((*tile_yx, 1), np.dtype(np.int16), INT16_NODATA)
        self.clipped_px = 0
        self._scale, self._offset = scaling

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Round each value; pixels without a value get the nodata number."""
        numbers = np.rint((values[0].astype(np.float64) - self._offset) / self._scale)
        self.clipped_px += int(np.count_nonzero((np.abs(numbers) > INT16_MAX) & valid))
        np.clip(numbers, -INT16_MAX, INT16_MAX, out=numbers)
        numbers[~valid] = INT16_NODATA
        tile[rows, :cols, 0] = numbers.reshape(-1, cols)


class _Scaler:
    """Maps values to clamp((v - min) / (max - min), 0, 1) * 255, in float32 throughout."""

    def __init__(self, value_range: ValueRange) -> None:
        self._low = np.float32(value_range.low)
        self._span = np.float32(value_range.high) - self._low
        self._scaled = np.empty(CHUNK_PX, np.float32)

    def __call__(self, values: Floats) -> Floats:
        """The scaled values, overwritten by the next call; the caller truncates them."""
        scaled = self._scaled[: values.size]
        np.subtract(values, self._low, out=scaled)
        np.divide(scaled, self._span, out=scaled)
        np.clip(scaled, 0, 1, out=scaled)
        return np.multiply(scaled, LAST_COLOUR, out=scaled)
