"""COPC files, read back by laspy: the same points in a valid octree."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
from tests.derivatives.clouds import (
    Numbers,
    hills,
    nothing,
    records,
    write_cloud,
    write_cloud_with_long_wkt,
)

from aerotask.derivatives.copc import octree
from aerotask.derivatives.copc.bounds import Bounds, bounds_of, cube_around, key_of
from aerotask.derivatives.copc.build import build_copc
from aerotask.derivatives.copc.morton_sort import sort_cloud
from aerotask.derivatives.copc.octree import LEAF_POINTS, Bucket, Octree, sorted_bucket
from aerotask.derivatives.copc.reader import open_cloud
from aerotask.domain.errors import InvalidInput


def points_of(path: Path) -> Any:
    """All points that laspy's COPC reader finds by walking the octree."""
    with laspy.CopcReader.open(str(path)) as reader:
        return reader.query()


def built(source: Path, **options: Any) -> Path:
    target = source.parent / "made.copc.laz"
    target.unlink(missing_ok=True)
    build_copc(source, target, on_progress=nothing, **options)
    return target


def nodes_of(path: Path) -> dict[tuple[int, int, int, int], int]:
    """Number of points in each node, from the hierarchy as specified."""
    content = path.read_bytes()
    at, size = struct.unpack_from("<QQ", content, 375 + 54 + 40)
    entries = struct.iter_unpack("<4iQii", content[at : at + size])
    return {entry[:4]: entry[6] for entry in entries}


@pytest.mark.parametrize(
    ("point_format", "version"),
    [
        (0, "1.2"),
        (1, "1.2"),
        (2, "1.2"),
        (3, "1.2"),
        (4, "1.3"),
        (5, "1.3"),
        (6, "1.4"),
        (7, "1.4"),
        (8, "1.4"),
        (9, "1.4"),
        (10, "1.4"),
    ],
)
def test_every_attribute_of_every_point_is_kept(tmp_path: Path, point_format: int, version: str) -> None:
    source = write_cloud(
        tmp_path / "a.laz", hills(3000), point_format=point_format, version=version, extra=True
    )
    target = built(source)
    made, before = points_of(target), laspy.read(source)
    assert made.point_format.id == {0: 6, 1: 6, 2: 7, 3: 7, 4: 6, 5: 7, 9: 6, 10: 8}.get(
        point_format, point_format
    )
    # laspy converts formats too, independently of ours.
    after = laspy.convert(before, point_format_id=made.point_format.id)
    order, expected = (
        np.lexsort([made["Z"], made["Y"], made["X"]]),
        np.lexsort([after["Z"], after["Y"], after["X"]]),
    )
    for name in after.point_format.dimension_names:
        if name == "scan_angle" and point_format < 6:
            angles = np.asarray(before["scan_angle_rank"])[expected]
            assert np.allclose(np.asarray(made[name])[order] * 0.006, angles, atol=0.003)
        else:
            assert np.array_equal(np.asarray(made[name])[order], np.asarray(after[name])[expected]), name


def test_a_cloud_in_a_copc_point_format_keeps_its_records(tmp_path: Path) -> None:
    source = write_cloud(tmp_path / "a.laz", hills(250_000), point_format=7, version="1.4", extra=True)
    assert np.array_equal(records(points_of(built(source))), records(laspy.read(source).points))


def test_header_and_bounds_are_those_of_the_source(tmp_path: Path) -> None:
    source = write_cloud(tmp_path / "a.las", hills(5000), point_format=1)
    before = laspy.read(source)
    with laspy.CopcReader.open(str(built(source))) as made:
        assert made.header.point_count == 5000
        assert made.header.mins.tolist() == before.header.mins.tolist()
        assert made.header.maxs.tolist() == before.header.maxs.tolist()
        assert made.header.parse_crs().to_epsg() == 32632
        assert sum(made.header.number_of_points_by_return) == np.count_nonzero(before["return_number"])
        half = made.copc_info.halfsize
        assert half == pytest.approx(max(before.header.maxs - before.header.mins) / 2)
        assert made.copc_info.center.tolist() == pytest.approx((before.header.mins + half).tolist())
        assert made.copc_info.gps_min == before["gps_time"].min()
        assert made.copc_info.gps_max == before["gps_time"].max()


def records_before_points(path: Path) -> tuple[list[tuple[bytes, int, int]], int, int]:
    """User, number and length of each record before the points; the end of the last; the start of the points."""
    content = path.read_bytes()
    header_bytes, points_at, count = struct.unpack_from("<HII", content, 94)
    found, at = [], header_bytes
    for _ in range(count):
        user, number, length = struct.unpack_from("<2x16sHH", content, at)
        found.append((user.rstrip(b"\0"), number, length))
        at += 54 + length
    return found, at, points_at


