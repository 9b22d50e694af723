"""EXIF and XMP reader, also on damaged and hostile files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.metadata.photo_files import CAMERA, exif_block, packet_of, write_photo, xmp_packet

from aerotask.metadata.photos.exif import EmbeddedMetadata, read_embedded

EVERY_KIND = ["photo.jpg", "photo.png", "photo.webp", "photo.tif"]


def full_exif() -> Image.Exif:
    return exif_block(
        {"Make": "DJI\0\0\0", "Model": "FC300S"},
        {"FocalLength": 3.61, "DateTimeOriginal": "2016:06:23 16:31:59"},
        {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 50.0, 33.5), "GPSAltitude": 198.25},
    )


@pytest.mark.parametrize("name", EVERY_KIND)
def test_exif_and_xmp_are_read_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    packet = xmp_packet({"GimbalYawDegree": "+45.00", "RelativeAltitude": "+39.80"})
    found = read_embedded(write_photo(tmp_path / name, exif=full_exif(), xmp=packet))
    assert found.exif["Make"] == "DJI"
    assert found.exif["Model"] == "FC300S"
    assert found.exif["FocalLength"] == pytest.approx(3.61)
    assert found.exif["DateTimeOriginal"] == "2016:06:23 16:31:59"
    assert found.gps == {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 50.0, 33.5), "GPSAltitude": 198.25}
    assert found.xmp == {"drone-dji:GimbalYawDegree": "+45.00", "drone-dji:RelativeAltitude": "+39.80"}
    assert found.faults == ()


@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_file_without_metadata_has_none(tmp_path: Path, name: str) -> None:
    found = read_embedded(write_photo(tmp_path / name))
    assert (found.gps, found.xmp, found.faults) == ({}, {}, ())
    assert "Make" not in found.exif


def test_a_16_bit_tiff_is_read_too(tmp_path: Path) -> None:
    packet = xmp_packet({"BandName": "Blue"}, namespace=CAMERA, prefix="Camera")
    path = write_photo(tmp_path / "band.tif", exif=exif_block({"Make": "MicaSense"}), xmp=packet, mode="I;16")
    found = read_embedded(path)
    assert (found.exif["Make"], found.exif["BitsPerSample"]) == ("MicaSense", 16)
    assert found.xmp == {"Camera:BandName": "Blue"}


def test_elements_and_attributes_and_lists_all_become_properties(tmp_path: Path) -> None:
    packet = packet_of("""
        <rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Make="Parrot">
          <tiff:Model>Sequoia</tiff:Model>
        </rdf:Description>
        <rdf:Description xmlns:Camera="http://pix4d.com/camera/1.0">
          <Camera:BandName><rdf:Seq><rdf:li>Green</rdf:li><rdf:li>Red</rdf:li></rdf:Seq></Camera:BandName>
          <Camera:Rig><rdf:Bag><rdf:li>7</rdf:li></rdf:Bag></Camera:Rig>
          <Camera:Title><rdf:Alt><rdf:li xml:lang="x-default">Field</rdf:li></rdf:Alt></Camera:Title>
          <Camera:Pose rdf:parseType="Resource"><Camera:Yaw>12.5</Camera:Yaw></Camera:Pose>
        </rdf:Description>""")
    assert read_embedded(write_photo(tmp_path / "a.jpg", xmp=packet)).xmp == {
        "tiff:Make": "Parrot",
        "tiff:Model": "Sequoia",
        "Camera:BandName": ("Green", "Red"),
        "Camera:Rig": ("7",),
        "Camera:Title": ("Field",),
        "Camera:Yaw": "12.5",
        "Camera:Pose/Camera:Yaw": "12.5",
    }


def test_a_known_namespace_has_its_usual_prefix(tmp_path: Path) -> None:
    packet = xmp_packet({"GimbalPitchDegree": "-90"}, prefix="mine")
    assert read_embedded(write_photo(tmp_path / "a.jpg", xmp=packet)).xmp == {
        "drone-dji:GimbalPitchDegree": "-90"
    }


def test_an_unknown_namespace_keeps_the_prefix_of_the_file(tmp_path: Path) -> None:
    packet = xmp_packet({"Colour": "red"}, namespace="urn:of-somebody", prefix="own")
    assert read_embedded(write_photo(tmp_path / "a.jpg", xmp=packet)).xmp == {"own:Colour": "red"}


def test_properties_before_the_damage_in_a_packet_are_kept(tmp_path: Path) -> None:
    packet = xmp_packet({"FlightYawDegree": "3"}).replace(b"</rdf:RDF>", b"</rdf:RD>")
    found = read_embedded(write_photo(tmp_path / "a.jpg", xmp=packet))
    assert (found.xmp, found.faults) == ({"drone-dji:FlightYawDegree": "3"}, ("damaged-xmp",))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(
            b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>', id="entities that multiply"
        ),
        pytest.param(
            b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><x>&f;</x>',
            id="an entity that is a file",
        ),
        pytest.param(b'<?xml version="1.0" encoding="of-nobody"?><x/>', id="an unknown encoding"),
        pytest.param(b"\xff\xfe\x00", id="no XML"),
        pytest.param(b"<a>" * 20_000, id="endless nesting"),
    ],
)
def test_a_hostile_packet_is_reported_and_ignored(tmp_path: Path, packet: bytes) -> None:
    path = write_photo(tmp_path / "a.jpg", exif=exif_block({"Make": "DJI"}), xmp=packet)
    found = read_embedded(path)
    assert (found.xmp, found.faults) == ({}, ("damaged-xmp",))
    assert found.exif["Make"] == "DJI"


def test_an_oversized_packet_is_ignored(tmp_path: Path) -> None:
    packet = packet_of(f"<!--{'x' * 1_100_000}-->")
    assert read_embedded(write_photo(tmp_path / "a.png", xmp=packet)) == EmbeddedMetadata()


def test_exif_pointing_outside_the_block_is_reported(tmp_path: Path) -> None:
    block = exif_block({"Make": "DJI", "Software": "a text that is kept elsewhere"}).tobytes()
    # The offset of the longest text leads out of the block.
    lying = block.replace(struct.pack(">L", block.index(b"a text") - 6), struct.pack(">L", 0x7FFFFFFF))
    assert lying != block
    found = read_embedded(_jpeg_with_block(tmp_path, lying))
    assert "Software" not in found.exif
    assert found.faults == ("damaged-exif",)


def test_truncated_exif_is_reported(tmp_path: Path) -> None:
    block = full_exif().tobytes()
    found = read_embedded(_jpeg_with_block(tmp_path, block[: len(block) // 2]))
    assert found.faults == ("damaged-exif",)


def test_a_directory_that_contains_itself_is_read_once(tmp_path: Path) -> None:
    # One tag: the EXIF pointer, to the directory it stands in.
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLLL", 1, 0x8769, 4, 1, 8, 0)
    assert read_embedded(_jpeg_with_block(tmp_path, block)).exif == {}


def test_a_rational_over_zero_is_left_out(tmp_path: Path) -> None:
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLLLLL", 1, 0x011A, 5, 1, 26, 0, 72, 0)
    found = read_embedded(_jpeg_with_block(tmp_path, block))
    assert (found.exif, found.faults) == ({}, ())


def test_a_tag_with_more_values_than_usual_is_not_damaged(tmp_path: Path) -> None:
    # Orientation, once too often.
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLHHL", 1, 0x0112, 3, 2, 6, 1, 0)
    found = read_embedded(_jpeg_with_block(tmp_path, block))
    assert (found.exif, found.faults) == ({"Orientation": 6}, ())


def test_strip_and_tile_tables_are_left_out(tmp_path: Path) -> None:
    found = read_embedded(write_photo(tmp_path / "a.tif", size=(300, 3000)))
    assert found.exif["ImageWidth"] == 300
    assert not {"StripOffsets", "StripByteCounts"} & found.exif.keys()


def test_a_bigtiff_declaring_countless_tags_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**60) + b"\0" * 2_000_000)
    assert read_embedded(path).faults == ("damaged-exif",)


@pytest.mark.parametrize("name", EVERY_KIND)
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff", b"II*\0", b"MM\0+\0"])
def test_files_of_other_formats_do_not_crash_the_reader(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = read_embedded(tmp_path / name)
    assert (found.exif, found.xmp) == ({}, {})


@pytest.mark.parametrize("name", EVERY_KIND)
def test_corrupted_files_do_not_crash_the_reader(tmp_path: Path, name: str) -> None:
    whole = write_photo(
        tmp_path / name, exif=full_exif(), xmp=xmp_packet({"GimbalYawDegree": "1"})
    ).read_bytes()
    mutilated = tmp_path / f"mutilated-{name}"

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        changes=st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=8))),
        cut=st.integers(0, len(whole)),
        cut_it=st.booleans(),
    )
    def holds(changes: list[tuple[int, bytes]], cut: int, cut_it: bool) -> None:  # noqa: FBT001
        content = bytearray(whole)
        for at, piece in changes:
            content[at : at + len(piece)] = piece
        mutilated.write_bytes(bytes(content[:cut] if cut_it else content))
        found = read_embedded(mutilated)
        assert set(found.faults) <= {"damaged-exif", "damaged-xmp"}

    holds()


@settings(max_examples=200, deadline=None)
@given(packet=st.binary(max_size=300) | st.text(alphabet="<>/:=\"' abx&;![]-?", max_size=300).map(str.encode))
def test_arbitrary_packets_do_not_crash_the_reader(
    packet: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "JPEG")
    path = tmp_path_factory.getbasetemp() / "packet.jpg"
    segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
    path.write_bytes(
        b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content.getvalue()[2:]
    )
    assert read_embedded(path).exif == {}


def test_a_photo_of_a_dji_drone(real_data: Path) -> None:
    found = read_embedded(real_data / "brighton" / "DJI_0018.JPG")
    assert (found.exif["Make"], found.exif["Model"]) == ("DJI", "FC300S")
    assert found.gps["GPSLatitude"] == pytest.approx((46.0, 50.0, 33.3855))
    assert found.xmp["drone-dji:GimbalPitchDegree"] == "-89.90"
    assert found.faults == ()


def test_a_band_of_a_micasense_camera(real_data: Path) -> None:
    found = read_embedded(real_data / "micasense" / "IMG_0000_1.tif")
    assert (found.exif["Make"], found.exif["SubsecTime"]) == ("MicaSense", "200173789")
    assert found.xmp["Camera:BandName"] == "Blue"
    assert found.xmp["MicaSense:DarkRowValue"] == ("5092", "5082", "5049", "5063")
    assert found.faults == ()


def _jpeg_with_block(folder: Path, block: bytes) -> Path:
    """JPEG whose first segment is the EXIF block."""
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "JPEG")
    path = folder / "lying.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content.getvalue()[2:])
    return path
