"""The API's rendering program, with additional jobs that fail in every way."""

import ctypes
import os
import signal
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
from aerotask.sandbox.protocol import Message
from aerotask.tiles.render_child import run_render_child
from aerotask.tiles.thumbnails.image import encode_webp
from aerotask.tools.raster_export import RasterExport, RasterExportParams


def _echo(body: Mapping[str, Any]) -> Message:
    return Message(
        "done", {"pid": os.getpid(), "secret": os.environ.get("AEROTASK_SECRET_KEY"), **body}, b"\0\n" * 3
    )


def _hold(body: Mapping[str, Any]) -> Message:
    """Signal the start, and wait until the file is removed."""
    gate = Path(body["until"])
    gate.with_name(f"{gate.name}.begun.{body['n']}").touch(exist_ok=False)
    while gate.exists():
        time.sleep(0.01)
    return Message("done", {"pid": os.getpid()})


def _hang(_body: Mapping[str, Any]) -> Message:
    """Hang in C, holding the interpreter's lock."""
    sleep = ctypes.PyDLL(None).sleep
    while True:
        sleep(1000)


def _segfault(_body: Mapping[str, Any]) -> Message:
    ctypes.string_at(0)
    return Message("done")


def _eat_memory(_body: Mapping[str, Any]) -> Message:
    eaten = [bytearray(64 * 1024 * 1024) for _ in range(1000)]
    return Message("done", {"blocks": len(eaten)})


def _fill_in_processes(body: Mapping[str, Any]) -> Message:
    for _ in range(body["processes"]):
        if os.fork() == 0:
            filled = b"x" * body["bytes"]
            signal.pause()
            os._exit(len(filled))
    signal.pause()
    return Message("done")


def _refuse(_body: Mapping[str, Any]) -> Message:
    cause = OSError("TIFFReadDirectory of /cache/3-abc")
    raise InvalidInput("It is damaged.", code="damaged-raster") from cause


def _raise_unexpected(_body: Mapping[str, Any]) -> Message:
    raise KeyError("unexpected")


HANDLERS = {
    "echo": _echo,
    "hold": _hold,
    "hang": _hang,
    "segfault": _segfault,
    "eat": _eat_memory,
    "fill": _fill_in_processes,
    "refuse": _refuse,
    "unexpected": _raise_unexpected,
}


class Measuring(RasterExport):
    """Previews a grey that is as light as the input is long."""

    def preview(self, params: RasterExportParams, inputs: Mapping[str, Path], *, longest_px: int) -> bytes:
        image = np.full((longest_px // 2, longest_px, 4), 255, np.uint8)
        image[..., :3] = inputs[params.path].stat().st_size
        return encode_webp(Image.fromarray(image))


REGISTRY = Registry({"raster-export": {"1": Measuring()}})


def _child(own: socket.socket) -> None:
    run_render_child(own, registry=REGISTRY, more=HANDLERS, writes=[Path(tempfile.gettempdir())])


if __name__ == "__main__":
    forkserver.main(lambda: _child)
