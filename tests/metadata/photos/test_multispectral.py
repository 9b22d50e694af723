"""Optical centres and band names of known cameras."""

from pathlib import Path
from typing import Any

import pytest
from tests.metadata.photo_files import CAMERA, DJI, exif_block, packet_of, write_photo, xmp_packet

from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.multispectral import OpticalCentre, lens_of, read_lens

MM = {"FocalPlaneXResolution": 266.666667, "FocalPlaneYResolution": 266.666667, "FocalPlaneResolutionUnit": 4}


def centre(
    xmp: dict[str, Any], exif: dict[str, Any] | None = None, size: tuple[int, int] = (1280, 960)
) -> OpticalCentre | None:
    return lens_of(EmbeddedMetadata(exif or {}, xmp), width=size[0], height=size[1]).centre


def rounded(found: OpticalCentre | None) -> tuple[str, float, float]:
    assert found is not None
    return found.kind, round(found.x, 2), round(found.y, 2)


def test_a_principal_point_in_millimetres_becomes_pixels() -> None:
    found = centre({"Camera:PrincipalPoint": "2.35363,1.79947"}, MM)
    assert rounded(found) == ("principal point", 627.63, 479.86)


@pytest.mark.parametrize(
    ("unit", "per_unit"), [(2, 266.666667 * 25.4), (3, 2666.66667), (4, 266.666667), (5, 0.266666667)]
)
def test_the_focal_plane_resolution_has_a_unit(unit: int, per_unit: float) -> None:
    resolution = {"FocalPlaneXResolution": per_unit, "FocalPlaneYResolution": per_unit}
    found = centre({"Camera:PrincipalPoint": "2.4,1.8"}, resolution | {"FocalPlaneResolutionUnit": unit})
    assert rounded(found) == ("principal point", 640.0, 480.0)


@pytest.mark.parametrize("value", ["1024.5, 768.25", ("1024.5", "768.25"), "1.0245e3 7.6825E2"])
def test_a_principal_point_in_pixels_is_recognised_by_its_position(value: Any) -> None:
    assert rounded(centre({"Camera:PrincipalPoint": value}, MM, (2048, 1536))) == (
        "principal point",
        1024.5,
        768.25,
    )


@pytest.mark.parametrize(
    ("xmp", "exif"),
    [
        ({"Camera:PrincipalPoint": "2.35,1.80"}, {}),
        ({"Camera:PrincipalPoint": "2.35"}, MM),
        ({"Camera:PrincipalPoint": "left,right"}, MM),
        ({"Camera:PrincipalPoint": "0.1,0.1"}, MM),
        ({"Camera:PrincipalPoint": "1e999,1e999"}, MM),
        (
            {"Camera:PrincipalPoint": "2.35,1.80"},
            {"FocalPlaneXResolution": "many", "FocalPlaneYResolution": 3},
        ),
        ({"drone-dji:RelativeOpticalCenterX": "1.5"}, {}),
        ({}, {}),
    ],
)
def test_invalid_tags_give_no_optical_centre(xmp: dict[str, Any], exif: dict[str, Any]) -> None:
    assert centre(xmp, exif) is None


def test_djis_relative_centre_is_preferred_to_the_nominal_one() -> None:
    designed = {
        "drone-dji:CalibratedOpticalCenterX": "800.000000",
        "drone-dji:CalibratedOpticalCenterY": "650.0",
    }
    relative = {
        "drone-dji:RelativeOpticalCenterX": "-11.21875",
        "drone-dji:RelativeOpticalCenterY": "+3.0625",
    }
    assert centre(designed | relative) == OpticalCentre("relative optical centre", -11.21875, 3.0625)
    assert centre(designed) == OpticalCentre("optical centre", 800.0, 650.0)


@pytest.mark.parametrize(
    ("xmp", "band", "wavelength"),
    [
        ({"Camera:BandName": "Red edge", "Camera:CentralWavelength": "717"}, "Red edge", 717),
        ({"Camera:BandName": ("NIR",), "Camera:CentralWavelength": ("840",)}, "NIR", 840),
        ({"drone-dji:BandName": "NIR", "drone-dji:BandFreq": "840(+/-26)nm"}, "NIR", 840),
        ({"Camera:BandName": ("Red", "Green", "Blue")}, None, None),
        ({}, None, None),
    ],
)
def test_band_name_and_wavelength_of_each_camera(
    xmp: dict[str, Any], band: str | None, wavelength: float | None
) -> None:
    lens = lens_of(EmbeddedMetadata({}, xmp), width=10, height=10)
    assert (lens.band_name, lens.wavelength_nm) == (band, wavelength)


def test_a_dji_image_is_read(tmp_path: Path) -> None:
    said = {"RelativeOpticalCenterX": "2.5", "RelativeOpticalCenterY": "-4", "BandName": "Green"}
    path = write_photo(tmp_path / "DJI_0012.tif", xmp=xmp_packet(said, namespace=DJI), mode="L")
    lens, _ = read_lens(path, width=40, height=30)
    assert (lens.centre, lens.band_name) == (OpticalCentre("relative optical centre", 2.5, -4.0), "Green")


@pytest.mark.parametrize("maker", ["Parrot", "Sentera", "MicaSense"])
def test_an_image_with_pix4ds_tags_is_read(tmp_path: Path, maker: str) -> None:
    packet = packet_of(
        f'<rdf:Description xmlns:Camera="{CAMERA}"><Camera:PrincipalPoint>2.0,1.5</Camera:PrincipalPoint>'
        "<Camera:BandName><rdf:Seq><rdf:li>RedEdge</rdf:li></rdf:Seq></Camera:BandName></rdf:Description>"
    )
    exif = exif_block(
        {"Make": maker},
        {"FocalPlaneXResolution": 10.0, "FocalPlaneYResolution": 10.0, "FocalPlaneResolutionUnit": 4},
    )
    path = write_photo(tmp_path / "IMG.tif", xmp=packet, exif=exif, mode="L")
    lens, embedded = read_lens(path, width=40, height=30)
    assert (lens.centre, lens.band_name) == (OpticalCentre("principal point", 20.0, 15.0), "RedEdge")
    assert embedded.exif["Make"] == maker


def test_the_five_lenses_of_a_real_capture(real_data: Path) -> None:
    lenses = [
        read_lens(real_data / "micasense" / f"IMG_0000_{number}.tif", width=1280, height=960)[0]
        for number in range(1, 6)
    ]
    assert [rounded(lens.centre)[1:] for lens in lenses] == [
        (627.63, 479.86),
        (639.32, 488.02),
        (637.33, 486.25),
        (648.78, 487.16),
        (649.44, 479.24),
    ]
    assert [lens.band_name for lens in lenses] == ["Blue", "Green", "Red", "NIR", "Red edge"]
