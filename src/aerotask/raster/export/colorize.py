"""Turns values into the pixels of a tile: colours from a table, three bands side by side, or the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.colormaps import colours_of
from aerotask.raster.export.options import ExportFormat
from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.evaluate import Flags, Floats
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.pixels import CHUNK_PX
from aerotask.raster.tiff.codec import Tile, TileLayout

OPAQUE = 255
NOTHING = 256
LAST_COLOUR = np.float32(255)


class Colorizer(Protocol):
    """Paints the tiles of one kind of result; it has buffers, so each thread needs its own."""

    @property
    def layout(self) -> TileLayout:
        """What the tiles look like in memory."""

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Fill some rows of the tile, up to `cols` columns; `values` are flat, one array for each channel."""


def colorizer_for(recipe: ExportPlan, *, tile_yx: tuple[int, int]) -> Colorizer:
    """The painter of what the recipe asks for, whose ranges must be settled."""
    if recipe.gives_values:
        return ValuesColorizer(samples=1 if recipe.formula else len(recipe.channels), tile_yx=tile_yx)
    if recipe.ranges is None:
        raise ValueError("the recipe's ranges aren't settled yet")
    if recipe.formula is None:
        return CompositeColorizer(recipe.ranges, tile_yx=tile_yx)
    entries = palette_entries() if recipe.format is ExportFormat.PALETTE else rgba_entries(recipe.colormap)
    return TableColorizer(entries, recipe.ranges[0], tile_yx=tile_yx)


def rgba_entries(colormap: str) -> NDArray[np.uint32]:
    """What to write for each of the 256 colours, as RGBA in one `uint32`, and behind them for "nothing here" (0)."""
    table = np.zeros((257, 4), np.uint8)
    table[:NOTHING, :3] = np.frombuffer(colours_of(colormap), np.uint8).reshape(256, 3)
    table[:NOTHING, 3] = OPAQUE
    return table.view(np.uint32).reshape(257)


def palette_entries() -> NDArray[np.uint8]:
    """What to write for each of the 256 colours, and behind them for "nothing here", as an index into a colour table.

    0 is kept for "nothing here"; the lowest colour shares entry 1 with the one above it.
    """
    return np.array([1, *range(1, 256), 0], np.uint8)


class TableColorizer:
    """One value per pixel, looked up in a table of 257 entries: 256 colours, and nothing."""

    def __init__(
        self, entries: NDArray[np.unsignedinteger], value_range: ValueRange, *, tile_yx: tuple[int, int]
    ) -> None:
        self.layout = TileLayout(tile_yx, entries.dtype, 0)
        self._entries = entries
        self._scaler = _Scaler(value_range)
        self._index = np.empty(CHUNK_PX, np.uint16)

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Look each pixel's colour up, and that of `NOTHING` for those that don't count."""
        index = self._index[: valid.size]
        np.copyto(index, self._scaler(values[0]), casting="unsafe")
        if not valid.all():
            np.copyto(index, NOTHING, where=~valid)
        # Every index is in the table; "clip" only spares numpy the buffer that it needs to be able to raise.
        np.take(self._entries, index.reshape(-1, cols), out=tile[rows, :cols], mode="clip")


class CompositeColorizer:
    """Three values per pixel, each scaled to a byte by its own range, and full alpha where they count."""

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
    """The values as they are, with NaN where there is nothing."""

    def __init__(self, *, samples: int, tile_yx: tuple[int, int]) -> None:
        self.layout = TileLayout((*tile_yx, samples), np.dtype(np.float32), np.nan)

    def paint(self, values: Sequence[Floats], valid: Flags, tile: Tile, *, rows: slice, cols: int) -> None:
        """Copy the values."""
        pixels = tile[rows, :cols]
        for channel, plane in enumerate(values):
            pixels[..., channel] = plane.reshape(-1, cols)
        pixels[~valid.reshape(-1, cols)] = np.nan


class _Scaler:
    """Maps values to clamp((v - min) / (max - min), 0, 1) * 255, in float32 throughout."""

    def __init__(self, value_range: ValueRange) -> None:
        self._low = np.float32(value_range.low)
        self._span = np.float32(value_range.high) - self._low
        self._scaled = np.empty(CHUNK_PX, np.float32)

    def __call__(self, values: Floats) -> Floats:
        """The scaled values, good until the next call; to be truncated by whoever takes them."""
        scaled = self._scaled[: values.size]
        np.subtract(values, self._low, out=scaled)
        np.divide(scaled, self._span, out=scaled)
        np.clip(scaled, 0, 1, out=scaled)
        return np.multiply(scaled, LAST_COLOUR, out=scaled)
