"""Exports cut to polygons and boxes, compared with rasterio's mask as an independent implementation."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.mask import mask as rasterio_mask
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_geom
from shapely.geometry import mapping, shape
from tests.raster.rasters import Pixels, parse_options, read, source_file, write_raster

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.ogr import pyogrio
from aerotask.raster.export.area import ExportArea, locate_box, parse_box
from aerotask.raster.export.cutline import Cutline, cutline_of, locate_cutline, read_cutline
from aerotask.raster.export.cutline_geojson import parse_geojson
from aerotask.raster.export.plan import make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.export.write import ExportWriteOptions, export_image

FIELDS = shapely.MultiPolygon(
    [
        shapely.Point(500_040, 4_999_960).buffer(30).difference(shapely.Point(500_045, 4_999_955).buffer(9)),
        shapely.Polygon([(500_080, 4_999_900), (500_112, 4_999_997), (500_130, 4_999_880)]),
    ]
)
"""Two fields in EPSG:32632, one with a hole."""


def noisy() -> Pixels:
    pixels = np.random.default_rng(5).integers(1, 200, (3, 300, 400)).astype(np.uint16)
    pixels[:, 60:90, 60:75] = 0
    return pixels


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "in.tif", noisy(), nodata=0, tiled=True, blockxsize=64, blockysize=32)


def cutline(geometry: Any = FIELDS, crs: str = "EPSG:32632") -> Cutline:
    return Cutline([(crs, shapely.get_parts(np.array([geometry])))], {})


def cut(path: Path, area: ExportArea, writing: ExportWriteOptions | None = None, **shown: Any) -> Path:
    source = source_file(path)
    plan = replace(make_plan(parse_options(**shown), source.profile), area=area)
    if plan.ranges is None and not plan.gives_values:
        stretch = percentile_stretch(source, plan, threads=2, on_progress=lambda _share: None)
        plan = replace(plan, ranges=stretch.ranges)
    target = path.with_name("out.tif")
    target.unlink(missing_ok=True)
    writing = writing or ExportWriteOptions(threads=2)
    export_image(source, plan, target, writing=writing, on_progress=lambda _stage, _share: None)
    return target


def located(path: Path, line: Cutline) -> ExportArea:
    return locate_cutline(line, source_file(path).profile)


def oracle(path: Path, geometry: Any) -> tuple[Pixels, Affine]:
    with rasterio.open(path) as opened:
        pixels, transform = rasterio_mask(opened, [mapping(geometry)], crop=True, nodata=0)
    return pixels, transform


VALUES: dict[str, Any] = {"bands": "1,2,3", "colormap": "none"}


@pytest.mark.parametrize(
    "tiles", [(512, None), (64, None), (64, (64, 64)), (16, (48, 112)), (32, (160, 256))]
)
def test_a_cutline_leaves_the_pixels_that_rasterio_leaves(
    raster: Path, tiles: tuple[int, tuple[int, int] | None]
) -> None:
    expected, transform = oracle(raster, FIELDS)
    writing = ExportWriteOptions(threads=3, tile_px=tiles[0], unit_yx=tiles[1])
    with rasterio.open(cut(raster, located(raster, cutline()), writing, **VALUES)) as opened:
        found = np.nan_to_num(opened.read(), nan=0)
        assert opened.transform.almost_equals(transform)
        assert opened.crs.to_epsg() == 32632
    assert found.shape == expected.shape
    assert np.count_nonzero(found != expected) == 0


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.3, 0.4, 500_000, 0.4, -0.3, 4_999_900),
        Affine(0.5, 0, 500_000, 0, 0.5, 4_999_850),
        Affine(-0.5, 0, 500_150, 0, -0.5, 5_000_000),
    ],
)
def test_rotated_and_mirrored_rasters_are_cut(tmp_path: Path, transform: Affine) -> None:
    path = write_raster(tmp_path / "in.tif", noisy(), nodata=0, transform=transform)
    with rasterio.open(path) as opened:
        expected, _ = rasterio_mask(opened, [mapping(FIELDS)], nodata=0)
    area = located(path, cutline())
    found = np.nan_to_num(read(cut(path, area, **VALUES)), nan=0)
    whole = np.zeros_like(found, shape=expected.shape)
    whole[:, area.window[0], area.window[1]] = found
    assert np.count_nonzero(whole != expected) == 0


SHOWN: dict[str, dict[str, Any]] = {
    "composite": {"bands": "3,2,1", "rescale": "0,200"},
    "index": {"formula": "(b3-b1)/(b3+b1)", "rescale": "-1,1"},
    "values": {"formula": "(b3-b1)/(b3+b1)", "colormap": "none"},
    "palette": {"formula": "b2/b1", "format": "palette", "rescale": "0,9"},
    "cog": {"formula": "b2/b1", "format": "cog", "rescale": "0,9"},
}


@pytest.mark.parametrize("shown", list(SHOWN))
def test_each_pixel_is_that_of_the_whole_export(raster: Path, shown: str) -> None:
    profile = source_file(raster).profile
    everything = ExportArea((slice(0, 300), slice(0, 400)), is_clipped=False)
    whole = read(cut(raster, everything, **SHOWN[shown]))
    box = locate_box(parse_box((500_010, 4_999_870, 500_090, 4_999_990), "EPSG:32632"), profile)
    np.testing.assert_array_equal(
        read(cut(raster, box, **SHOWN[shown])), whole[:, box.window[0], box.window[1]]
    )
    area = located(raster, cutline())
    assert area.inside is not None
    inside = area.inside.inside(area.window)
    found = read(cut(raster, area, **SHOWN[shown]))
    np.testing.assert_array_equal(found[:, inside], whole[:, area.window[0], area.window[1]][:, inside])
    assert (np.isnan(found[:, ~inside]) if shown == "values" else found[:, ~inside] == 0).all()


def test_overviews_leave_out_what_is_outside(raster: Path) -> None:
    writing = ExportWriteOptions(threads=2, tile_px=64)
    target = cut(raster, located(raster, cutline()), writing, **SHOWN["index"])
    with rasterio.open(target, overview_level=0) as opened:
        alpha = opened.read(4)
    with rasterio.open(target) as opened:
        full = opened.read(4)
    rows, cols = alpha.shape
    padded = np.zeros((2 * rows, 2 * cols), np.uint8)
    padded[: full.shape[0], : full.shape[1]] = full
    np.testing.assert_array_equal(alpha, padded.reshape(rows, 2, cols, 2).max(axis=(1, 3)))


def test_percentiles_are_those_of_the_area(tmp_path: Path) -> None:
    pixels = np.full((1, 300, 400), 200, np.uint8)
    pixels[:, :, :100] = np.arange(100)
    path = write_raster(tmp_path / "in.tif", pixels)
    square = shapely.box(500_000, 4_999_900, 500_050, 5_000_000)  # columns 0 to 99
    source = source_file(path)
    plan = replace(make_plan(parse_options(bands="1"), source.profile), area=located(path, cutline(square)))
    found = percentile_stretch(source, plan, threads=2, on_progress=lambda _share: None)
    assert (found.ranges[0].low, found.ranges[0].high) == pytest.approx((1.98, 97.02))


def test_a_large_area_is_sampled_in_blocks_within_it(tmp_path: Path) -> None:
    pixels = np.full((1, 1500, 2000), 250, np.uint8)
    pixels[:, 200:1300, 300:1500] = 50
    pixels[:, 200:1300, 300:360] = 40
    path = write_raster(tmp_path / "in.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    inner = ExportArea((slice(200, 1300), slice(300, 1500)), is_clipped=False)
    source = source_file(path)
    plan = replace(make_plan(parse_options(bands="1"), source.profile), area=inner)
    found = percentile_stretch(source, plan, threads=2, on_progress=lambda _share: None)
    assert found.sample == "100 blocks spread over the area"
    assert (found.ranges[0].low, found.ranges[0].high) == (40, 50)


def write_vector(path: Path, geometries: list[Any], crs: str | None = "EPSG:32632", **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array(geometries)),
            field_data=[],
            fields=[],
            geometry_type=options.pop("geometry_type", "Unknown"),
            crs=crs,
            **options,
        )
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb", "kml", "shp"])
def test_polygons_of_every_format_are_read(tmp_path: Path, raster: Path, suffix: str) -> None:
    degrees = suffix in {"geojson", "kml"}
    geometry = shape(transform_geom("EPSG:32632", "EPSG:4326", mapping(FIELDS))) if degrees else FIELDS
    kind = {"shp": "Polygon", "fgb": "MultiPolygon"}.get(suffix, "Unknown")
    path = write_vector(
        tmp_path / f"fields.{suffix}",
        [geometry],
        "EPSG:4326" if degrees else "EPSG:32632",
        geometry_type=kind,
        **({"driver": "LIBKML"} if suffix == "kml" else {}),
    )
    expected, _ = oracle(raster, FIELDS)
    found = cut(raster, located(raster, read_cutline(path, folder=tmp_path)), **VALUES)
    differing = np.count_nonzero(np.nan_to_num(read(found), nan=0) != expected)
    # KML and GeoJSON keep degrees to a few centimetres or better: a centre on the line may change sides.
    assert differing <= (6 if degrees else 0)


def test_geojson_in_degrees_cuts_as_its_polygons_do(raster: Path) -> None:
    geometry = transform_geom("EPSG:32632", "EPSG:4326", mapping(FIELDS), precision=-1)
    feature = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]}
    given = parse_geojson(json.loads(json.dumps(feature)))
    expected, _ = oracle(raster, FIELDS)
    found = cut(raster, located(raster, cutline_of(given)), **VALUES)
    assert np.count_nonzero(np.nan_to_num(read(found), nan=0) != expected) == 0


def test_overlapping_and_invalid_polygons_are_united(raster: Path) -> None:
    bow_tie = [(500_010, 4_999_990), (500_050.3, 4_999_951), (500_050.3, 4_999_990), (500_010, 4_999_951)]
    crossing = (500_030.15, 4_999_970.5)
    disc = shapely.Point(500_030, 4_999_970).buffer(15)
    wings = shapely.Polygon([bow_tie[0], crossing, bow_tie[3]]) | shapely.Polygon(
        [bow_tie[1], crossing, bow_tie[2]]
    )
    given = {
        "type": "GeometryCollection",
        "geometries": [
            transform_geom("EPSG:32632", "EPSG:4326", mapping(each), precision=-1)
            for each in (shapely.Polygon(bow_tie), disc)
        ],
    }
    expected, _ = oracle(raster, wings | disc)
    found = cut(raster, located(raster, cutline_of(parse_geojson(json.loads(json.dumps(given))))), **VALUES)
    assert np.count_nonzero(np.nan_to_num(read(found), nan=0) != expected) <= 4  # on the border


def test_long_edges_follow_their_course_in_degrees(tmp_path: Path) -> None:
    pixels = np.ones((1, 300, 400), np.uint8)
    path = write_raster(tmp_path / "in.tif", pixels, transform=from_origin(300_000, 5_250_000, 1000, 1000))
    square = {"type": "Polygon", "coordinates": [[[7, 45], [11, 45], [11, 47], [7, 47], [7, 45]]]}
    dense = shapely.segmentize(shape(square), 0.001)
    expected, _ = oracle(path, shape(transform_geom("EPSG:4326", "EPSG:32632", mapping(dense))))
    found = cut(path, located(path, cutline_of(parse_geojson(square))), bands="1", colormap="none")
    differing = np.count_nonzero(np.nan_to_num(read(found), nan=0) != expected)
    # A hundredth of the pixels along the border; with straight edges 834 pixels differ.
    assert differing <= 0.01 * 1080


def test_longitudes_are_those_of_the_raster(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif",
        np.ones((1, 40, 120), np.uint8),
        crs="EPSG:4326",
        transform=from_origin(150, 10, 0.5, 0.5),
    )
    west = {"type": "Polygon", "coordinates": [[[-180, -5], [-170, -5], [-170, 5], [-180, 5], [-180, -5]]]}
    east = {"type": "Polygon", "coordinates": [[[170, -5], [180, -5], [180, 5], [170, 5], [170, -5]]]}
    both = {"type": "GeometryCollection", "geometries": [west, east]}
    area = located(path, cutline_of(parse_geojson(both)))
    assert (area.window, area.is_clipped) == ((slice(10, 30), slice(40, 80)), False)
    assert area.inside is not None
    assert area.inside.inside(area.window).all()


def test_a_cutline_beyond_the_raster_is_clipped(raster: Path) -> None:
    area = located(raster, cutline(shapely.box(499_900, 4_999_900, 500_100, 4_999_950)))
    assert (area.window, area.is_clipped) == ((slice(100, 200), slice(0, 200)), True)


def test_a_cutline_beside_the_raster_is_refused(raster: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        located(raster, cutline(shapely.box(400_000, 4_999_900, 400_100, 4_999_950)))
    assert caught.value.code == "outside-raster"


def test_a_palette_without_an_entry_for_no_value_cannot_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    write_raster(path, np.ones((1, 300, 400), np.uint8), photometric="PALETTE")
    with rasterio.open(path, "r+") as opened:
        opened.write_colormap(1, {entry: (entry, 0, 0, 255) for entry in range(256)})
    with pytest.raises(InvalidInput) as caught:
        cut(path, located(path, cutline()), format="palette")
    assert caught.value.code == "palette-impossible"
    inside = read(cut(path, located(path, cutline())))[3] == 255
    assert 0.2 < inside.mean() < 0.8


@pytest.mark.parametrize(
    ("geometries", "code", "words"),
    [
        (
            [shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)])],
            "invalid-cutline",
            "has no polygon, but",
        ),
        ([], "invalid-cutline", "has no polygon"),
    ],
)
def test_a_file_without_polygons_is_refused(
    tmp_path: Path, geometries: list[Any], code: str, words: str
) -> None:
    path = write_vector(tmp_path / "a.gpkg", geometries)
    with pytest.raises(InvalidInput) as caught:
        read_cutline(path, folder=tmp_path)
    assert (caught.value.code, words in caught.value.message) == (code, True)


def test_a_file_without_a_crs_is_refused(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "a.shp", [FIELDS], None, geometry_type="Polygon")
    with pytest.raises(InvalidInput) as caught:
        read_cutline(path, folder=tmp_path)
    assert caught.value.code == "not-georeferenced"


def test_what_is_no_polygon_is_counted(tmp_path: Path) -> None:
    line = shapely.LineString([(0, 0), (1, 1)])
    path = write_vector(tmp_path / "a.gpkg", [FIELDS, line, shapely.Point(0, 0), line])
    assert read_cutline(path, folder=tmp_path).others == {"LineString": 2, "Point": 1}


SQUARE = [[9, 45], [9.1, 45], [9.1, 45.1], [9, 45.1], [9, 45]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "Point", "coordinates": [9, 45]}, "it has no polygon, but 1 Point"),
        ({"type": "FeatureCollection", "features": []}, "no geometry at all"),
        ({"type": "Feature", "geometry": None}, "no geometry at all"),
        ({"type": "Polygon"}, "list of coordinates"),
        ({"type": "Polygon", "coordinates": [[[9, 45], [9, 46]]]}, "fewer than three corners"),
        ({"type": "Polygon", "coordinates": [[[9, "45"]]]}, "not two numbers"),
        ({"type": "Polygon", "coordinates": [[[500_000, 5_000_000]]]}, "no longitudes and latitudes"),
        ({"type": "Polygon", "coordinates": [[[10**400, 1]]]}, "not two numbers"),
        ({"coordinates": []}, "with a 'type'"),
        ({"type": "Circle"}, "the unknown type 'Circle'"),
        (
            {
                "type": "Polygon",
                "coordinates": [SQUARE],
                "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}},
            },
            "names the coordinate system",
        ),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE]] * 2001}, "more than 10,000 positions"),
    ],
)
def test_geojson_that_is_no_cutline_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_geojson(given)
    assert caught.value.code == "invalid-cutline"
    assert words in caught.value.message


def test_an_unclosed_ring_is_closed() -> None:
    given = parse_geojson({"type": "Polygon", "coordinates": [SQUARE[:-1]]})
    assert given.polygons == ((((9, 45), (9.1, 45), (9.1, 45.1), (9, 45.1), (9, 45)),),)
