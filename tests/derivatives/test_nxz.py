"""NXZ by MeshLab, and the error where it isn't installed."""

import importlib.util
import re
import struct
from pathlib import Path

import pytest

from aerotask.derivatives.kinds import DerivativeKind, missing_for
from aerotask.derivatives.nxz import build_nxz
from aerotask.domain.errors import InvalidInput, TaskFailed, cause_of

INSTALLED = importlib.util.find_spec("pymeshlab") is not None
needs_meshlab = pytest.mark.skipif(not INSTALLED, reason="pymeshlab, which is optional, is not installed")

TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\nf 1 2 4\nf 2 3 4\n"
HUGE = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 1152921504606846976\nproperty float x\n"
    b"property float y\nproperty float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
)


def grid(path: Path, *, side: int) -> Path:
    """A wavy surface of 2 · (side−1)² triangles, as OBJ."""
    lines = [f"v {x} {y} {(x * y) % 7 / 7}" for y in range(side) for x in range(side)]
    for corner in (1 + x + y * side for y in range(side - 1) for x in range(side - 1)):
        lines += [
            f"f {corner} {corner + 1} {corner + side}",
            f"f {corner + 1} {corner + side + 1} {corner + side}",
        ]
    path.write_text("\n".join(lines), encoding="ascii")
    return path


def nodes_of(content: bytes) -> list[tuple[int, int, int]]:
    """Offset in the file, vertices and faces of each node; the last one only marks the end."""
    count = struct.unpack_from("<I", content, 60)[0]
    return [
        (256 * offset, vertices, faces)
        for offset, vertices, faces in (
            struct.unpack_from("<IHH", content, 88 + 44 * n) for n in range(count)
        )
    ]


def test_without_meshlab_the_kind_names_the_missing_dependency() -> None:
    missing = missing_for(DerivativeKind.NXZ)
    if INSTALLED:
        assert missing is None
    else:
        assert missing is not None
        assert "pip install pymeshlab" in missing
        assert "libgl1" in missing
    assert [kind for kind in DerivativeKind if kind is not DerivativeKind.NXZ and missing_for(kind)] == []


@pytest.mark.skipif(INSTALLED, reason="pymeshlab is installed")
def test_without_meshlab_a_build_fails_with_the_same_message(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(TETRAHEDRON, encoding="ascii")
    with pytest.raises(TaskFailed, match="pip install pymeshlab") as failed:
        build_nxz(tmp_path / "a.obj", tmp_path / "made.nxz", on_progress=lambda _share: None)
    assert failed.value.code == "derivative-unavailable"


def test_an_empty_file_is_no_mesh(tmp_path: Path) -> None:
    (tmp_path / "a.ply").touch()
    with pytest.raises(InvalidInput, match="it is empty") as refused:
        build_nxz(tmp_path / "a.ply", tmp_path / "made.nxz", on_progress=lambda _share: None)
    assert refused.value.code == "unreadable-mesh"


def glb(scene: bytes) -> bytes:
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(scene), len(scene), b"JSON") + scene


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"glTF\x02\0\0\0", "ends in its header"),
        (b"no mesh, but longer than a header", "no GLB header"),
        (glb(b'{"buffers": [{"uri": "../../secret.bin"}]}'), "refers to other files"),
        (glb(b'{"images": [{"\\u0075ri": "/etc/passwd"}]}'), "refers to other files"),
        (glb(b'{"buffers": 7}'), "damaged"),
        (glb(b"[" * 100_000), "damaged"),
    ],
)
def test_a_glb_must_be_one_whole_file(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as refused:
        build_nxz(tmp_path / "a.glb", tmp_path / "made.nxz", on_progress=lambda _share: None)
    assert refused.value.code == "unreadable-mesh"


@needs_meshlab
def test_a_mesh_becomes_a_tree_of_nodes_with_all_its_faces(tmp_path: Path) -> None:
    source, target = grid(tmp_path / "a.obj", side=160), tmp_path / "made.nxz"
    facts = build_nxz(source, target, on_progress=lambda _share: None)
    assert (facts["vertices"], facts["faces"]) == (160 * 160, 2 * 159 * 159)
    content = target.read_bytes()
    assert struct.unpack_from("<II", content) == (0x4E787320, 2)
    nodes = nodes_of(content)
    assert len(nodes) - 1 == facts["nodes"] > 1
    assert nodes[-1][0] == len(content)
    assert sum(faces for _, _, faces in nodes[:-1]) > facts["faces"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.obj", "made.nxz"]


@needs_meshlab
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("huge.ply", HUGE + b"\0" * 64, "Unexpected EOF|Bad vertex index"),
        ("text.ply", b"no mesh", "header|recognized|unable|Unable"),
        ("points.obj", b"v 0 0 0\nv 1 0 0\n", "no faces|vertices"),
    ],
)
def test_a_file_without_a_mesh_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InvalidInput, TaskFailed)) as refused:
        build_nxz(tmp_path / name, tmp_path / "made.nxz", on_progress=lambda _share: None)
    assert refused.value.code in {"unreadable-mesh", "nxz-failed"}
    told = "it is damaged, or of a kind that MeshLab can't convert|it has no faces|the mesh may be damaged"
    assert re.search(told, refused.value.message)
    assert str(tmp_path) not in refused.value.message
    assert re.search(words, cause_of(refused.value) or refused.value.message)  # MeshLab's own words


@needs_meshlab
def test_an_interrupted_build_ends_the_process(tmp_path: Path) -> None:
    source = grid(tmp_path / "a.obj", side=200)

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_nxz(source, tmp_path / "made.nxz", on_progress=stop)


@needs_meshlab
def test_the_real_mesh_becomes_an_nxz(real_data: Path, tmp_path: Path) -> None:
    facts = build_nxz(real_data / "demo" / "mesh.ply", tmp_path / "made.nxz", on_progress=lambda _share: None)
    assert (facts["vertices"], facts["faces"], facts["colours"]) == (7564, 15000, True)
