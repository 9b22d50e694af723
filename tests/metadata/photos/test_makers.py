"""Photos with the tags of each maker of drones, read from whole files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.metadata.photo_files import CAMERA, DJI, exif_block, packet_of, write_photo, xmp_packet

from aerotask.metadata.photos.photo import extract_photo

SKYDIO = "https://www.skydio.com/drone-skydio/1.0/"
PARROT = "http://www.parrot.com/drone-parrot/1.0/"
SENTERA = "http://sentera.com/XMP/1.0/"
TIFF = "http://ns.adobe.com/tiff/1.0/"


def properties_of(
    folder: Path, xmp: bytes, make: str | None = None, model: str | None = None
) -> Mapping[str, Any]:
    tags = {name: value for name, value in (("Make", make), ("Model", model)) if value}
    return extract_photo(
        write_photo(folder / "photo.jpg", exif=exif_block(tags), xmp=xmp), (40, 30)
    ).properties


def angles(properties: Mapping[str, Any]) -> tuple[float | None, ...]:
    return tuple(properties.get(f"camera{name}") for name in ("Yaw", "Pitch", "Roll"))


@pytest.mark.parametrize(
    ("pitch", "expected"),
    [("-90", -90.0), ("-45.5", -45.5), ("0", -90.0), ("30", -60.0)],
    ids=[
        "straight down by the horizon",
        "oblique by the horizon",
        "straight down by Pix4D",
        "oblique by Pix4D",
    ],
)
def test_autel_writes_its_name_into_xmp_and_some_pitches_from_the_horizon(
    tmp_path: Path, pitch: str, expected: float
) -> None:
    # OpenAthenaIOS issue 62: EVO Lite Enterprise 640T (XL715).
    xmp = packet_of(
        f'<rdf:Description xmlns:tiff="{TIFF}" xmlns:Camera="{CAMERA}" tiff:Make="Autel Robotics" tiff:Model="XL715" '
        f'Camera:Yaw="87.5" Camera:Pitch="{pitch}" Camera:Roll="0"/>'
    )
    found = properties_of(tmp_path, xmp, "Camera", "XL715")
    assert (found["make"], found["sensor"]) == ("Autel Robotics", "autel robotics xl715")
    assert angles(found) == (87.5, expected, 0.0)
    assert "metadataFaults" not in found


def test_a_fixed_wing_of_another_maker_may_look_backwards(tmp_path: Path) -> None:
    xmp = xmp_packet({"Yaw": "10", "Pitch": "-3.5", "Roll": "4"}, namespace=CAMERA, prefix="Camera")
    assert angles(properties_of(tmp_path, xmp, "senseFly", "S.O.D.A.")) == (10.0, -93.5, -4.0)


@pytest.mark.parametrize("form", ["elements", "attributes"])
def test_skydio_has_several_frames_of_reference_with_the_same_names(tmp_path: Path, form: str) -> None:
    # OpenAthena's reader; Skydio's support article 4417425974683.
    frames = {
        "CameraOrientationFLU": {"Roll": "1", "Pitch": "50", "Yaw": "2"},
        "CameraOrientationNED": {"Roll": "-0.5", "Pitch": "-89.5", "Yaw": "-170.25"},
        "CalibratedFocalLength": {"X": "30", "Y": "30"},
    }
    if form == "elements":
        structures = "".join(
            f'<drone-skydio:{frame} rdf:parseType="Resource">'
            + "".join(
                f"<drone-skydio:{name}>{value}</drone-skydio:{name}>" for name, value in members.items()
            )
            + f"</drone-skydio:{frame}>"
            for frame, members in frames.items()
        )
    else:
        structures = "".join(
            f"<drone-skydio:{frame} "
            + " ".join(f'drone-skydio:{name}="{value}"' for name, value in members.items())
            + "/>"
            for frame, members in frames.items()
        )
    xmp = packet_of(
        f'<rdf:Description xmlns:drone-skydio="{SKYDIO}" drone-skydio:Latitude="45.5" '
        'drone-skydio:Longitude="-122.25" drone-skydio:AbsoluteAltitude="80.5" drone-skydio:RelativeAltitude="30.25">'
        f"{structures}</rdf:Description>"
    )
    photo = extract_photo(
        write_photo(tmp_path / "a.jpg", exif=exif_block({"Make": "Skydio"}), xmp=xmp), (40, 30)
    )
    assert angles(photo.properties) == (-170.25, -89.5, -0.5)
    assert photo.properties["relativeAltitude"] == 30.25
    assert photo.point == {"type": "Point", "coordinates": [-122.25, 45.5, 80.5]}
    assert photo.footprint is not None


def test_parrots_angles_are_from_the_horizon(tmp_path: Path) -> None:
    tags = {
        "CameraYawDegree": "12",
        "CameraPitchDegree": "-80",
        "CameraRollDegree": "1",
        "DroneYawDegree": "13",
    }
    found = properties_of(
        tmp_path, xmp_packet(tags, namespace=PARROT, prefix="drone-parrot"), "Parrot", "Anafi"
    )
    assert (angles(found), found["flightYaw"]) == ((12.0, -80.0, 1.0), 13.0)


def test_senteras_height_is_above_the_ground(tmp_path: Path) -> None:
    xmp = packet_of(
        f'<rdf:Description xmlns:Camera="{CAMERA}" xmlns:Sentera="{SENTERA}" Camera:Yaw="1" Camera:Pitch="2" '
        'Camera:Roll="3" Sentera:AltimeterCalculatedAGL="59.5"/>'
    )
    found = properties_of(tmp_path, xmp, "Sentera", "6X")
    assert (angles(found), found["relativeAltitude"]) == ((1.0, -88.0, 3.0), 59.5)


MINI = {
    **{f"Gimbal{name}Degree": "+0.00" for name in ("Yaw", "Pitch", "Roll")},
    "FlightYawDegree": "+179.90",
    "FlightPitchDegree": "-1.60",
    "RelativeAltitude": "+79.40",
}


def test_a_dji_mini_that_writes_no_gimbal_angles_has_no_orientation(tmp_path: Path) -> None:
    # dji-sdk/Mobile-SDK-Android issue 1233: the camera looked straight down.
    photo = write_photo(
        tmp_path / "a.jpg", exif=exif_block({"Make": "DJI", "Model": "FC7303"}), xmp=xmp_packet(MINI)
    )
    found = extract_photo(photo, (40, 30))
    assert (found.properties["hasCameraOrientation"], angles(found.properties)) == (False, (None, None, None))
    assert found.properties["metadataFaults"] == ["implausible-angles"]
    assert (found.properties["flightYaw"], found.properties["relativeAltitude"]) == (179.9, 79.4)


def test_a_gimbal_at_zero_on_a_level_drone_is_believed(tmp_path: Path) -> None:
    level = {**MINI, "FlightYawDegree": "0", "FlightPitchDegree": "0"}
    assert angles(properties_of(tmp_path, xmp_packet(level), "DJI")) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "tags",
    [
        {"GimbalYawDegree": "10", "GimbalPitchDegree": "-180"},
        {"GimbalYawDegree": "10", "GimbalPitchDegree": "91"},
        {"GimbalYawDegree": "400", "GimbalPitchDegree": "-90"},
        {"GimbalYawDegree": "10", "GimbalPitchDegree": "-90", "GimbalRollDegree": "1e6"},
    ],
)
def test_implausible_angles_are_flagged_and_not_stored(tmp_path: Path, tags: dict[str, str]) -> None:
    found = properties_of(tmp_path, xmp_packet({**tags, "RelativeAltitude": "30"}), "DJI")
    assert (found["hasCameraOrientation"], angles(found)) == (False, (None, None, None))
    assert (found["metadataFaults"], found["relativeAltitude"]) == (["implausible-angles"], 30.0)


@pytest.mark.parametrize("broken", ["", "n/a", "nan"])
def test_one_broken_tag_does_not_lose_the_others(tmp_path: Path, broken: str) -> None:
    tags = {
        "GimbalYawDegree": broken,
        "GimbalPitchDegree": "-60",
        "GimbalRollDegree": "1",
        "FlightYawDegree": "7",
    }
    found = properties_of(tmp_path, xmp_packet(tags), "DJI")
    assert (found["hasCameraOrientation"], angles(found), found["flightYaw"]) == (
        False,
        (None, -60.0, 1.0),
        7.0,
    )
    without_roll = properties_of(
        tmp_path, xmp_packet({**tags, "GimbalYawDegree": "5", "GimbalRollDegree": broken}), "DJI"
    )
    assert (without_roll["hasCameraOrientation"], angles(without_roll)) == (True, (5.0, -60.0, 0.0))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_stray_ampersand_in_xmp_loses_nothing(tmp_path: Path, where: str) -> None:
    title = '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>R&D &amp; Fields</dc:title></rdf:Description>'
    gimbal = f'<rdf:Description xmlns:drone-dji="{DJI}" drone-dji:GimbalYawDegree="5" drone-dji:GimbalPitchDegree="-90"/>'
    xmp = packet_of(title + gimbal if where == "before" else gimbal + title)
    found = properties_of(tmp_path, xmp, "DJI")
    assert angles(found) == (5.0, -90.0, 0.0)
    assert "metadataFaults" not in found
