"""Entry types from names and contents."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import laspy
import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine
from tests.metadata.photo_files import exif_block, packet_of, write_photo
from tests.metadata.vectors import write_points
from tests.raster.rasters import slope, write_raster

from aerotask.metadata.extract import bounded, extract_metadata
from aerotask.metadata.file_types import EntryType, type_by_name
from aerotask.metadata.model import FileMetadata

SOMEWHERE = {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 30.0, 0.0), "GPSLongitude": (9.0, 0.0, 0.0)}
PANORAMA = packet_of(
    '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="equirectangular"/>'
)
TRIANGLE = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nelement face 1\nproperty list uchar int v\nend_header\n1\n2\n3\n3 0 1 2\n"

EVERY_SUFFIX = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jp2", "heic", "dng"),
    *("las", "laz", "e57", "mp4", "mov", "m4v", "avi", "mkv", "webm"),
    *("obj", "ply", "glb", "gltf", "nxs", "nxz", "stl"),
    *("geojson", "gpkg", "shp", "kml", "kmz", "fgb", "dxf", "gml"),
    *("geojsonl", "geojsons", "geojsonseq", "shz", "gpx"),
)


def test_photos_with_and_without_a_position_and_panoramas(tmp_path: Path) -> None:
    there = exif_block(gps=SOMEWHERE)
    found = {
        "plain": extract_metadata(write_photo(tmp_path / "plain.jpg")).type,
        "placed": extract_metadata(write_photo(tmp_path / "placed.jpg", exif=there)).type,
        "panorama": extract_metadata(write_photo(tmp_path / "panorama.jpg", xmp=PANORAMA)).type,
        "placed panorama": extract_metadata(
            write_photo(tmp_path / "both.jpg", exif=there, xmp=PANORAMA)
        ).type,
        "webp": extract_metadata(write_photo(tmp_path / "placed.webp", exif=there)).type,
        "band": extract_metadata(write_photo(tmp_path / "band.tif", exif=there, mode="I;16")).type,
    }
    assert found == {
        "plain": "image",
        "placed": "geoImage",
        "panorama": "panorama",
        "placed panorama": "geoPanorama",
        "webp": "geoImage",
        "band": "geoImage",
    }


def test_a_photo_has_the_properties_of_rasters_too(tmp_path: Path) -> None:
    found = extract_metadata(write_photo(tmp_path / "a.jpg", size=(40, 30), exif=exif_block({"Make": "DJI"})))
    assert (found.properties["width"], found.properties["height"], found.properties["make"]) == (
        40,
        30,
        "DJI",
    )
    assert [band["colorInterp"] for band in found.properties["bands"]] == ["red", "green", "blue"]


def test_a_georeferenced_raster_is_a_georaster(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif",
        np.zeros((1, 10, 20), np.uint8),
        crs="EPSG:4326",
        transform=Affine(0.1, 0, 7, 0, -0.1, 50),
    )
    found = extract_metadata(path)
    assert found.type is EntryType.GEO_RASTER
    assert found.point == {"type": "Point", "coordinates": [8.0, 49.5]}
    assert found.properties["resolution"] == pytest.approx([0.1, 0.1])


def test_a_raster_without_georeferencing_is_an_image(tmp_path: Path) -> None:
    assert (
        extract_metadata(write_raster(tmp_path / "a.tif", slope((4, 5)), crs=None, transform=None)).type
        == "image"
    )


def test_clouds_vectors_models_and_texts(tmp_path: Path) -> None:
    laspy.LasData(laspy.LasHeader(version="1.4", point_format=6)).write(tmp_path / "a.laz")
    write_points(tmp_path / "a.gpkg")
    (tmp_path / "a.ply").write_text(TRIANGLE)
    (tmp_path / "cloud.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n"
    )
    (tmp_path / "a.md").write_text("# Notes")
    (tmp_path / "a.csv").write_text("a,b")
    names = ("a.laz", "a.gpkg", "a.ply", "cloud.ply", "a.md", "a.csv")
    assert [extract_metadata(tmp_path / name).type.value for name in names] == [
        *("pointCloud", "vector", "model", "pointCloud", "markdown", "generic")
    ]


def test_the_content_decides_where_the_name_does_not(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", exif=exif_block(gps=SOMEWHERE)).rename(tmp_path / "photo")
    laspy.LasData(laspy.LasHeader(version="1.4", point_format=6)).write(tmp_path / "a.las")
    (tmp_path / "a.las").rename(tmp_path / "scan.data")
    (tmp_path / "mesh.bin").write_text(TRIANGLE)
    assert [extract_metadata(tmp_path / name).type.value for name in ("photo", "scan.data", "mesh.bin")] == [
        *("geoImage", "pointCloud", "model")
    ]


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
def test_an_empty_file_is_generic_with_a_reason(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty.{suffix}").touch()
    found = extract_metadata(tmp_path / f"empty.{suffix}")
    assert found.type is EntryType.GENERIC
    assert found.error is not None
    assert f"'empty.{suffix}'" in found.error
    assert type_by_name(f"empty.{suffix}") is not EntryType.GENERIC


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
def test_a_file_of_noise_is_generic_with_a_reason(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"noise.{suffix}").write_bytes(b"\x7f\x80\x00noise, not what the name says" * 40)
    found = extract_metadata(tmp_path / f"noise.{suffix}")
    assert (found.type, found.point, found.polygon) == (EntryType.GENERIC, None, None)
    assert found.error


def test_a_video_named_as_an_image_is_not_an_image(tmp_path: Path) -> None:
    for brand, kind in {b"heic": "image", b"mif1": "image", b"isom": "generic", b"mp42": "generic"}.items():
        path = tmp_path / "a.heic"
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + b"\0" * 40)
        assert extract_metadata(path).type.value == kind, brand


def test_metadata_that_are_too_large_are_reported(tmp_path: Path) -> None:
    """An image with valid but very long tags must not make a whole rescan fail."""
    properties = {str(number): "x" * 1000 for number in range(600)}
    found = bounded(tmp_path / "a.tif", FileMetadata(EntryType.GEO_RASTER, properties))
    assert (found.type, found.properties["indexError"]["code"]) == (
        *(EntryType.GEO_RASTER, "description-too-large"),
    )
    assert bounded(tmp_path / "a.tif", FileMetadata(EntryType.IMAGE, {"width": 5})).properties == {"width": 5}


def test_a_file_whose_content_does_not_match_its_name_is_generic(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg").rename(tmp_path / "a.laz")
    found = extract_metadata(tmp_path / "a.laz")
    assert found.type is EntryType.GENERIC
    assert found.error == "'a.laz' is not a readable point cloud: it is neither LAS, LAZ nor E57."


def test_a_shapefile_without_its_side_files_stays_a_vector(tmp_path: Path) -> None:
    write_points(tmp_path / "a.shp")
    (tmp_path / "a.shx").unlink()
    found = extract_metadata(tmp_path / "a.shp")
    assert found.type is EntryType.VECTOR
    assert found.properties["indexError"]["code"] == "missing-side-file"


def test_damaged_exif_leaves_the_photo_an_image_and_is_reported(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", exif=exif_block({"Make": "DJI", "Software": "kept elsewhere"}))
    content = path.read_bytes()
    at = content.index(b"kept elsewhere") - content.index(b"MM\0*")
    path.write_bytes(content.replace(struct.pack(">L", at), b"\x7f\xff\xff\xff"))
    found = extract_metadata(path)
    assert (found.type, found.properties["make"]) == (EntryType.IMAGE, "DJI")
    assert found.properties["metadataFaults"] == ["damaged-exif"]


@pytest.mark.parametrize("name", ["two\nlines", "\u202egnp.", "🛰️ 写真", "-rf", "a'b\"c"])
def test_a_name_may_hold_anything(tmp_path: Path, name: str) -> None:
    write_photo(tmp_path / "a.jpg", exif=exif_block(gps=SOMEWHERE)).rename(tmp_path / f"{name}.jpg")
    write_points(tmp_path / "a.gpkg").rename(tmp_path / f"{name}.gpkg")
    laspy.LasData(laspy.LasHeader(version="1.4", point_format=6)).write(tmp_path / f"{name}.laz")
    found = [extract_metadata(tmp_path / f"{name}.{suffix}").type.value for suffix in ("jpg", "gpkg", "laz")]
    assert found == ["geoImage", "vector", "pointCloud"]


def test_all_metadata_are_json(tmp_path: Path) -> None:
    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    write_points(tmp_path / "a.kml")
    for path in tmp_path.iterdir():
        found = extract_metadata(path)
        assert json.loads(json.dumps(found.properties, allow_nan=False)) == found.properties


def test_the_types_of_real_files(real_data: Path, tmp_path: Path) -> None:
    shutil.copy(real_data / "brighton" / "DJI_0018.JPG", tmp_path)
    photo = extract_metadata(tmp_path / "DJI_0018.JPG")
    assert (photo.type, photo.properties["width"], photo.properties["height"]) == ("geoImage", 4000, 2250)
    assert photo.properties["model"] == "FC300S"
    kinds = {
        name: extract_metadata(real_data / name).type.value
        for name in (
            *("demo/mesh.ply", "demo/orthophoto.tif", "demo/point_cloud.laz", "micasense/IMG_0000_3.tif"),
            *("multispectral/field.tif", "rasterio/RGB.byte.tif", "demo/DJI_0026.JPG"),
        )
    }
    assert kinds == {
        "demo/mesh.ply": "model",
        "demo/orthophoto.tif": "geoRaster",
        "demo/point_cloud.laz": "pointCloud",
        "micasense/IMG_0000_3.tif": "geoImage",
        "multispectral/field.tif": "geoRaster",
        "rasterio/RGB.byte.tif": "geoRaster",
        "demo/DJI_0026.JPG": "geoImage",
    }
