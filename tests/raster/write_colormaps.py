"""Write src/aerotask/raster/colormaps.json from the colormaps that rio-tiler publishes.

    python tests/raster/write_colormaps.py     # in an environment with rio-tiler (BSD-3) and this project

The colours are those of matplotlib and cmocean (viridis, thermal, …) and a few of rio-tiler's own. All are opaque,
so that red, green and blue are kept. `tests/raster/test_colormaps.py` compares the file with rio-tiler's registry.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import rio_tiler
from rio_tiler.colormap import cmap

TARGET = Path(__file__).parents[2] / "src/aerotask/raster/colormaps.json"


def main() -> None:
    names = sorted(cmap.list())
    tables = [np.array([cmap.get(name)[entry] for entry in range(256)], dtype=np.uint8) for name in names]
    if any((table[:, 3] != 255).any() for table in tables):
        raise SystemExit("A colormap is partly transparent; the file keeps no alpha.")
    rgb = b"".join(table[:, :3].tobytes() for table in tables)
    packed = {
        "source": f"rio-tiler {rio_tiler.__version__}, rio_tiler.colormap.cmap",
        "layout": "zlib, base64: 256 × (red, green, blue) bytes for each name in turn",
        "names": names,
        "rgb": base64.b64encode(zlib.compress(rgb, 9)).decode(),
    }
    TARGET.write_text(json.dumps(packed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
