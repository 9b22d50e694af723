"""rio-tiler, in its own environment: rio_tiler_read.py SOURCE TARGET."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.clock import DEFLATE_LEVEL, NIR, RED, STOPS, TILE_PX, Clock
from rio_tiler.io import Reader


def colormap() -> dict[int, tuple[int, int, int, int]]:
    stops = [[int(stop[i : i + 2], 16) for i in (0, 2, 4)] for stop in STOPS]
    table = {}
    for entry in range(256):
        at = entry / 255 * (len(stops) - 1)
        low = min(int(at), len(stops) - 2)
        joined = (round(a + (b - a) * (at - low), 9) for a, b in zip(stops[low], stops[low + 1], strict=True))
        red, green, blue = map(int, joined)
        table[entry] = (red, green, blue, 255)
    return table


def main() -> None:
    clock = Clock()
    with clock.phase("export"), Reader(sys.argv[1]) as source:
        image = source.read(expression=f"(b{NIR}-b{RED})/(b{NIR}+b{RED})")
        image.rescale(in_range=((-1, 1),))
        options = {
            "tiled": True,
            "blockxsize": TILE_PX,
            "blockysize": TILE_PX,
            "compress": "deflate",
            "zlevel": DEFLATE_LEVEL,
            "interleave": "pixel",
            "crs": image.crs,
            "transform": image.transform,
            "bigtiff": "IF_SAFER",
        }
        content = image.render(img_format="GTIFF", colormap=colormap(), **options)
        Path(sys.argv[2]).write_bytes(content)
    clock.report()


main()
