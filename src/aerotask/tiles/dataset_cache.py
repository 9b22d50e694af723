"""LRU cache of open raster datasets in a render child, which also keeps GDAL's block cache of them."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from aerotask.raster.georeference.placement import placement_of
from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixel_mapping import PixelMapper
from aerotask.raster.profile import RasterProfile

MAX_OPEN = 8
"""Open files, where each overview level counts as a file."""


@dataclass(frozen=True, slots=True)
class OpenRaster:
    """Open raster dataset, or one of its overviews, with the profile of the raster."""

    source: Any
    profile: RasterProfile


_Key = tuple[Path, int | None, SideGeoreference | None]


@dataclass(frozen=True, slots=True)
class RasterFiles:
    """Files of which a raster is drawn."""

    image: Path
    """The COG derivative if there is one, else the original."""
    overviews: Path | None = None
    """Those that the image lacks (`derivatives.overviews`), if they have been made."""


class DatasetCache:
    """Context manager that opens rasters, closes the least recently used ones, and all at the end."""

    def __init__(self) -> None:
        self._open: OrderedDict[_Key, tuple[ExitStack, OpenRaster]] = OrderedDict()
        self._mappers: OrderedDict[_Key, PixelMapper] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        while self._open:
            stack, _ = self._open.popitem()[1]
            stack.close()

    def get(
        self, path: Path, *, overview_level: int | None = None, side: SideGeoreference | None = None
    ) -> OpenRaster:
        """The open raster at `path`, whose content must never change; `side` georeferences it if its tags don't.

        Raises:
            InvalidInput: as `raster.io.open_raster`.
        """
        key = path, overview_level, side
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][1]
        stack = ExitStack()
        try:
            source = stack.enter_context(open_raster(path, overview_level=overview_level, side=side))
            profile = read_profile(source) if overview_level is None else self.get(path, side=side).profile
        except BaseException:
            stack.close()
            raise
        opened = OpenRaster(source, profile)
        self._open[key] = (stack, opened)
        if len(self._open) > MAX_OPEN:
            oldest, _ = self._open.popitem(last=False)[1]
            oldest.close()
        return opened

    def profile(self, files: RasterFiles) -> RasterProfile:
        """The profile of the raster, with all overviews.

        Raises:
            InvalidInput: as `get`.
        """
        profile = self.get(files.image).profile
        if files.overviews is None:
            return profile
        further = self.get(files.overviews).profile
        sizes = (*profile.overview_sizes, (further.width, further.height), *further.overview_sizes)
        return replace(profile, overview_sizes=sizes)

    def level(self, files: RasterFiles, level: int | None) -> OpenRaster:
        """The open raster, or its overview with that number in `profile`.

        Raises:
            InvalidInput: as `get`.
        """
        whole = self.get(files.image)
        own = len(whole.profile.overview_sizes)
        if level is None or level < own or files.overviews is None:
            return self.get(files.image, overview_level=level)
        further = self.get(files.overviews, overview_level=level - own - 1 if level > own else None)
        return OpenRaster(further.source, whole.profile)

    def mapper(self, path: Path, side: SideGeoreference | None = None) -> PixelMapper:
        """The mapper from the web map to pixels of the raster at `path`, which `side` georeferences if its tags don't.

        Raises:
            InvalidInput: as `get`, `placement_of` and `PixelMapper.create`.
        """
        key = path, None, side
        if key not in self._mappers:
            self._mappers[key] = PixelMapper.create(placement_of(self.get(path, side=side).source))
            if len(self._mappers) > MAX_OPEN:
                self._mappers.popitem(last=False)
        self._mappers.move_to_end(key)
        return self._mappers[key]
