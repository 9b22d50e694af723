"""Which tools can show what they would make, before they are run: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from aerotask.raster.alignment.preview import preview_pair
from aerotask.tools.merge_multispectral import MergeMultispectral, MergeMultispectralParams

Preview = Callable[[Mapping[str, Any], Mapping[str, Path], int], bytes]
"""Takes the tool's normalised params, its inputs' files by their dataset paths and the longest side in pixels; gives a
WebP. May raise `InvalidInput`."""


def _align(params: Mapping[str, Any], files: Mapping[str, Path], longest_px: int) -> bytes:
    """Both rasters as they lie, over their overlap."""
    return preview_pair(files[params["sourcePath"]], files[params["referencePath"]], longest_px=longest_px)


def _merge(params: Mapping[str, Any], files: Mapping[str, Path], longest_px: int) -> bytes:
    parsed = MergeMultispectralParams.model_validate_json(orjson.dumps(params))
    return MergeMultispectral().preview(parsed, files.__getitem__, longest_px=longest_px)


PREVIEWS: Mapping[str, Preview] = MappingProxyType({"align-raster": _align, "merge-multispectral": _merge})
"""By the tool's id."""
