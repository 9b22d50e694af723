"""The fork server of a worker: its children run tools and look into files."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from aerotask.registry import load_registry
from aerotask.sandbox import forkserver
from aerotask.worker.tool_child import run_child

PROGRAM = "aerotask.worker.tool_server"


def _preload() -> Callable[[socket.socket], None]:
    import rasterio  # noqa: F401, PLC0415  the reason for this process

    import aerotask.metadata.extract  # noqa: F401, PLC0415

    registry = load_registry()
    for tool in registry.all():
        tool.preload()
    return partial(run_child, registry=registry)


if __name__ == "__main__":
    forkserver.main(_preload)
