"""Merge of PMTiles archives: the tiles with the same index are concatenated.

A vector tile is a protocol buffer with nothing but a list of layers, and two concatenated messages are one message with
both lists (Vector Tile Specification 2.1, section 4; Protocol Buffers, encoding). PMTiles 3 sorts tiles by their index
on a space-filling curve, so the archives are merged like sorted lists.
"""

from __future__ import annotations

import gzip
import heapq
import mmap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pmtiles.reader import Reader, all_tiles
from pmtiles.tile import Compression, TileType, tileid_to_zxy, zxy_to_tileid
from pmtiles.writer import Writer

from aerotask.domain.errors import TaskFailed


@dataclass(frozen=True, slots=True)
class ArchiveDescription:
    """Name and place that an archive tells viewers; `bounds` are west, south, east, north, and `centre` longitude and latitude."""

    name: str
    bounds: tuple[float, float, float, float]
    centre: tuple[float, float]
    centre_zoom: int
    max_zoom: int


def join_archives(archives: Sequence[Path], target: Path, description: ArchiveDescription) -> int:
    """Merge the archives, of one layer each, into one at `target` and remove them.

    Returns:
        The coarsest zoom with a tile; smaller features are in none at coarser ones.

    Raises:
        TaskFailed: the merged archive lacks tiles (`derivative-damaged`).
    """
    tiles, min_zoom = 0, description.max_zoom
    with ExitStack() as stack, target.open("xb") as output:
        readers = [_reader(stack, path) for path in archives]
        writer = Writer(output)
        for number, same in groupby(heapq.merge(*map(_tiles, readers), key=itemgetter(0)), itemgetter(0)):
            writer.write_tile(number, _joined([tile for _, tile in same]))
            tiles += 1
            min_zoom = min(min_zoom, int(tileid_to_zxy(number)[0]))
        writer.finalize(_header(description), _metadata(readers, description, min_zoom))
    for path in archives:
        path.unlink()
    with ExitStack() as stack:
        if sum(1 for _ in _tiles(_reader(stack, target))) != tiles:
            raise TaskFailed("The merged vector tiles read back incomplete.", code="derivative-damaged")
    return min_zoom


def _reader(stack: ExitStack, path: Path) -> Reader:
    content = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))
    return Reader(lambda offset, length: mapped[offset : offset + length])


def _tiles(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """Index and content of each tile, compressed by gzip, as GDAL writes them."""
    for zxy, tile in all_tiles(reader.get_bytes):
        yield zxy_to_tileid(*zxy), bytes(tile)


def _joined(tiles: Sequence[bytes]) -> bytes:
    if len(tiles) == 1:
        return tiles[0]
    return gzip.compress(b"".join(map(gzip.decompress, tiles)), mtime=0)


def _header(description: ArchiveDescription) -> dict[str, Any]:
    west, south, east, north = description.bounds
    places = {
        "min_lon_e7": west,
        "min_lat_e7": south,
        "max_lon_e7": east,
        "max_lat_e7": north,
        "center_lon_e7": description.centre[0],
        "center_lat_e7": description.centre[1],
    }
    return {name: round(degrees * 1e7) for name, degrees in places.items()} | {
        "tile_type": TileType.MVT,
        "tile_compression": Compression.GZIP,
        "center_zoom": description.centre_zoom,
    }


def _metadata(readers: Sequence[Reader], description: ArchiveDescription, min_zoom: int) -> dict[str, Any]:
    """Metadata in the keys of MBTiles and TileJSON 3.0, with the layers of all archives."""
    all_metadata = [reader.metadata() for reader in readers]
    longitude, latitude = description.centre
    layers = [layer for metadata in all_metadata for layer in metadata.get("vector_layers", ())]
    statistics = [
        layer for metadata in all_metadata for layer in metadata.get("tilestats", {}).get("layers", ())
    ]
    return {
        "name": description.name,
        "type": "overlay",
        "format": "pbf",
        "minzoom": str(min_zoom),
        "maxzoom": str(description.max_zoom),
        "bounds": ",".join(f"{degrees:.7f}" for degrees in description.bounds),
        "center": f"{longitude:.7f},{latitude:.7f},{description.centre_zoom}",
        "vector_layers": [
            {name: value for name, value in layer.items() if name != "description" or value}
            for layer in layers
        ],
        "tilestats": {"layerCount": len(statistics), "layers": statistics},
    }
