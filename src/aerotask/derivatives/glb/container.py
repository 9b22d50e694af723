"""Binary glTF container (glTF 2.0, section 4): one chunk of JSON and one of bytes."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from aerotask.domain.errors import InvalidInput

MAX_SCENE_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 2**32 - 1
_HEAD = struct.Struct("<4sIIII")
_CHUNK = struct.Struct("<II")
_JSON, _BIN = 0x4E4F534A, 0x004E4942


@dataclass(frozen=True, slots=True)
class Glb:
    """Content of a GLB."""

    scene: dict[str, Any]
    binary: memoryview

    def view(self, number: Any) -> memoryview:
        """The bytes of a buffer view.

        Raises:
            ValueError: there is none of that number in the file's own bytes.
        """
        view = item(self.scene, "bufferViews", number)
        start, length = view.get("byteOffset", 0), view.get("byteLength")
        is_inside = is_count(start) and is_count(length) and start + length <= len(self.binary)
        if view.get("buffer") != 0 or not is_inside:
            raise ValueError("it refers to bytes that it doesn't have")
        return self.binary[start : start + length]


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def items(scene: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The scene's objects of one kind; none if there is no such list.

    Raises:
        ValueError: it is no list of objects.
    """
    found = scene.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"its '{name}' are damaged")
    return found


def item(scene: dict[str, Any], name: str, number: Any) -> dict[str, Any]:
    """One of the scene's objects.

    Raises:
        ValueError: there is none of that number.
    """
    found = scene.get(name, [])
    if not is_count(number) or not isinstance(found, list) or number >= len(found):
        raise ValueError(f"it refers to '{name}' that it doesn't have")
    if not isinstance(found[number], dict):
        raise ValueError(f"its '{name}' are damaged")  # noqa: TRY004  a fault of the file
    return found[number]  # type: ignore[no-any-return]


@contextmanager
def open_glb(path: Path) -> Iterator[Glb]:
    """The GLB at `path`, mapped into memory.

    Raises:
        ValueError: it is none, or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError("it ends in its header" if head else "it is empty")
        magic, version, length, scene_bytes, kind = _HEAD.unpack(head)
        if (magic, version, kind) != (b"glTF", 2, _JSON) or scene_bytes > MAX_SCENE_BYTES:
            raise ValueError("it has no GLB header")
        if length > size or _HEAD.size + scene_bytes > size:
            raise ValueError("it is shorter than its header says")
        try:
            scene = orjson.loads(file.read(scene_bytes))
        except orjson.JSONDecodeError as error:
            raise ValueError("its description of the scene is damaged") from error
        if not isinstance(scene, dict) or not isinstance(scene.get("asset"), dict):
            raise ValueError("its description of the scene is damaged")  # noqa: TRY004  a fault of the file
        start, binary_bytes = file.tell() + _CHUNK.size, 0
        chunk = file.read(_CHUNK.size)
        if len(chunk) == _CHUNK.size:
            binary_bytes, kind = _CHUNK.unpack(chunk)
            if kind != _BIN or start + binary_bytes > size:
                raise ValueError("it is shorter than its header says")
        # Unmapped with its last view: arrays and tracebacks may hold some beyond the context.
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        yield Glb(scene, mapped[start : start + binary_bytes])


class GlbWriter:
    """Writer of a GLB; buffer views go to a temporary file beside the target."""

    def __init__(self, target: Path) -> None:
        self.views: list[dict[str, Any]] = []
        self._target = target
        self._beside = target.with_suffix(".bin")
        self._file = self._beside.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._beside.unlink()

    def add(self, content: bytes | memoryview, **more: Any) -> int:
        """Write a buffer view; its number."""
        self._file.write(b"\0" * (-self._file.tell() % 8))
        self.views.append({"buffer": 0, "byteOffset": self._file.tell(), "byteLength": len(content), **more})
        self._file.write(content)
        return len(self.views) - 1

    def finish(self, scene: dict[str, Any]) -> None:
        """Write the GLB with that scene and the buffer views.

        Raises:
            InvalidInput: it would be larger than 4 GiB (`mesh-too-large`).
        """
        self._file.write(b"\0" * (-self._file.tell() % 8))
        self._file.flush()
        binary_bytes = self._file.tell()
        scene = {**scene, "buffers": [{"byteLength": binary_bytes}], "bufferViews": self.views}
        if not self.views:
            scene = {name: value for name, value in scene.items() if name not in {"buffers", "bufferViews"}}
        text = orjson.dumps(scene)
        text += b" " * (-len(text) % 4)
        total = _HEAD.size + len(text) + _CHUNK.size + binary_bytes
        if total > MAX_FILE_BYTES:
            raise InvalidInput("A GLB holds at most 4 GiB; split the mesh.", code="mesh-too-large")
        with self._target.open("xb") as out, self._beside.open("rb") as binary:
            out.write(_HEAD.pack(b"glTF", 2, total, len(text), _JSON))
            out.write(text)
            out.write(_CHUNK.pack(binary_bytes, _BIN))
            shutil.copyfileobj(binary, out, 1024 * 1024)
            out.flush()
            os.fsync(out.fileno())
