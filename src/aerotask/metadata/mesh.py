"""Metadata of meshes (PLY, OBJ, GLB, glTF, STL, Nexus) from their headers: vertex and face counts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown

MAX_PLY_HEADER_BYTES = 64 * 1024
MAX_PLY_ELEMENTS = 64
MAX_GLTF_JSON_BYTES = 64 * 1024 * 1024
MAX_OBJ_BYTES = 4 * 1024**3
_CHUNK_BYTES = 1024 * 1024

_PLY_ENCODINGS = frozenset({"ascii", "binary_little_endian", "binary_big_endian"})
_PLY_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}


def extract_mesh(path: Path, kind: str) -> Mapping[str, Any]:
    """Extracts the properties of the mesh at `path`, whose kind is given as its suffix; no geometry is loaded.

    Raises:
        InvalidInput: it is not a mesh of the kind that its name says (`unreadable-model`), or declares more than the
            file can hold (`damaged-model`).
    """
    readers = {
        "ply": _ply,
        "obj": _obj,
        "glb": _glb,
        "gltf": _gltf,
        "stl": _stl,
        "nxs": _nexus,
        "nxz": _nexus,
    }
    if path.stat().st_size == 0:
        raise _unreadable(path, "it is empty")
    with path.open("rb") as file:
        return {"format": kind, **readers[kind](path, file)}


def _ply(path: Path, file: BinaryIO) -> dict[str, Any]:
    head = file.read(MAX_PLY_HEADER_BYTES)
    header, found, _ = head.partition(b"end_header")
    if not head.startswith((b"ply\n", b"ply\r")) or not found:
        raise _unreadable(path, "it has no PLY header")
    encoding, elements = _ply_elements(path, header.decode("latin-1"))
    least = sum(element.least_bytes(is_text=encoding == "ascii") for element in elements)
    body_bytes = path.stat().st_size - len(header) - len(found) - 1
    if least > body_bytes:
        claims = ", ".join(f"{element.count:,} × {shown(element.name)}" for element in elements)
        raise _damaged(f"it declares {claims}, which take at least {least:,} bytes, but has {body_bytes:,}")
    by_name = {element.name: element for element in elements}
    vertex, face = by_name.get("vertex"), by_name.get("face")
    return {
        "encoding": encoding,
        "vertexCount": vertex.count if vertex else 0,
        "faceCount": face.count if face else 0,
        "vertexProperties": [name[:64] for name in (vertex.properties if vertex else [])][:256],
    }


@dataclass(slots=True)
class _PlyElement:
    name: str
    count: int
    row_bytes: int = 0
    """Bytes of the fixed-size properties and of list lengths in one row."""
    properties: list[str] = field(default_factory=list)

    def least_bytes(self, *, is_text: bool) -> int:
        """Minimum size of all rows: in text, a digit and a separator per value; a row takes at least one byte."""
        return self.count * max(2 * len(self.properties) if is_text else self.row_bytes, 1)


def _ply_elements(path: Path, header: str) -> tuple[str, list[_PlyElement]]:
    encoding = ""
    elements: list[_PlyElement] = []
    for line in header.split("\n"):
        match line.split():
            case ["format", encoding, *_]:
                pass
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 20:
                elements.append(_PlyElement(name, int(count)))
            case ["element", *_]:
                raise _unreadable(path, "its PLY header is invalid")
            case ["property", "list", kind, _, name] | ["property", kind, name] if elements:
                elements[-1].row_bytes += _PLY_SIZES.get(kind, 1)
                elements[-1].properties.append(name)
    if not 0 < len(elements) <= MAX_PLY_ELEMENTS or encoding not in _PLY_ENCODINGS:
        raise _unreadable(path, "its PLY header is invalid")
    return encoding, elements


def _obj(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Counts the lines by their keyword."""
    if path.stat().st_size > MAX_OBJ_BYTES:
        raise _unreadable(path, "it is larger than 4 GiB")
    counts = dict.fromkeys((b"\nv ", b"\nvt ", b"\nvn ", b"\nf "), 0)
    for chunk in _chunks_of_lines(file):
        if b"\0" in chunk:
            raise _unreadable(path, "it is not text")
        for start in counts:
            counts[start] += chunk.count(start)
    if not counts[b"\nv "]:
        raise _unreadable(path, "it has no vertices")
    vertices, textures, normals, faces = counts.values()
    return {
        "vertexCount": vertices,
        "faceCount": faces,
        "hasTextureCoordinates": textures > 0,
        "hasNormals": normals > 0,
    }


