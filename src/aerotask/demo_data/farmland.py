"""Synthetic farmland: reflectances in five bands, computed anywhere on an unbounded plane.

Fields lie in irregular strips along tracks; each has a crop at some stage, sown in rows, that grows unevenly. Hedges
follow some of the tracks. Spectra are rounded from what is usual for such surfaces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aerotask.demo_data.noise import Area, Floats, Ints, hashed, layered_noise

BANDS = ("red", "green", "blue", "nir", "rededge")

SOIL = (0.205, 0.152, 0.084, 0.270, 0.235)
TRACK = (0.310, 0.275, 0.225, 0.350, 0.330)
ROAD = (0.150, 0.150, 0.150, 0.165, 0.155)
VERGE = (0.090, 0.112, 0.042, 0.340, 0.210)
LITTER = (0.075, 0.080, 0.040, 0.260, 0.150)
CROWN = (0.046, 0.074, 0.030, 0.430, 0.200)
# One row for each crop, in the order of the bands: full cover of it.
CROPS = (
    (0.048, 0.085, 0.026, 0.520, 0.230),  # maize
    (0.062, 0.110, 0.032, 0.460, 0.240),  # beet
    (0.275, 0.228, 0.138, 0.400, 0.350),  # ripe grain
    (0.080, 0.112, 0.038, 0.410, 0.220),  # meadow
    (0.205, 0.185, 0.050, 0.480, 0.330),  # rape in flower
    (0.055, 0.090, 0.031, 0.400, 0.200),  # potatoes
)
BARE_SHARE = 0.2
"""Share of freshly tilled fields; the next is the share of wooded ones."""
COPSE_SHARE = 0.06
ROAD_SHARE, HEDGE_SHARE = 0.35, 0.5
"""Shares of the tracks between strips that are paved, and that have trees along them."""

STRIP_PX, FIELD_PX = 900, 620
TRACK_HALF_PX, VERGE_HALF_PX = 13, 16
TREE_CELL_PX = 44
_ANGLE = math.radians(14)


@dataclass(frozen=True, slots=True)
class Fields:
    """Field of each point, distances to the nearest borders (px), and position along the rows."""

    strips: Ints
    numbers: Ints
    """Strips and field numbers that occur; `index` enumerates their pairs, strip by strip."""
    index: Ints
    to_track_px: Floats
    to_border_px: Floats
    along: Floats
    across: Floats

    def draw(self, salt: int) -> Floats:
        """A random number from 0 to 1 at each point, constant within a field."""
        return np.take(hashed(self.numbers[None, :], self.strips[:, None], salt).ravel(), self.index)

    def draw_by_track(self, salt: int) -> Floats:
        """As `draw`, but constant along the nearest track, which has half its width in each of two strips."""
        return hashed(np.round(self.across / STRIP_PX).astype(np.int64), 0, salt)


@dataclass(frozen=True, slots=True)
class Farmland:
    """Landscape of farmland, determined by its seed."""

    seed: int

    def reflectance(self, top: int, left: int, shape_yx: tuple[int, int]) -> Floats:
        """Reflectance from 0 to about 0.7 in a window of the plane, (bands, rows, cols)."""
        rows = np.arange(top, top + shape_yx[0], dtype=np.float32)[:, None]
        cols = np.arange(left, left + shape_yx[1], dtype=np.float32)[None, :]
        fields = self.fields_at(rows, cols)
        area = Area(top, left, shape_yx)
        relief = layered_noise(area, steps_px=(700, 240, 60), salt=self._salt(1))
        grain = layered_noise(area, steps_px=(9, 4, 2), salt=self._salt(2), falloff=0.8)
        ground = self._ground(fields, relief, grain)
        self._plant_trees(ground, top, left)
        ground *= 1 + np.float32(0.16) * grain + np.float32(0.05) * relief
        return np.maximum(ground, np.float32(0.004), out=ground)

    def fields_at(self, rows: Floats, cols: Floats) -> Fields:
        """The field of each point; `rows` and `cols` broadcast."""
        cos, sin = np.float32(math.cos(_ANGLE)), np.float32(math.sin(_ANGLE))
        across, along = cols * cos + rows * sin, rows * cos - cols * sin
        along += 14 * np.sin(across / np.float32(310) + np.float32(self.seed))
        strips, strip_borders = self._borders(across, STRIP_PX, np.zeros(1, np.int64), salt=3)
        strip, to_track = _locate(across, STRIP_PX, strips, strip_borders, np.zeros_like(across, np.intp))
        numbers, borders = self._borders(along, FIELD_PX, strips, salt=4)
        field, to_end = _locate(along, FIELD_PX, numbers, borders, strip)
        index = strip * numbers.size + field
        return Fields(strips, numbers, index, to_track, np.minimum(to_track, to_end), along, across)

    def _borders(self, position: Floats, size_px: int, lines: Ints, *, salt: int) -> tuple[Ints, Floats]:
        """Cells of an irregular division of each line around the positions, and the start of each cell on each line."""
        numbers = np.arange(int(position.min() // size_px) - 2, int(position.max() // size_px) + 4)
        shift = (hashed(numbers[None, :], lines[:, None], self._salt(salt)) - np.float32(0.5)) * np.float32(
            0.55
        )
        return numbers, (numbers.astype(np.float32)[None, :] + shift) * np.float32(size_px)

    def _ground(self, fields: Fields, relief: Floats, grain: Floats) -> Floats:
        """The fields, their verges, and tracks and roads between the strips."""
        cover = self._cover(fields, relief)
        crop = np.minimum(fields.draw(self._salt(11)) * len(CROPS), len(CROPS) - 1).astype(np.intp)
        crops = np.array(CROPS, np.float32)
        soil_light = (
            np.float32(0.8) + np.float32(0.35) * fields.draw(self._salt(5)) + np.float32(0.2) * relief
        )
        in_copse = fields.draw(self._salt(15)) < COPSE_SHARE
        is_verge = fields.to_border_px < VERGE_HALF_PX * (np.float32(0.75) + np.float32(0.5) * grain)
        verge_light = 1 + np.float32(0.25) * relief
        on_track = fields.to_track_px < TRACK_HALF_PX + 2 * grain
        is_road = fields.draw_by_track(self._salt(6)) < ROAD_SHARE
        in_rut = np.abs(fields.to_track_px - TRACK_HALF_PX / 2) > 3
        ground = np.empty((len(BANDS), *cover.shape), np.float32)
        for band in range(len(BANDS)):
            plane = np.float32(SOIL[band]) * soil_light
            plane += (np.take(crops[:, band], crop) - plane) * cover
            np.copyto(plane, np.float32(LITTER[band]), where=in_copse)
            np.copyto(plane, np.float32(VERGE[band]) * verge_light, where=is_verge)
            np.copyto(plane, np.float32(VERGE[band]), where=on_track)
            np.copyto(plane, np.float32(TRACK[band]), where=on_track & in_rut)
            np.copyto(plane, np.float32(ROAD[band]), where=on_track & is_road)
            ground[band] = plane
        return ground

    def _cover(self, fields: Fields, relief: Floats) -> Floats:
        """The share of soil covered by plants: by the field's stage, in rows, thinner where growth is poor."""
        stage, is_bare = fields.draw(self._salt(7)), fields.draw(self._salt(8)) < BARE_SHARE
        vigour = np.clip(np.float32(0.35) + np.float32(0.75) * stage + np.float32(0.55) * relief, 0, 1)
        rows = np.where(fields.draw(self._salt(9)) < 0.7, fields.across, fields.along)
        spacing_px = 7 + np.floor(5 * fields.draw(self._salt(10)))
        in_row = np.float32(0.5) + np.float32(0.5) * np.cos(rows * (np.float32(2 * math.pi) / spacing_px))
        closed = np.clip(vigour * np.float32(1.5) - np.float32(0.45), 0, 1)
        cover = vigour * (closed + (1 - closed) * in_row)
        wheel_px = np.abs(np.mod(rows, np.float32(210)) - np.float32(105))
        cover *= np.where((wheel_px > 8) & (wheel_px < 12), np.float32(0.35), np.float32(1))
        weeds = np.clip(np.float32(0.06) + np.float32(0.3) * relief, np.float32(0.02), 1)
        covered: Floats = np.where(is_bare, weeds, cover)
        return covered

    def _plant_trees(self, ground: Floats, top: int, left: int) -> None:
        """Draw trees with shadows: along some tracks, in a few copses, and isolated ones."""
        rows, cols, radii = self._trees_near(top, left, ground.shape[1:])
        for row, col, radius in zip(rows, cols, radii, strict=True):
            _shade(ground, row - top + radius * 0.75, col - left - radius * 0.95, radius)
        for row, col, radius in zip(rows, cols, radii, strict=True):
            _paint_crown(ground, row - top, col - left, radius)

    def _trees_near(self, top: int, left: int, shape_yx: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
        """Centres and crown radii (px) of the trees that reach into a window."""
        margin = 2
        cell_rows = np.arange(top // TREE_CELL_PX - margin, (top + shape_yx[0]) // TREE_CELL_PX + margin + 1)
        cell_cols = np.arange(
            left // TREE_CELL_PX - margin, (left + shape_yx[1]) // TREE_CELL_PX + margin + 1
        )
        grid_rows, grid_cols = (axis.ravel() for axis in np.meshgrid(cell_rows, cell_cols, indexing="ij"))
        rows = (grid_rows + hashed(grid_rows, grid_cols, self._salt(12))) * np.float32(TREE_CELL_PX)
        cols = (grid_cols + hashed(grid_rows, grid_cols, self._salt(13))) * np.float32(TREE_CELL_PX)
        fields = self.fields_at(rows, cols)
        has_hedge = fields.draw_by_track(self._salt(14)) < HEDGE_SHARE
        in_hedge = (
            has_hedge & (fields.to_track_px > TRACK_HALF_PX + 6) & (fields.to_track_px < VERGE_HALF_PX + 22)
        )
        in_copse = fields.draw(self._salt(15)) < COPSE_SHARE
        on_border = (fields.to_border_px < VERGE_HALF_PX) & (fields.to_track_px > VERGE_HALF_PX)
        chance = np.where(in_hedge, 0.85, np.where(in_copse, 0.95, np.where(on_border, 0.12, 0.002)))
        grows = hashed(grid_rows, grid_cols, self._salt(16)) < chance
        radii = 10 + 19 * hashed(grid_rows, grid_cols, self._salt(17))
        return rows[grows], cols[grows], radii[grows]

    def _salt(self, purpose: int) -> int:
        return self.seed * 64 + purpose


def _locate(
    position: Floats, size_px: int, numbers: Ints, borders: Floats, line: Ints
) -> tuple[Ints, Floats]:
    """The cell of its line that each position is in (from the first of `numbers`), and the distance to its ends."""
    flat = borders.ravel()
    first_of_line = line * numbers.size - int(numbers[0])
    cell = first_of_line + np.floor(position / np.float32(size_px)).astype(np.intp)
    cell -= position < np.take(flat, cell)
    cell += position >= np.take(flat, cell + 1)
    to_end = np.minimum(position - np.take(flat, cell), np.take(flat, cell + 1) - position)
    return cell - line * numbers.size, to_end


def _disc(
    ground: Floats, row: float, col: float, radius: float
) -> tuple[tuple[slice, slice], Floats, Floats, Floats]:
    """The part of a window around a disc, each pixel's offset from the centre, and its squared distance in radii."""
    rows = slice(max(int(row - radius), 0), max(min(int(row + radius) + 2, ground.shape[1]), 0))
    cols = slice(max(int(col - radius), 0), max(min(int(col + radius) + 2, ground.shape[2]), 0))
    down: Floats = (np.arange(rows.start, max(rows.stop, rows.start))[:, None] - row).astype(
        np.float32
    ) / radius
    right: Floats = (np.arange(cols.start, max(cols.stop, cols.start))[None, :] - col).astype(
        np.float32
    ) / radius
    return (rows, cols), down, right, down * down + right * right


def _shade(ground: Floats, row: float, col: float, radius: float) -> None:
    area, _, _, distance = _disc(ground, row, col, radius)
    ground[(slice(None), *area)] *= np.where(distance < 1, np.float32(0.5), np.float32(1))


def _paint_crown(ground: Floats, row: float, col: float, radius: float) -> None:
    """A crown lit from the upper right, ragged at its edge."""
    area, down, right, distance = _disc(ground, row, col, radius)
    around = np.arctan2(down, right)
    ragged = distance + 0.08 * np.sin(7 * around + radius) + 0.06 * np.sin(16 * around - 2 * radius)
    light = np.clip(
        np.float32(0.95) + np.float32(0.45) * (right - down) - np.float32(0.25) * distance, 0.35, 1.6
    )
    for band, reflectance in enumerate(CROWN):
        plane = ground[band][area]
        np.copyto(plane, np.float32(reflectance) * light, where=ragged < np.float32(0.85))