def test_the_header_counts_the_records_before_the_points(tmp_path: Path) -> None:
    source = write_cloud(tmp_path / "a.laz", hills(500), point_format=7, version="1.4", extra=True)
    found, end, points_at = records_before_points(built(source))
    assert end == points_at
    assert found[0] == (b"copc", 1, 160)
    assert sorted(found[1:])[:2] == [(b"LASF_Projection", 2112, found[1][2]), (b"LASF_Spec", 4, 192)]
    assert max(found)[:2] == (b"laszip encoded", 22204)


def test_the_hierarchy_is_the_extended_record_at_the_end_of_the_file(tmp_path: Path) -> None:
    content = built(write_cloud(tmp_path / "a.laz", hills(500))).read_bytes()
    first_at, count = struct.unpack_from("<QI", content, 235)
    user, number, length = struct.unpack_from("<2x16sHQ", content, first_at)
    assert (count, user.rstrip(b"\0"), number, first_at + 60 + length) == (1, b"copc", 1000, len(content))
    assert struct.unpack_from("<QQ", content, 375 + 54 + 40) == (first_at + 60, length)


def test_a_coordinate_system_in_an_extended_record_is_kept(tmp_path: Path) -> None:
    source = write_cloud_with_long_wkt(tmp_path / "a.laz", hills(500), 32632)
    with laspy.CopcReader.open(str(built(source))) as made:
        assert made.header.parse_crs().to_epsg() == 32632


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cloud with an octree of several levels."""
    return write_cloud(
        tmp_path_factory.mktemp("clouds") / "big.laz", hills(450_000), point_format=7, version="1.4"
    )


def test_nodes_are_within_their_parents_and_leaves_within_the_limit(big: Path) -> None:
    nodes = nodes_of(built(big))
    assert sum(nodes.values()) == 450_000
    for level, x, y, z in nodes:
        assert level == 0 or (level - 1, x >> 1, y >> 1, z >> 1) in nodes
        assert max(x, y, z) < 2**level
    parents = {(level - 1, x >> 1, y >> 1, z >> 1) for level, x, y, z in nodes}
    assert all(points <= LEAF_POINTS for node, points in nodes.items() if node not in parents)
    assert len({level for level, *_ in nodes}) > 2


def test_each_level_shows_the_whole_cloud_more_densely(big: Path) -> None:
    with laspy.CopcReader.open(str(built(big))) as reader:
        whole = reader.header.maxs - reader.header.mins
        coarse = reader.query(level=0)
        assert 1000 < len(coarse) < len(reader.query(level=1))
        shown = np.ptp(np.column_stack([coarse.x, coarse.y, coarse.z]), axis=0)
        assert np.all(shown > 0.98 * whole)


def test_points_are_within_their_node(big: Path) -> None:
    target = built(big)
    with laspy.CopcReader.open(str(target)) as reader:
        info = reader.copc_info
        low = info.center - info.halfsize
        bounds = laspy.Bounds(low, low + info.halfsize)  # the first child of the root
        found = reader.query(bounds=bounds)
    everything = points_of(target)
    places = np.column_stack([everything.x, everything.y, everything.z])
    inside = np.all(places <= low + info.halfsize, axis=1)
    assert len(found) == np.count_nonzero(inside)


def test_a_cloud_sorted_through_files_keeps_the_same_points(big: Path) -> None:
    target = built(big, max_points=60_000)
    assert np.array_equal(records(points_of(target)), records(laspy.read(big).points))
    nodes = nodes_of(target)
    assert all(level == 0 or (level - 1, x >> 1, y >> 1, z >> 1) in nodes for level, x, y, z in nodes)
    assert sorted(path.name for path in big.parent.iterdir()) == ["big.laz", "made.copc.laz"]


def test_no_more_points_than_allowed_are_in_memory_at_once(big: Path, tmp_path: Path) -> None:
    points = sort_cloud(open_cloud(big), tmp_path, max_points=200_000, on_progress=nothing)
    sizes = [len(bucket.records) for bucket in points.buckets]
    assert sum(sizes) == 450_000
    assert max(sizes) <= 200_000
    assert 3 <= len(sizes) <= 5
    assert list(tmp_path.iterdir()) == []


def test_several_buckets_give_the_same_nodes_as_one() -> None:
    """A node split by a bucket's edge gets its points from both sides, and each voxel one point."""
    codes = np.sort(np.random.default_rng(5).integers(0, 1 << 60, 40_000).astype(np.uint64))
    numbers = np.arange(len(codes))
    edges = [0, 1 << 57, 5 << 57, 1 << 60]

    def buckets() -> Iterator[Bucket]:
        for first, stop in itertools.pairwise(edges):
            inside = (codes >= first) & (codes < stop)
            yield Bucket(numbers[inside], codes[inside], first, stop)

    cut = Octree(leaf_points=500)
    pieces = {node.key: node.records for bucket in buckets() for node in cut.nodes(bucket)}
    whole = {node.key: node.records for node in Octree(leaf_points=500).nodes(Bucket(numbers, codes))}
    assert pieces.keys() == whole.keys()
    assert sorted(itertools.chain(*(part.tolist() for part in pieces.values()))) == numbers.tolist()
    root = np.sort(codes[pieces[key_of(0, 0)]])
    assert len(root) == len(np.unique(codes >> np.uint64(39))) == len(np.unique(root >> np.uint64(39)))


