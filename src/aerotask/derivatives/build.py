"""Makes one derivative: the way from its kind to the module that knows how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aerotask.derivatives.cog import build_cog
from aerotask.derivatives.copc.build import build_copc
from aerotask.derivatives.gpkg import build_gpkg
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.derivatives.nxz import build_nxz
from aerotask.derivatives.pmtiles import build_pmtiles


def build(
    kind: DerivativeKind, source: Path, target: Path, *, threads: int, on_progress: Callable[[float], None]
) -> dict[str, Any]:
    """Make the derivative of `source` at `target`, alone in its folder, and read it back; what is to be known of it.

    Raises:
        InvalidInput: the source is not what that kind can be made of.
        TaskFailed: the making failed.
        OSError: the disk is full.
    """
    if kind is DerivativeKind.COG:
        return build_cog(source, target, threads=threads, on_progress=on_progress)
    builders: dict[DerivativeKind, Callable[..., dict[str, Any]]] = {
        DerivativeKind.COPC: build_copc,
        DerivativeKind.NXZ: build_nxz,
        DerivativeKind.PMTILES: build_pmtiles,
        DerivativeKind.GPKG: build_gpkg,
    }
    return builders[kind](source, target, on_progress=on_progress)
