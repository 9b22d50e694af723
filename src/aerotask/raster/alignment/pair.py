"""Raster pair of an alignment: the bands that are compared, and both rasters' positions in the common plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from aerotask.domain.errors import InvalidInput
from aerotask.raster.alignment.common_grid import CommonPlane, Grid, map_grid, reproject, same_crs
from aerotask.raster.alignment.footprints import intersection
from aerotask.raster.alignment.match.reading import BrightnessReader
from aerotask.raster.alignment.match.sampling import PlaneView
from aerotask.raster.alignment.match.similarity import Points
from aerotask.raster.bands import find_roles
from aerotask.raster.expression.indices import index_ids
from aerotask.raster.io import open_raster
from aerotask.raster.parallel import MAX_THREADS
from aerotask.raster.pixels import SourceFile
from aerotask.raster.profile import RasterProfile

MOST_BANDS = 3
DECODING_BYTES = 256 * 1024 * 1024
"""Memory for decoding blocks, of all threads together."""
_INDICES = frozenset(name.upper() for name in index_ids())
ELEVATION_TYPES = frozenset({"int16", "int32", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class PairRaster:
    """Raster of a pair: its file, its grid in map coordinates, and the bands that are compared."""

    file: SourceFile
    crs: str
    in_map: Grid
    bands: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and reference, and the plane (the source's map, about the centre of the overlap) for both."""

    source: PairRaster
    reference: PairRaster
    plane: CommonPlane
    compared: str
    """Description of the compared bands, for the log."""
    of_elevations: bool

    @property
    def source_grid(self) -> Grid:
        """The source's own grid in the plane."""
        return self.plane.grid(self.source.in_map)

    def locate_in_source(self, points: Points) -> Points:
        """Points of the plane as positions in the source, in pixels."""
        return self.source_grid.pixels(points)

    def locate_in_reference(self, points: Points) -> Points:
        """Points of the plane as positions in the reference, in pixels."""
        in_map = reproject(self.plane.to_map(points), self.source.crs, self.reference.crs)
        return self.reference.in_map.pixels(in_map)

    def reference_points(self, pixels: Points) -> Points:
        """Pixels of the reference as points of the plane."""
        in_map = self.reference.in_map.plane_points(pixels)
        return self.plane.from_map(reproject(in_map, self.reference.crs, self.source.crs))

    def fitting_threads(self, threads: int) -> int:
        """The number of threads that may read at a time: large blocks are decoded by fewer."""
        largest = max(_block_bytes(raster.file.profile) for raster in (self.source, self.reference))
        return max(1, min(threads, MAX_THREADS, DECODING_BYTES // (2 * largest)))

    @contextmanager
    def views(self, *, factor: int = 1) -> Iterator[tuple[PlaneView, PlaneView]]:
        """Open source and reference for this thread alone.

        With a factor, overviews are used whose pixels are at most `factor` pixels of the source long.
        """
        detail = factor * self.source_grid.pixel_length
        with (
            _view(self.source, self.locate_in_source, detail) as source,
            _view(self.reference, self.locate_in_reference, detail) as reference,
        ):
            yield source, reference


def _block_bytes(profile: RasterProfile) -> int:
    """An upper bound of what GDAL decodes at a time: the profile doesn't tell if bands are interleaved."""
    width, height = profile.block_size
    return width * height * sum(np.dtype(band.dtype).itemsize for band in profile.bands)


def pixels_along(locate: Callable[[Points], Points], length: float) -> float:
    """A raster's number of pixels along a line of the plane, near its centre; 1 if it is undefined."""
    ends = locate(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * length)
    pixels = abs(float(np.linalg.det(ends[1:] - ends[0])))
    return math.sqrt(pixels) if math.isfinite(pixels) and pixels > 0 else 1.0


@contextmanager
def _view(raster: PairRaster, locate: Callable[[Points], Points], detail: float) -> Iterator[PlaneView]:
    """The raster, or the smallest of its overviews whose pixels are no longer than `detail` in the plane."""
    profile = raster.file.profile
    level = best_overview(profile, pixels_along(locate, detail))
    with open_raster(raster.file.path, overview_level=level) as opened:
        share = np.array([opened.width / profile.width, opened.height / profile.height])
        yield PlaneView(BrightnessReader(opened, raster.bands), lambda points: locate(points) * share)


def best_overview(profile: RasterProfile, detail_px: float) -> int | None:
    """The index of the smallest overview whose pixels are at most `detail_px` of the raster's long; None without one."""
    sizes = enumerate(profile.overview_sizes)
    fitting = [(width, number) for number, (width, _) in sizes if profile.width / width <= detail_px * 1.05]
    return min(fitting)[1] if fitting else None


def make_pair(source: SourceFile, reference: SourceFile) -> Pair:
    """Pair two rasters that have a CRS and a geotransform.

    Raises:
        InvalidInput: the reference can't be projected to the source's CRS (`no-overlap`).
    """
    bands_source, bands_reference, compared = common_bands(source.profile, reference.profile)
    rasters = _pair_raster(source, bands_source), _pair_raster(reference, bands_reference)
    if same_crs(rasters[0].crs, rasters[1].crs):
        rasters = rasters[0], PairRaster(rasters[1].file, rasters[0].crs, rasters[1].in_map, rasters[1].bands)
    plane = CommonPlane.about(_centre(*rasters), rasters[0].crs)
    return Pair(*rasters, plane, compared, are_elevations(source.profile, reference.profile))


def common_bands(
    source: RasterProfile, reference: RasterProfile
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """The bands to compare (those with equal roles, else the first of each; at most `MOST_BANDS`), and a description."""
    ours, theirs = (find_roles(profile, None).bands for profile in (source, reference))
    roles = [role for role in ours if role in theirs][:MOST_BANDS]
    if roles:
        named = ", ".join(roles)
        return tuple(ours[role] for role in roles), tuple(theirs[role] for role in roles), f"{named} of both"
    first = source.data_bands[0], reference.data_bands[0]
    return first[:1], first[1:], f"band {first[0]} of the source with band {first[1]} of the reference"


def are_elevations(source: RasterProfile, reference: RasterProfile) -> bool:
    """Whether both are single bands of a signed or floating type, as elevations are, and not described as an index."""
    return all(
        profile.count == 1
        and profile.bands[0].dtype in ELEVATION_TYPES
        and (profile.bands[0].description or "").upper() not in _INDICES
        for profile in (source, reference)
    )


def _pair_raster(file: SourceFile, bands: tuple[int, ...]) -> PairRaster:
    profile = file.profile
    if profile.crs is None or profile.geotransform is None:
        raise InvalidInput("A raster without a CRS can't be aligned.", code="missing-crs")
    return PairRaster(
        file, profile.crs, map_grid(profile.geotransform, (profile.height, profile.width)), bands
    )


def source_outlines(source: PairRaster, reference: PairRaster) -> tuple[Points, Points]:
    """The corners of both in the source's map coordinates."""
    ours = source.in_map.plane_points(source.in_map.corners())
    theirs = reproject(reference.in_map.plane_points(reference.in_map.corners()), reference.crs, source.crs)
    return ours, theirs


def _centre(source: PairRaster, reference: PairRaster) -> tuple[float, float]:
    """The middle of the overlap's corners."""
    ours, theirs = source_outlines(source, reference)
    if not np.isfinite(theirs).all():
        raise InvalidInput(
            "The reference can't be projected to the source's CRS: the two do not overlap.", code="no-overlap"
        )
    common = intersection([(x, y) for x, y in ours.tolist()], [(x, y) for x, y in theirs.tolist()])
    if not common:
        raise InvalidInput("The two rasters do not overlap.", code="no-overlap")
    return sum(x for x, _ in common) / len(common), sum(y for _, y in common) / len(common)
