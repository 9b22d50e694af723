"""Video metadata and image sizes from file headers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.photos import image_size
from aerotask.metadata.video import extract_video


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + len(content), kind) + content


def header(*, created: int, per_second: int, length: int) -> bytes:
    return box(b"mvhd", struct.pack(">4xLLLL", created, created, per_second, length) + b"\0" * 80)


def track(width: int, height: int) -> bytes:
    return box(b"trak", box(b"tkhd", b"\0" * 76 + struct.pack(">LL", width << 16, height << 16)))


def place(text: str) -> bytes:
    return box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(text), 0x15C7) + text.encode()))


def video(*parts: bytes) -> bytes:
    return box(b"ftyp", b"mp42") + box(b"mdat", b"\0" * 50) + box(b"moov", b"".join(parts))


def test_size_duration_time_and_location(tmp_path: Path) -> None:
    # 2021-06-01 12:30:00 UTC is 3,705,395,400 s after the beginning of 1904.
    content = video(
        header(created=3_705_395_400, per_second=600, length=7500),
        track(0, 0),
        track(3840, 2160),
        place("+46.8426-091.9945+198.3/"),
    )
    (tmp_path / "a.mp4").write_bytes(content)
    found = extract_video(tmp_path / "a.mp4")
    assert found.properties == {
        "duration": 12.5,
        "captureTime": 1_622_550_600_000,
        "captureTimeText": "2021-06-01T12:30:00.000+00:00",
        "width": 3840,
        "height": 2160,
    }
    assert found.point == {"type": "Point", "coordinates": [-91.9945, 46.8426, 198.3]}


@pytest.mark.parametrize("text", ["+00.0000+000.0000/", "+99.0000+000.0000/", "north", ""])
def test_an_invalid_location_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mp4").write_bytes(video(place(text)))
    assert extract_video(tmp_path / "a.mp4").point is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no video", id="no boxes"),
        pytest.param(video(track(1, 1))[:60], id="cut"),
        pytest.param(box(b"ftyp", b"mp42") + struct.pack(">L4sQ", 1, b"moov", 2**63), id="a box of 2^63 bytes"),
        pytest.param(struct.pack(">L4s", 4, b"moov"), id="a box smaller than its head"),
        pytest.param(box(b"free", b"") * 3000 + box(b"moov", b""), id="endless boxes"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_video_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a readable video"):
        extract_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("webp", {"lossless": True}), ("webp", {"lossless": False}), ("webp", {"exif": b"Exif\0\0"}), ("gif", {}), ("bmp", {})],
)  # fmt: skip
def test_the_size_of_an_image(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / f"a.{suffix}", **options)
    assert image_size.size_of(tmp_path / f"a.{suffix}") == (300, 200)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"GIF89a\0\0\0\0", b"BM", b"RIFF\0\0\0\0WEBPVP9 " + b"\0" * 20]
)
def test_a_file_that_is_not_an_image_has_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gif").write_bytes(content)
    assert image_size.size_of(tmp_path / "a.gif") is None
