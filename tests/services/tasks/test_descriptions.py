"""Descriptions of entries by a child, and the checks of the worker."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from aerotask.domain.errors import TaskFailed
from aerotask.sdk import DescribeEntry
from aerotask.services.tasks.outcome.descriptions import BATCH, read_descriptions, write_descriptions

GOOD = DescribeEntry("a/x.jpg", "0" * 64, "geoImage", {"width": 5}, {"type": "Point", "coordinates": [1, 2]})


def read(file: Path, *, may_write: tuple[str, ...] = ("",)) -> list[list[dict[str, Any]]]:
    inputs = dict.fromkeys(["a/x.jpg", *map(str, range(BATCH + 1))], "0" * 64)
    return list(read_descriptions(file, may_write=may_write, inputs=inputs))


def test_written_descriptions_are_read_as_rows(tmp_path: Path) -> None:
    file = Path(write_descriptions([GOOD], tmp_path))
    assert read(file) == [
        [
            {
                "path": "a/x.jpg",
                "type": "geoImage",
                "properties": {"width": 5},
                "point_geom": {"type": "Point", "coordinates": [1, 2]},
                "polygon_geom": None,
            }
        ]
    ]


def test_descriptions_are_read_in_batches(tmp_path: Path) -> None:
    many = [replace(GOOD, at=str(number)) for number in range(BATCH + 1)]
    file = Path(write_descriptions(many, tmp_path))
    assert [len(batch) for batch in read(file)] == [BATCH, 1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"at": "a/other.jpg"}, id="no input"),
        pytest.param({"at": 5}, id="no path"),
        pytest.param({"type": "directory"}, id="a folder"),
        pytest.param({"type": "spreadsheet"}, id="an unknown type"),
        pytest.param({"sha256": "1" * 64}, id="another content"),
        pytest.param({"sha256": 5}, id="a number for a hash"),
        pytest.param({"properties": [1]}, id="no properties"),
        pytest.param({"polygon_geom": "POLYGON"}, id="no GeoJSON"),
        pytest.param({"extra": 1}, id="a member too many"),
        pytest.param({"properties": {"x": "y" * 2_000_000}}, id="endless properties"),
    ],
)
def test_an_invalid_description_fails_the_task(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "lines"
    file.write_bytes(orjson.dumps({**asdict(GOOD), **change}) + b"\n")
    with pytest.raises(TaskFailed) as caught:
        read(file)
    assert caught.value.code == "bad-output"


def test_a_description_of_an_unplanned_path_fails_the_task(tmp_path: Path) -> None:
    file = Path(write_descriptions([GOOD], tmp_path))
    with pytest.raises(TaskFailed, match=r"'a/x\.jpg' is described"):
        read(file, may_write=("b",))


def test_invalid_json_fails_the_task(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"{")
    with pytest.raises(TaskFailed, match="is no JSON"):
        read(tmp_path / "lines")


def test_a_path_described_twice_fails_the_task(tmp_path: Path) -> None:
    file = Path(write_descriptions([GOOD, GOOD], tmp_path))
    with pytest.raises(TaskFailed, match="described twice"):
        read(file)