def test_codes_interleave_the_axes() -> None:
    cells = np.zeros(3, [(name, "i4") for name in "XYZ"])
    for at, name in enumerate("XYZ"):
        cells[name][at] = 1 << 20
    cube = cube_around(Bounds((0, 0, 0), (1 << 20,) * 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    ones = sum(1 << 3 * bit for bit in range(20))
    assert cube.codes(cells).tolist() == [ones, ones << 1, ones << 2]
    assert key_of(2, 0b101_010) == (2, 0b01 << 1 | 0, 0b01, 0b10)


@pytest.mark.parametrize(
    "xyz",
    [
        np.array([[500_000.0, 5_000_000.0, 3.0]]),
        np.tile([[500_001.0, 5_000_000.5, 3.0]], (200_000, 1)),
        np.concatenate([hills(150_000), [[900_000.0, 5_400_000.0, 9.0]]]),
    ],
    ids=["one point", "all in one place", "one far away"],
)
def test_degenerate_clouds_keep_their_points(tmp_path: Path, xyz: Numbers) -> None:
    source = write_cloud(tmp_path / "a.laz", xyz, point_format=6, version="1.4")
    for at_once in (None, 50_000):
        made = points_of(built(source, max_points=at_once))
        assert np.array_equal(records(made), records(laspy.read(source).points))


def test_points_on_an_edge_are_in_the_node_that_contains_their_coordinates() -> None:
    """A real cloud's extent, whose edges are multiples of 0.01 that round differently from the points on them."""
    numbers = np.arange(518_811_406, 518_811_406 + 10_629)
    stored = np.zeros(len(numbers), [(name, "i4") for name in "XYZ"])
    for name in "XYZ":
        stored[name] = numbers
    cube = cube_around(bounds_of(stored), (0.01,) * 3, (0.0,) * 3)
    places, corner = numbers * 0.01, cube.corner[0]
    by_level = [
        [key_of(level, code >> 60 - 3 * level) for code in cube.codes(stored).tolist()] for level in (1, 2)
    ]
    for level, keys in enumerate(by_level, start=1):
        side = cube.side / 2**level
        cells = np.array([key.x for key in keys])
        assert np.array_equal(cells, [key.z for key in keys])
        assert np.all(corner + cells * side <= places)
        assert np.all((places < corner + (cells + 1) * side) | (cells == 2**level - 1))


def test_the_same_cloud_gives_the_same_file(tmp_path: Path) -> None:
    source = write_cloud(tmp_path / "a.laz", hills(120_000), point_format=6, version="1.4")
    assert built(source).read_bytes() == built(source).read_bytes()


def test_a_damaged_cloud_is_rejected(tmp_path: Path) -> None:
    whole = write_cloud(tmp_path / "whole.laz", hills(20_000)).read_bytes()
    plain = write_cloud(tmp_path / "whole.las", hills(2000)).read_bytes()
    damaged = {
        "half.laz": (whole[: len(whole) // 2], "damaged or incomplete|ends after"),
        "half.las": (plain[: len(plain) // 2], "damaged or incomplete|ends after"),
        "head.laz": (whole[:100], "begin|damaged"),
        "empty.laz": (b"", "it is empty"),
        "text.las": (b"x" * 5000, "doesn't begin like"),
        "boast.las": (
            plain[:107] + struct.pack("<I", 2**32 - 1) + plain[111:],
            "declares 4,294,967,295 points",
        ),
        "records.las": (plain[:100] + struct.pack("<I", 2**31) + plain[104:], "header is damaged"),
        "scrambled.laz": (whole[:1500] + bytes(reversed(whole[1500:])), "damaged or incomplete|ends after"),
    }
    for name, (content, words) in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=words) as refused:
            build_copc(tmp_path / name, tmp_path / f"{name}.copc", on_progress=nothing)
        assert refused.value.code == "unreadable-cloud", name


def test_an_empty_cloud_is_rejected(tmp_path: Path) -> None:
    empty = write_cloud(tmp_path / "empty.las", np.zeros((0, 3)))
    with pytest.raises(InvalidInput, match="no points"):
        build_copc(empty, tmp_path / "a", on_progress=nothing)


@pytest.mark.parametrize(
    ("point_format", "version", "warnings"),
    [
        (5, "1.3", ["The COPC has no waveforms, for which its format has no place."]),
        (10, "1.4", ["The COPC has no waveforms, for which its format has no place."]),
        (3, "1.2", []),
    ],
)
def test_waveforms_are_left_out_with_a_warning(
    tmp_path: Path, point_format: int, version: str, warnings: list[str]
) -> None:
    source = write_cloud(tmp_path / "a.las", hills(10), point_format=point_format, version=version)
    properties = build_copc(source, tmp_path / "b", on_progress=nothing)
    assert properties["warnings"] == warnings


def coloured(path: Path, highest: dict[str, int], *, points: int = 3000) -> tuple[Path, dict[str, Numbers]]:
    """Points with random colours up to the given values; the file, and the colours by channel."""
    cloud = laspy.read(write_cloud(path, hills(points), point_format=8, version="1.4"))
    random = np.random.default_rng(5)
    for name, maximum in highest.items():
        cloud[name] = random.integers(0, maximum, points, endpoint=True)
        cloud[name][0] = maximum
    cloud.write(path)
    return path, {name: np.array(cloud[name]) for name in highest}


@pytest.mark.parametrize("max_points", [None, 1000])
@pytest.mark.parametrize(
    ("highest", "scaled"),
    [
        ({"red": 255, "green": 250, "blue": 3, "nir": 200}, ["red", "green", "blue", "nir"]),
        ({"red": 200, "green": 0, "blue": 0, "nir": 40_000}, ["red", "green", "blue"]),
        ({"red": 256, "green": 250, "blue": 3, "nir": 0}, []),
        ({"red": 0, "green": 0, "blue": 0, "nir": 0}, []),
    ],
)
def test_colours_of_8_bits_are_scaled_to_16(
    tmp_path: Path, highest: dict[str, int], scaled: list[str], max_points: int | None
) -> None:
    source, before = coloured(tmp_path / "a.las", highest)
    target = tmp_path / "made.copc.laz"
    properties = build_copc(source, target, on_progress=nothing, max_points=max_points)
    made = points_of(target)
    for name, values in before.items():
        factor = 257 if name in scaled else 1
        assert np.array_equal(np.sort(made[name]), np.sort(values.astype(np.int64) * factor)), name
    assert len(properties["warnings"]) == bool(scaled)


def test_real_clouds_keep_count_and_bounds(real_data: Path, tmp_path: Path) -> None:
    for name in ("brighton/model.laz", "demo/point_cloud.laz"):
        source, target = real_data / name, tmp_path / "made.copc.laz"
        target.unlink(missing_ok=True)
        properties = build_copc(source, target, on_progress=nothing)
        before, made = laspy.read(source), points_of(target)
        assert properties["points"] == len(made) == before.header.point_count
        # This file's header has the bounds before its coordinates were rounded to its scale.
        tolerance = before.header.scales / 2 + 1e-6
        assert np.all(
            np.abs(np.array(properties["bounds"]) - [before.header.mins, before.header.maxs]) <= tolerance
        )
        for dimension in ("X", "Y", "Z", "intensity"):
            assert np.array_equal(np.sort(made[dimension]), np.sort(before[dimension]))
        for channel in ("red", "green", "blue"):  # of 8 bits in both
            assert np.array_equal(np.sort(made[channel]), np.sort(np.array(before[channel], np.int64)) * 257)


def test_the_cells_are_small_enough_for_the_deepest_level() -> None:
    assert octree.MAX_LEVEL == 13
    one = np.zeros(4, [(name, "i4") for name in "XYZ"])
    bucket = sorted_bucket(one, np.zeros(4, np.uint64))
    assert [len(node.records) for node in Octree(leaf_points=1).nodes(bucket)] == [1, 1, 1, 1]
