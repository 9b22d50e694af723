"""Builder of multi-resolution meshes (Nexus, compressed: NXZ), where pymeshlab is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aerotask.domain.errors import CauseInChild, InvalidInput, TaskFailed
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of

PROGRAM = Path(__file__).with_name("nxz_process.py")
HOW_TO_GET_IT = (
    "pymeshlab is not installed; it is under the GPL and therefore optional: install it next to Aerotask with "
    "'pip install pymeshlab' (106 MB; it also needs the system's libGL, in Debian 'apt-get install libgl1')"
)

_TICK_S = 0.1
_EXPECTED_BYTES_PER_S = 2_000_000  # of mesh files, to estimate the progress of a program that reports none
_HEADER = struct.Struct("<IIQQ36xIII16x")
_NODE = struct.Struct("<IHHf8x16xfI")
_MAGIC, _VERSION, _BLOCK_BYTES = 0x4E787320, 2, 256
_MAX_ERROR_CHARS = 4000
_GLB = struct.Struct("<4sIII4s")
_MAX_SCENE_BYTES = 64 * 1024 * 1024


def nxz_missing() -> str | None:
    """The missing dependency and how to install it; None if it is there."""
    return None if importlib.util.find_spec("pymeshlab") else HOW_TO_GET_IT


def build_nxz(source: Path, target: Path, *, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the mesh at `source` as NXZ to `target`, which must not exist; temporary files go next to it.

    Raises:
        InvalidInput: MeshLab can't read the mesh, or it has no faces (`unreadable-mesh`).
        TaskFailed: pymeshlab is missing (`derivative-unavailable`), failed (`nxz-failed`), or its output doesn't
            read back correctly (`derivative-damaged`).
    """
    _check(source)
    plain = target.with_suffix(".nxs")
    facts = _run(source, plain, target, on_progress)
    if "missing" in facts:
        raise TaskFailed(f"{HOW_TO_GET_IT}.", code="derivative-unavailable") from CauseInChild(
            facts["missing"]
        )
    if "error" in facts:
        refusal = _unreadable(source, "it is damaged, or of a kind that MeshLab can't convert")
        raise refusal from CauseInChild(facts["error"])
    if not facts["faces"]:
        raise _unreadable(source, "it has no faces, so there is no surface to show")
    header = _read_back(target, faces=facts["faces"])
    plain.unlink()
    plain.with_suffix(".ply").unlink()
    on_progress(1)
    warnings = ["The NXZ contains the shape and colours, but no textures."] if facts["textures"] else []
    return {**facts, "nodes": header.nodes, "warnings": warnings}


@dataclass(frozen=True, slots=True)
class _Header:
    """Counts in the header of a Nexus file."""

    faces: int
    nodes: int


def _run(mesh: Path, nxs: Path, nxz: Path, on_progress: Callable[[float], None]) -> Mapping[str, Any]:
    """The program's output; it is killed when `on_progress` raises."""
    command = [sys.executable, str(PROGRAM), str(mesh), str(nxs), str(nxz)]
    output, errors = nxz.with_suffix(".out"), nxz.with_suffix(".err")
    expected_s = 1 + mesh.stat().st_size / _EXPECTED_BYTES_PER_S
    with output.open("xb") as out, errors.open("xb") as err:
        process = subprocess.Popen(
            command,
            cwd=nxz.parent,
            env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            begun = time.monotonic()
            while not _ended(process):
                passed_s = time.monotonic() - begun
                on_progress(passed_s / (passed_s + expected_s))
        finally:
            process.kill()
            process.wait()
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    reason = (
        errors.read_text(encoding="utf-8", errors="replace")[-_MAX_ERROR_CHARS:].strip().rpartition("\n")[2]
    )
    output.unlink()
    errors.unlink()
    if process.returncode == 0 and lines:
        facts: Mapping[str, Any] = json.loads(lines[-1])
        return facts
    raise TaskFailed(
        f"MeshLab failed on {shown(mesh.name)} (exit status {process.returncode}); the mesh may be damaged. The "
        "administrator finds MeshLab's own words in the worker's log under this task's id.",
        code="nxz-failed",
    ) from CauseInChild(reason or "no output")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_TICK_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _read_back(target: Path, *, faces: int) -> _Header:
    """Check the file's table of nodes against its size and against the mesh (Nexus format, version 2)."""
    content = target.read_bytes() if target.exists() else b""
    if len(content) < _HEADER.size:
        raise TaskFailed("MeshLab wrote no NXZ.", code="derivative-damaged")
    magic, version, _vertices, total_faces, nodes, _patches, _textures = _HEADER.unpack_from(content)
    table = [
        _NODE.unpack_from(content, _HEADER.size + number * _NODE.size)
        for number in range(nodes)
        if _HEADER.size + (number + 1) * _NODE.size <= len(content)
    ]
    offsets = [node[0] * _BLOCK_BYTES for node in table]
    sound = (
        (magic, version) == (_MAGIC, _VERSION)
        and len(table) == nodes >= 2
        and offsets == sorted(offsets)
        and offsets[-1] == len(content)
        # The last node only marks the end; its counts are meaningless.
        and sum(node[2] for node in table[:-1]) == total_faces >= faces
    )
    if not sound:
        raise TaskFailed("The NXZ doesn't read back correctly.", code="derivative-damaged")
    return _Header(total_faces, nodes - 1)


def _check(mesh: Path) -> None:
    """Refuse files that MeshLab must not open: empty ones, and a GLB whose parts are in other files of ours."""
    with mesh.open("rb") as content:
        head = content.read(_GLB.size)
        if not head:
            raise _unreadable(mesh, "it is empty")
        if suffix_of(mesh.name) == "glb":
            _check_scene(mesh, head, content)


def _check_scene(mesh: Path, head: bytes, content: BinaryIO) -> None:
    if len(head) < _GLB.size:
        raise _unreadable(mesh, "it ends in its header")
    magic, _version, _bytes, scene_bytes, chunk = _GLB.unpack(head)
    if (magic, chunk) != (b"glTF", b"JSON") or scene_bytes > _MAX_SCENE_BYTES:
        raise _unreadable(mesh, "it has no GLB header")
    try:
        scene = json.loads(content.read(scene_bytes))
        parts = [*scene.get("buffers", ()), *scene.get("images", ())]
        elsewhere = any(not str(part.get("uri", "data:")).startswith("data:") for part in parts)
    except (ValueError, AttributeError, RecursionError, TypeError) as error:
        raise _unreadable(mesh, "its description of the scene is damaged") from error
    if elsewhere:
        raise _unreadable(mesh, "it refers to other files; export it as one file")


def _unreadable(mesh: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(mesh.name)} is not a readable mesh: {why}.", code="unreadable-mesh")
