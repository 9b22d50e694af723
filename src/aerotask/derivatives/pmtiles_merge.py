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
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pmtiles.reader import Reader, all_tiles
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer

from aerotask.domain.errors import TaskFailed

_MIN_BOUNDS, _MAX_BOUNDS = ("min_lon_e7", "min_lat_e7"), ("max_lon_e7", "max_lat_e7")


def join_archives(archives: Sequence[Path], target: Path) -> None:
    """Merge the archives into one at `target` and remove them.

    Raises:
        TaskFailed: the merged archive lacks tiles (`derivative-damaged`).
    """
    if len(archives) == 1:
        archives[0].rename(target)
        return
    tiles = 0
    with ExitStack() as stack, target.open("xb") as output:
        readers = [_reader(stack, path) for path in archives]
        writer = Writer(output)
        for number, same in groupby(heapq.merge(*map(_tiles, readers), key=itemgetter(0)), itemgetter(0)):
            writer.write_tile(number, gzip.compress(b"".join(tile for _, tile in same), mtime=0))
            tiles += 1
        writer.finalize(_header(readers), _metadata(readers))
    for path in archives:
        path.unlink()
    with ExitStack() as stack:
        if sum(1 for _ in _tiles(_reader(stack, target))) != tiles:
            raise TaskFailed("The merged vector tiles read back incomplete.", code="derivative-damaged")


def _reader(stack: ExitStack, path: Path) -> Reader:
    content = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))
    return Reader(lambda offset, length: mapped[offset : offset + length])


def _tiles(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """Index and uncompressed content of each tile."""
    is_gzipped = reader.header()["tile_compression"] is Compression.GZIP
    for zxy, tile in all_tiles(reader.get_bytes):
        yield zxy_to_tileid(*zxy), gzip.decompress(tile) if is_gzipped else bytes(tile)


def _header(readers: Sequence[Reader]) -> dict[str, Any]:
    headers = [reader.header() for reader in readers]
    bounds = {name: min(header[name] for header in headers) for name in _MIN_BOUNDS} | {
        name: max(header[name] for header in headers) for name in _MAX_BOUNDS
    }
    return bounds | {
        "tile_type": TileType.MVT,
        "tile_compression": Compression.GZIP,
        "center_zoom": 0,
        "center_lon_e7": (bounds["min_lon_e7"] + bounds["max_lon_e7"]) // 2,
        "center_lat_e7": (bounds["min_lat_e7"] + bounds["max_lat_e7"]) // 2,
    }


def _metadata(readers: Sequence[Reader]) -> dict[str, Any]:
    """Metadata of the first archive, with the layers of all."""
    all_metadata = [reader.metadata() for reader in readers]
    layers = [layer for metadata in all_metadata for layer in metadata.get("vector_layers", ())]
    metadata = {name: value for name, value in all_metadata[0].items() if name != "tilestats"}
    return metadata | {"vector_layers": layers}
