"""Photo metadata from EXIF and XMP by the makers' conventions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.metadata.extract import extract_metadata
from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.photo import PhotoMetadata, interpret
from aerotask.metadata.photos.xmp import XmpValue

NORTH_WEST: dict[str, Any] = {
    "GPSLatitudeRef": "N",
    "GPSLatitude": (46.0, 30.0, 36.0),
    "GPSLongitudeRef": "W",
    "GPSLongitude": (91.0, 59.0, 24.0),
    "GPSAltitude": 198.5,
}


def photo(
    exif: Mapping[str, Any] | None = None,
    xmp: Mapping[str, XmpValue] | None = None,
    size: tuple[int, int] | None = (4000, 3000),
    **gps: Any,
) -> PhotoMetadata:
    return interpret(EmbeddedMetadata({**(exif or {}), "gps": gps}, xmp or {}), size)


def test_position_is_in_degrees_with_the_altitude_last() -> None:
    assert photo(None, None, **NORTH_WEST).point == {"type": "Point", "coordinates": [-91.99, 46.51, 198.5]}


def test_a_height_below_the_sea_is_negative() -> None:
    found = photo(**{**NORTH_WEST, "GPSAltitudeRef": b"\x01"})
    assert found.properties["absoluteAltitude"] == -198.5


@pytest.mark.parametrize(
    "gps",
    [
        {"GPSLatitude": (0.0, 0.0, 0.0), "GPSLongitude": (0.0, 0.0, 0.0)},
        {"GPSLatitude": (95.0, 0.0, 0.0), "GPSLongitude": (10.0, 0.0, 0.0)},
        {"GPSLatitude": (45.0, 0.0, 0.0)},
        {"GPSLatitude": "46.5", "GPSLongitude": "-91"},
        {"GPSLatitude": (45.0, -3.0, 0.0), "GPSLongitude": (10.0, 0.0, 0.0)},
        {"GPSLatitude": (45.0, 1.0, 0.0, 4.0), "GPSLongitude": (10.0, 0.0, 0.0)},
    ],
)
def test_an_invalid_position_is_ignored(gps: dict[str, Any]) -> None:
    assert photo(**gps).point is None


def test_dji_gimbal_height_speed_and_accuracy() -> None:
    found = photo(
        {"Make": "DJI", "Model": "FC6310"},
        {
            "drone-dji:GimbalYawDegree": "+45.00",
            "drone-dji:GimbalPitchDegree": "-89.90",
            "drone-dji:GimbalRollDegree": "+0.00",
            "drone-dji:FlightYawDegree": "+46.00",
            "drone-dji:RelativeAltitude": "+39.80",
            "drone-dji:FlightXSpeed": "+3.0",
            "drone-dji:FlightYSpeed": "-4.0",
            "drone-dji:FlightZSpeed": "0.0",
            "drone-dji:RtkStdLon": "0.012",
            "drone-dji:RtkStdLat": "0.015",
            "drone-dji:RtkStdHgt": "0.03",
        },
    ).properties
    assert (found["hasCameraOrientation"], found["cameraYaw"], found["cameraPitch"]) == (True, 45.0, -89.9)
    assert (found["cameraRoll"], found["flightYaw"], found["relativeAltitude"]) == (0.0, 46.0, 39.8)
    assert (found["flightSpeed"], found["gpsXYAccuracy"], found["gpsZAccuracy"]) == (5.0, 0.015, 0.03)
    assert (found["sensor"], found["sensorWidth"], found["sensorHeight"]) == ("dji fc6310", 13.2, 8.8)


def test_dji_position_from_xmp_where_exif_has_none() -> None:
    found = photo(xmp={"drone-dji:GpsLatitude": "46.51", "drone-dji:GpsLongtitude": "-91.99"})
    assert found.point == {"type": "Point", "coordinates": [-91.99, 46.51]}


def test_pix4d_measures_the_pitch_from_straight_down() -> None:
    found = photo({"Make": "Parrot"}, {"Camera:Yaw": "90", "Camera:Pitch": "5", "Camera:Roll": "-2"})
    assert [found.properties[f"camera{name}"] for name in ("Yaw", "Pitch", "Roll")] == [90.0, -85.0, -2.0]


def test_senseflys_roll_has_the_opposite_sign() -> None:
    found = photo(
        {"Make": "senseFly", "Model": "S.O.D.A."},
        {
            "Camera:Yaw": "10.5",
            "Camera:Pitch": "3.5",
            "Camera:Roll": "4.25",
            "Camera:AboveGroundAltitude": "120.5",
            "Camera:GPSXYAccuracy": "0.02",
            "Camera:GPSZAccuracy": "0.05",
        },
    ).properties
    assert (found["cameraYaw"], found["cameraPitch"], found["cameraRoll"]) == (10.5, -86.5, -4.25)
    assert (found["relativeAltitude"], found["gpsXYAccuracy"], found["gpsZAccuracy"]) == (120.5, 0.02, 0.05)


def test_parrot_has_angles_of_camera_and_drone() -> None:
    found = photo(
        {"Make": "Parrot", "Model": "Anafi"},
        {
            "drone-parrot:CameraYawDegree": "12",
            "drone-parrot:CameraPitchDegree": "-90",
            "drone-parrot:CameraRollDegree": "1",
            "drone-parrot:DroneYawDegree": "13",
        },
    ).properties
    assert (found["cameraYaw"], found["cameraPitch"], found["cameraRoll"]) == (12.0, -90.0, 1.0)
    assert found["flightYaw"] == 13.0


def test_a_micasense_band() -> None:
    found = photo(
        {
            "Make": "MicaSense",
            "Model": "RedEdge-M",
            "FocalLength": 5.5,
            "FocalPlaneXResolution": 266.666667,
            "FocalPlaneYResolution": 266.666667,
            "FocalPlaneResolutionUnit": 4,
            "DateTimeOriginal": "2017:10:19 20:40:39",
        },
        {"Camera:BandName": "NIR", "Camera:CentralWavelength": "840", "Camera:RigCameraIndex": "3"},
        (1280, 960),
        **NORTH_WEST,
        GPSDOP=1.33,
    ).properties
    assert (found["bandName"], found["centralWavelength"], found["rigCameraIndex"]) == ("NIR", 840.0, 3)
    assert (found["sensorWidth"], found["sensorHeight"]) == (pytest.approx(4.8), pytest.approx(3.6))
    assert found["gpsDop"] == 1.33
    # Its clock shows UTC, wherever it flies.
    assert found["captureTimeText"] == "2017-10-19T20:40:39.000+00:00"
    assert found["captureTimeZoneSource"] == "camera"


def test_several_bands_are_listed_in_order() -> None:
    assert photo(xmp={"Camera:BandName": ("Red", "Green", "NIR")}).properties["bandName"] == "Red, Green, NIR"


def test_the_sensor_size_from_the_focal_plane_resolution() -> None:
    found = photo(
        {"FocalPlaneXResolution": 250.0, "FocalPlaneYResolution": 250.0, "FocalPlaneResolutionUnit": 4}
    )
    assert (found.properties["sensorWidth"], found.properties["sensorHeight"]) == (16.0, 12.0)


@pytest.mark.parametrize(
    ("xmp", "name", "wavelength"),
    [
        ({"drone-dji:BandName": "Green", "drone-dji:BandFreq": "560(+/-16nm)"}, "Green", 560.0),
        ({"Sentera:BandName": "Red", "Camera:CentralWavelength": "670"}, "Red", 670.0),
        ({"drone-dji:CentralWavelength": "730"}, None, 730.0),
    ],
)
def test_every_makers_band_names_are_known(
    xmp: dict[str, XmpValue], name: str | None, wavelength: float
) -> None:
    found = photo(xmp=xmp).properties
    assert (found.get("bandName"), found["centralWavelength"]) == (name, wavelength)


def test_a_sensor_size_that_contradicts_both_focal_lengths_is_ignored() -> None:
    # A second camera under the model of the first: 43.27 mm · 4.34 / 25 in the shape 4:3.
    second = {"Model": "FC6310", "FocalLength": 4.34, "FocalLengthIn35mmFilm": 25}
    found = photo(second, size=(2592, 1944)).properties
    assert (found["sensorWidth"], found["sensorHeight"]) == (
        pytest.approx(6.01, abs=0.01),
        pytest.approx(4.51, abs=0.01),
    )
    first = photo({"Model": "FC6310", "FocalLength": 8.8, "FocalLengthIn35mmFilm": 24}).properties
    assert (first["sensorWidth"], first["sensorHeight"]) == (13.2, 8.8)


def test_the_sensor_size_in_the_file_is_preferred_to_that_of_the_model() -> None:
    plane = {"FocalPlaneXResolution": 745.6, "FocalPlaneYResolution": 745.6, "FocalPlaneResolutionUnit": 4}
    found = photo({"Model": "RedEdge", **plane}, size=(4608, 3456)).properties
    assert found["sensorWidth"] == pytest.approx(6.18, abs=0.01)
    # In a picture that was made smaller afterwards, it is no longer true.
    smaller = photo(
        {"Model": "FC6310", "FocalLength": 8.8, "FocalLengthIn35mmFilm": 24, **plane}, size=(1368, 912)
    )
    assert smaller.properties["sensorWidth"] == 13.2


def test_the_sensor_size_from_the_equivalent_focal_length() -> None:
    # A third of the full frame's diagonal of 43.27 mm, in the shape 4:3: 14.42 · 0.8 by 14.42 · 0.6.
    found = photo({"FocalLength": 10.0, "FocalLengthIn35mmFilm": 30})
    assert found.properties["sensorWidth"] == pytest.approx(11.54, abs=0.01)
    assert found.properties["sensorHeight"] == pytest.approx(8.65, abs=0.01)


def test_the_footprint_of_a_nadir_photo_is_below_it() -> None:
    # 12 mm of sensor over 10 mm at 100 m: 120 m across; the 16:9 picture uses 6.75 mm of the height: 67.5 m.
    found = photo(
        {
            "FocalLength": 10.0,
            "FocalPlaneXResolution": 4000 / 12,
            "FocalPlaneYResolution": 2250 / 6.75,
            "FocalPlaneResolutionUnit": 4,
        },
        {
            "drone-dji:GimbalYawDegree": "0",
            "drone-dji:GimbalPitchDegree": "-90",
            "drone-dji:RelativeAltitude": "100",
        },
        (4000, 2250),
        GPSLatitude=(0.0, 0.0, 0.001),
        GPSLongitude=(0.0, 0.0, 0.0),
    )
    assert found.footprint is not None
    ring = found.footprint["coordinates"][0]
    assert len(ring) == 5
    assert max(x for x, _ in ring) - min(x for x, _ in ring) == pytest.approx(120 / 111_319.49, rel=1e-4)
    assert max(y for _, y in ring) - min(y for _, y in ring) == pytest.approx(67.5 / 110_574.28, rel=1e-4)


@pytest.mark.parametrize(
    ("exif", "xmp", "gps", "shown", "source"),
    [
        pytest.param(
            {"OffsetTimeOriginal": "+02:00"}, {}, {}, "2021-06-01T12:30:00.000+02:00", "exif", id="its offset"
        ),
        pytest.param(
            {"SubsecTimeOriginal": "25"}, {}, {}, "2021-06-01T12:30:00.250+00:00", "none", id="nothing known"
        ),
        pytest.param(
            {},
            {"xmp:CreateDate": "2021-06-01T12:30:00.4-07:00"},
            {},
            "2021-06-01T12:30:00.000-07:00",
            "xmp",
            id="xmp",
        ),
        pytest.param(
            {},
            {"drone-dji:UTCAtExposure": "2021-06-01T07:00:00.12"},
            {},
            "2021-06-01T12:30:00.000+05:30",
            "xmp",
            id="dji's utc",
        ),
        pytest.param(
            {},
            {},
            {"GPSDateStamp": "2021:06:01", "GPSTimeStamp": (16.0, 29.0, 42.0)},
            "2021-06-01T12:30:00.000-04:00",
            "gps",
            id="the satellites' clock, which is read a little earlier",
        ),
        pytest.param(
            {},
            {},
            {"GPSDateStamp": "2021:06:01", "GPSTimeStamp": (3.0, 11.0, 0.0), **NORTH_WEST},
            "2021-06-01T12:30:00.000-06:00",
            "longitude",
            id="a clock that is wrong",
        ),
        pytest.param(
            {"OffsetTimeOriginal": "+99:00"}, {}, NORTH_WEST, "2021-06-01T12:30:00.000-06:00", "longitude",
            id="an offset that can't be",
        ),
    ],
)  # fmt: skip
def test_the_utc_offset_of_the_cameras_clock(
    exif: dict[str, Any], xmp: dict[str, XmpValue], gps: dict[str, Any], shown: str, source: str
) -> None:
    found = photo({"DateTimeOriginal": "2021:06:01 12:30:00", **exif}, xmp, **gps).properties
    assert (found["captureTimeText"], found["captureTimeZoneSource"]) == (shown, source)


def test_capture_time_is_in_milliseconds_as_in_dronedb() -> None:
    found = photo({"DateTimeOriginal": "2021:06:01 12:30:00", "OffsetTimeOriginal": "+02:00"}).properties
    assert found["captureTime"] == 1622543400000


@pytest.mark.parametrize(
    "shown", ["2021:13:01 00:00:00", "0000:00:00 00:00:00", "9999:12:31 23:59:59", "noon"]
)
def test_an_invalid_time_is_ignored(shown: str) -> None:
    found = photo({"DateTimeOriginal": shown, "OffsetTimeOriginal": "+14:00"})
    assert "captureTime" not in found.properties


def test_a_panorama_and_its_crop() -> None:
    found = photo(
        xmp={
            "GPano:ProjectionType": "equirectangular",
            "GPano:CroppedAreaImageWidthPixels": "8000",
            "GPano:CroppedAreaLeftPixels": "0",
            "GPano:PoseHeadingDegrees": "271.5",
        }
    )
    assert found.is_panorama
    assert found.properties["projectionType"] == "equirectangular"
    assert (found.properties["croppedWidth"], found.properties["croppedX"]) == (8000, 0)
    assert found.properties["poseHeading"] == 271.5


def test_a_calibrated_camera_needs_no_sensor_size() -> None:
    # 4000 px over a focal length of 2000 px: 90°, so 200 m across from 100 m.
    found = photo(
        None,
        {
            "drone-dji:CalibratedFocalLength": "2000",
            "drone-dji:GimbalYawDegree": "0",
            "drone-dji:GimbalPitchDegree": "-90",
            "drone-dji:RelativeAltitude": "100",
        },
        GPSLatitude=(0.0, 0.0, 0.001),
        GPSLongitude=(0.0, 0.0, 0.0),
    )
    assert found.footprint is not None
    longitudes = [longitude for longitude, _ in found.footprint["coordinates"][0]]
    assert max(longitudes) - min(longitudes) == pytest.approx(200 / 111_319.49, rel=1e-4)


_ANYTHING = (
    st.none()
    | st.integers()
    | st.floats()
    | st.binary(max_size=8)
    | st.text(max_size=20)
    | st.sampled_from(["2021:06:01 12:30:00", "-90", "+45.00", "N", "1e999", "٣"])
)
_TAGS = (
    *(
        "Make",
        "Model",
        "FocalLength",
        "FocalLengthIn35mmFilm",
        "FocalPlaneXResolution",
        "FocalPlaneYResolution",
    ),
    *(
        "FocalPlaneResolutionUnit",
        "Orientation",
        "DateTimeOriginal",
        "SubsecTimeOriginal",
        "OffsetTimeOriginal",
    ),
)
_GPS_TAGS = (
    *("GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef", "GPSAltitude", "GPSAltitudeRef"),
    *("GPSSpeed", "GPSSpeedRef", "GPSDateStamp", "GPSTimeStamp", "GPSDOP"),
)
_XMP_NAMES = (
    *(
        f"drone-dji:{name}"
        for name in ("GimbalYawDegree", "GimbalPitchDegree", "RelativeAltitude", "FlightXSpeed")
    ),
    *(f"Camera:{name}" for name in ("Yaw", "Pitch", "BandName", "RigCameraIndex", "GPSXYAccuracy")),
    *("GPano:ProjectionType", "GPano:CroppedAreaLeftPixels", "xmp:CreateDate", "drone-dji:UTCAtExposure"),
    *("drone-dji:CalibratedFocalLength", "drone-dji:GpsLatitude", "drone-dji:GpsLongitude"),
)


@settings(max_examples=300, deadline=None)
@given(
    exif=st.dictionaries(st.sampled_from(_TAGS), _ANYTHING | st.tuples(_ANYTHING)),
    gps=st.dictionaries(st.sampled_from(_GPS_TAGS), _ANYTHING | st.tuples(_ANYTHING, _ANYTHING, _ANYTHING)),
    xmp=st.dictionaries(
        st.sampled_from(_XMP_NAMES),
        st.text(max_size=20) | st.floats().map(str) | st.lists(st.text(max_size=5), min_size=1).map(tuple),
    ),
    size=st.none() | st.tuples(st.integers(0, 50_000), st.integers(0, 50_000)),
)
def test_arbitrary_metadata_give_json(
    exif: dict[str, Any], gps: dict[str, Any], xmp: dict[str, XmpValue], size: tuple[int, int] | None
) -> None:
    found = photo(exif, xmp, size, **gps)
    json.dumps([found.properties, found.point, found.footprint], allow_nan=False)


@pytest.mark.parametrize("absurd", ["nan", "inf", "-1e400", "", "north", "1" * 400])
def test_a_value_that_is_not_a_number_counts_as_absent(absurd: str) -> None:
    found = photo(xmp={"drone-dji:RelativeAltitude": absurd, "drone-dji:GimbalYawDegree": absurd})
    assert "relativeAltitude" not in found.properties
    assert not found.properties["hasCameraOrientation"]


def test_the_brighton_photo(real_data: Path) -> None:
    found = extract_metadata(real_data / "brighton" / "DJI_0018.JPG")
    known = {
        "model": "FC300S",
        "cameraYaw": 45.0,
        "cameraPitch": -89.9,
        "cameraRoll": 0.0,
        "width": 4000,
        "height": 2250,
        "sensorWidth": 6.16,
    }
    assert {name: found.properties[name] for name in known} == known
    assert found.point == {
        "type": "Point",
        "coordinates": [pytest.approx(-91.9945599, abs=1e-7), pytest.approx(46.8426071, abs=1e-7), 198.309],
    }
    assert found.polygon is not None
    longitudes, latitudes = zip(*found.polygon["coordinates"][0], strict=True)
    # 68 m by 38 m, turned by 45°: 75 m in both directions.
    assert (max(longitudes) - min(longitudes)) * 76_250 == pytest.approx(75.2, abs=0.5)
    assert (max(latitudes) - min(latitudes)) * 111_200 == pytest.approx(75.2, abs=0.5)