def _chunks_of_lines(file: BinaryIO) -> Iterator[bytes]:
    """Chunks of the content that each begin with a line break and don't split a line's keyword."""
    rest = b"\n"
    while chunk := file.read(_CHUNK_BYTES):
        joined = (rest + chunk).replace(b"\r", b"\n").replace(b"\t", b" ")
        cut = max(joined.rfind(b"\n"), 1)
        yield joined[:cut]
        # Drop an endless line, which would fill the memory; its keyword has been counted.
        rest = joined[cut:] if len(joined) - cut < _CHUNK_BYTES else b" "
    yield rest


def _glb(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Reads binary glTF (glTF 2.0, section 4): a header of 12 bytes, then a JSON chunk."""
    head = file.read(20)
    if len(head) < 20 or not head.startswith(b"glTF"):
        raise _unreadable(path, "it has no glTF header")
    version, length, json_bytes, kind = struct.unpack_from("<LLL4s", head, 4)
    file_bytes = path.stat().st_size
    if length > file_bytes or json_bytes > file_bytes:
        raise _damaged(f"it declares {length:,} bytes but has {file_bytes:,}")
    if kind != b"JSON" or json_bytes > MAX_GLTF_JSON_BYTES:
        raise _unreadable(path, f"its description declares {json_bytes:,} bytes")
    return {"version": version, **_scene(path, file.read(json_bytes))}


def _gltf(path: Path, file: BinaryIO) -> dict[str, Any]:
    if path.stat().st_size > MAX_GLTF_JSON_BYTES:
        raise _unreadable(path, f"its description is longer than {MAX_GLTF_JSON_BYTES:,} bytes")
    return _scene(path, file.read())


def _scene(path: Path, description: bytes) -> dict[str, Any]:
    """Counts of a glTF scene; malformed parts count as absent."""
    try:
        scene = orjson.loads(description)
    except orjson.JSONDecodeError as error:
        raise _unreadable(path, "its description is not JSON") from error
    if not isinstance(scene, dict) or not isinstance(scene.get("asset"), dict):
        raise _unreadable(path, "its description is not glTF")
    accessors, vertices, faces = _list(scene, "accessors"), 0, 0
    for mesh in _list(scene, "meshes"):
        for primitive in _list(mesh, "primitives"):
            attributes = primitive.get("attributes") if isinstance(primitive, dict) else None
            position = attributes.get("POSITION") if isinstance(attributes, dict) else None
            corners = _count(accessors, position)
            vertices += corners
            faces += (_count(accessors, primitive.get("indices")) or corners) // 3 if corners else 0
    return {
        "vertexCount": vertices,
        "faceCount": faces,
        "meshCount": len(_list(scene, "meshes")),
        "materialCount": len(_list(scene, "materials")),
        "textureCount": len(_list(scene, "textures")),
    }


def _list(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def _count(accessors: list[Any], index: Any) -> int:
    if (
        not isinstance(index, int)
        or not 0 <= index < len(accessors)
        or not isinstance(accessors[index], dict)
    ):
        return 0
    count = accessors[index].get("count")
    return count if isinstance(count, int) and 0 <= count < 2**53 else 0


def _stl(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Reads binary STL (80 bytes of title, a count, 50 bytes per triangle) or text STL, which begins with `solid`."""
    head, file_bytes = file.read(84), path.stat().st_size
    if len(head) == 84:
        (faces,) = struct.unpack_from("<L", head, 80)
        if 84 + 50 * faces == file_bytes:
            return {"encoding": "binary", "vertexCount": 3 * faces, "faceCount": faces}
    if not head.startswith(b"solid"):
        raise _damaged("its triangle count doesn't match its size")
    file.seek(0)
    faces = sum(chunk.count(b"facet normal") for chunk in _chunks_of_lines(file))
    return {"encoding": "ascii", "vertexCount": 3 * faces, "faceCount": faces}


def _nexus(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Reads a Nexus multiresolution mesh: a magic number, a version, and the vertex and face counts."""
    head = file.read(24)
    if len(head) < 24 or head[:4] != b" sxN":
        raise _unreadable(path, "it has no Nexus header")
    _, vertices, faces = struct.unpack_from("<LQQ", head, 4)
    return {"vertexCount": vertices, "faceCount": faces} if max(vertices, faces) < 2**53 else {}


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(path.name)} is not a readable model: {why}.", code="unreadable-model")


def _damaged(why: str) -> InvalidInput:
    return InvalidInput(f"The model is incomplete or damaged: {why}.", code="damaged-model")
