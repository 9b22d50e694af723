"""Builder dispatch: builds one derivative with the module of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aerotask.derivatives.cog import build_cog
from aerotask.derivatives.copc.build import build_copc
from aerotask.derivatives.glb.build import build_glb
from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.derivatives.nxz import build_nxz
from aerotask.derivatives.pmtiles import build_pmtiles


def build(
    kind: DerivativeKind, source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> dict[str, Any]:
    """Build the derivative of `source` at `target`, alone in its folder, and read it back; returns its properties.

    Raises:
        InvalidInput: that kind can't be built from the source.
        TaskFailed: the build failed.
        OSError: the disk is full.
    """
    builders: Mapping[DerivativeKind, Callable[..., dict[str, Any]]] = {
        DerivativeKind.COG: partial(build_cog, threads=threads),
        DerivativeKind.COPC: build_copc,
        DerivativeKind.GLB: build_glb,
        DerivativeKind.NXZ: build_nxz,
        DerivativeKind.PMTILES: build_pmtiles,
        DerivativeKind.GPKG: build_gpkg,
    }
    return builders[kind](source, target, on_progress=on_progress)
