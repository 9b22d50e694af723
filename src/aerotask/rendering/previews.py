"""Which tools can show what they would make, before they are run: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

Preview = Callable[[Mapping[str, Any], Mapping[str, Path], int], bytes]
"""Takes the tool's normalised params, its inputs' files by their dataset paths and the longest side in pixels; gives a
WebP. May raise `InvalidInput`."""

PREVIEWS: Mapping[str, Preview] = MappingProxyType({})
"""By the tool's id."""
