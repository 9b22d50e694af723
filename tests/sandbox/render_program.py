"""The API's drawing program, with jobs besides that go wrong in every way."""

import ctypes
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.registry import Registry
from aerotask.sandbox import forkserver
from aerotask.sandbox.protocol import Reply
from aerotask.tiles.render_child import drawing_child
from aerotask.tiles.thumbnails.image import encode_webp
from aerotask.tools.raster_export import RasterExport, RasterExportParams


def _echo(body: Mapping[str, Any]) -> Reply:
    return Reply({"pid": os.getpid(), "secret": os.environ.get("AEROTASK_SECRET_KEY"), **body}, b"\0\n" * 3)


def _hold(body: Mapping[str, Any]) -> Reply:
    """Say that it has begun, and go on when the file is gone."""
    gate = Path(body["until"])
    gate.with_name(f"{gate.name}.begun.{body['n']}").touch(exist_ok=False)
    while gate.exists():
        time.sleep(0.01)
    return Reply({"pid": os.getpid()})


def _hang(_body: Mapping[str, Any]) -> Reply:
    """Spin in C, holding the interpreter's lock."""
    pattern = ctypes.PyDLL(None).sleep
    while True:
        pattern(1000)


def _segfault(_body: Mapping[str, Any]) -> Reply:
    ctypes.string_at(0)
    return Reply()


def _eat_memory(_body: Mapping[str, Any]) -> Reply:
    eaten = [bytearray(64 * 1024 * 1024) for _ in range(1000)]
    return Reply({"blocks": len(eaten)})


def _refuse(_body: Mapping[str, Any]) -> Reply:
    raise InvalidInput("It is damaged.", code="damaged-raster")


def _stumble(_body: Mapping[str, Any]) -> Reply:
    raise KeyError("unforeseen")


HANDLERS = {
    "echo": _echo,
    "hold": _hold,
    "hang": _hang,
    "segfault": _segfault,
    "eat": _eat_memory,
    "refuse": _refuse,
    "stumble": _stumble,
}


class Measuring(RasterExport):
    """Previews a grey that is as light as the input is long."""

    def preview(self, params: RasterExportParams, inputs: Mapping[str, Path], *, longest_px: int) -> bytes:
        image = np.full((longest_px // 2, longest_px, 4), 255, np.uint8)
        image[..., :3] = inputs[params.path].stat().st_size
        return encode_webp(Image.fromarray(image))


REGISTRY = Registry({"raster-export": {"1": Measuring()}})


def _child(own: socket.socket) -> None:
    drawing_child(own, registry=REGISTRY, more=HANDLERS, writes=[Path(tempfile.gettempdir())])


if __name__ == "__main__":
    forkserver.main(lambda: _child)
