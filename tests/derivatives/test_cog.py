"""COGs for web maps, validated by rio-cogeo: aligned to the maps' grid, without unwanted losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.warp import Resampling, reproject
from rio_cogeo.cogeo import cog_info, cog_validate
from tests.raster.rasters import Pixels, write_raster

from aerotask.derivatives.cog import build_cog
from aerotask.domain.errors import InvalidInput

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def built(source: Path) -> tuple[Path, dict[str, Any]]:
    target = source.parent / "made.tif"
    target.unlink(missing_ok=True)
    steps: list[float] = []
    properties = build_cog(source, target, threads=2, on_progress=steps.append)
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert {path.name for path in source.parent.iterdir()} == {source.name, "made.tif"}
    return target, properties


def assert_on_the_maps_grid(target: Path) -> None:
    valid, errors, warnings = cog_validate(target, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    info = cog_info(target)
    assert info.GEO.CRS == "EPSG:3857"
    with rasterio.open(target) as made:
        world = 2 * 20037508.342789244
        zoom = np.log2(world / 256 / made.res[0])
        assert zoom == pytest.approx(round(zoom), abs=1e-6)
        tile = 256 * made.res[0]
        assert made.width % 256 == made.height % 256 == 0
        for edge in (made.bounds.left + world / 2, world / 2 - made.bounds.top):
            assert edge / tile == pytest.approx(round(edge / tile), abs=1e-4)


def noise(shape: tuple[int, int, int], dtype: Any, *, low: int = 1, high: int = 200) -> Pixels:
    """Noise in cells of 4 × 4 pixels."""
    bands, rows, cols = shape
    coarse = np.random.default_rng(4).integers(low, high, (bands, rows // 4, cols // 4))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(dtype)


def test_a_multispectral_raster_stays_lossless_with_its_nodata_and_its_names(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:400, :600]
    pixels = np.stack([1000 + 60 * rows + 20 * cols + band for band in range(5)]).astype(np.uint16)
    pixels[:, :100, :100] = 0
    names = ("red", "green", "blue", "nir", "rededge")
    source = write_raster(tmp_path / "a.tif", pixels, nodata=0, descriptions=names)
    target, properties = built(source)
    assert_on_the_maps_grid(target)
    with rasterio.open(target) as made, rasterio.open(source) as before:
        assert made.descriptions == names
        assert (made.nodata, set(made.dtypes)) == (0, {"uint16"})
        assert made.compression.name == "deflate"
        expected = np.zeros(made.shape, np.uint16)
        reproject(
            rasterio.band(before, 4),
            expected,
            dst_transform=made.transform,
            dst_crs=made.crs,
            src_nodata=0,
            dst_nodata=0,
            resampling=Resampling.bilinear,
        )
        found = made.read(4)
        off = np.abs(found.astype(int) - expected)[(found > 0) & (expected > 0)]
        assert np.mean((found > 0) == (expected > 0)) > 0.995
        # GDAL approximates the transformation to an eighth of a pixel, in both warps.
        assert off.max() <= 2 * (60 + 20) / 8
    assert properties["bands"][3]["min"] == pixels[3][pixels[3] > 0].min()
    assert properties["bands"][3]["validPercent"] == round(100 * (1 - 100 * 100 / 240_000), 4)
    assert properties["bands"][3]["percentiles"].keys() == {"2", "98"}


def test_photographs_are_jpeg_compressed_and_keep_their_outline(tmp_path: Path) -> None:
    for bands, colours in ((3, RGB), (4, (*RGB, ColorInterp.alpha))):
        pixels = noise((bands, 400, 400), np.uint8)
        if bands == 4:
            pixels[3] = 255
            pixels[:, :200, :200] = 0
        folder = tmp_path / str(bands)
        folder.mkdir()
        options: dict[str, Any] = {"photometric": "RGB"} | ({"alpha": "unspecified"} if bands == 4 else {})
        target, properties = built(write_raster(folder / "a.tif", pixels, colours=colours, **options))
        assert_on_the_maps_grid(target)
        assert "JPEG" in properties["compression"]
        with rasterio.open(target) as made:
            covered = np.mean(made.dataset_mask() > 0) * made.width * made.height * made.res[0] ** 2
        ground = 200 * 200 * (1 if bands == 3 else 0.75)
        stretch = 1 / np.cos(np.radians(45.15)) ** 2  # Web Mercator's, at this northing
        assert covered == pytest.approx(ground * stretch, rel=0.03)


def test_a_photograph_with_a_nodata_value_is_not_blurred_into_it(tmp_path: Path) -> None:
    pixels = noise((3, 300, 300), np.uint8)
    pixels[:, :150] = 255
    target, _ = built(write_raster(tmp_path / "a.tif", pixels, colours=RGB, photometric="RGB", nodata=255))
    with rasterio.open(target) as made:
        assert made.compression.name == "deflate"
        assert made.nodata == 255


def test_classes_with_a_colour_table_stay_classes(tmp_path: Path) -> None:
    pixels = np.zeros((1, 256, 256), np.uint8)
    pixels[:, 128:] = 7
    source = write_raster(tmp_path / "a.tif", pixels, photometric="PALETTE")
    with rasterio.open(source, "r+") as opened:
        opened.write_colormap(1, {0: (1, 2, 3, 255), 7: (70, 80, 90, 255)})
    target, _ = built(source)
    with rasterio.open(target) as made:
        assert set(np.unique(made.read(1, masked=True).compressed())) <= {0, 7}
        assert made.colormap(1)[7] == (70, 80, 90, 255)


def test_a_float_raster_keeps_nan_as_nodata(tmp_path: Path) -> None:
    pixels = noise((1, 300, 300), np.float32) / 8
    pixels[:, :100] = np.nan
    target, properties = built(write_raster(tmp_path / "a.tif", pixels, nodata=np.nan))
    assert_on_the_maps_grid(target)
    assert properties["bands"][0]["validPercent"] == pytest.approx(100 * 2 / 3, abs=1e-3)


def test_a_raster_without_georeference_is_rejected(tmp_path: Path) -> None:
    for name, lacking in (("crs", {"crs": None}), ("transform", {"transform": rasterio.Affine.identity()})):
        source = write_raster(tmp_path / f"{name}.tif", noise((1, 40, 40), np.uint8), **lacking)
        with pytest.raises(InvalidInput) as refused:
            build_cog(source, tmp_path / "made.tif", threads=1, on_progress=lambda _share: None)
        assert refused.value.code == "not-georeferenced"


def test_a_damaged_raster_is_rejected(tmp_path: Path) -> None:
    whole = write_raster(tmp_path / "a.tif", noise((3, 400, 400), np.uint16), compress="deflate").read_bytes()
    damaged = {"cut.tif": whole[: len(whole) // 2], "empty.tif": b"", "text.tif": b"no raster"}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput) as refused:
            build_cog(tmp_path / name, tmp_path / "made.tif", threads=2, on_progress=lambda _share: None)
        assert refused.value.code in {"unreadable-raster", "damaged-raster"}, name


def test_an_exception_in_the_progress_callback_stops_the_build(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", noise((1, 40, 40), np.uint8))

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cog(source, tmp_path / "made.tif", threads=1, on_progress=stop)


def test_real_orthophotos_become_valid_cogs(real_data: Path, tmp_path: Path) -> None:
    for name, bands in (
        ("demo/orthophoto.tif", 3),
        ("multispectral/field.tif", 5),
        ("rasterio/RGB.byte.tif", 3),
    ):
        target = tmp_path / "made.tif"
        target.unlink(missing_ok=True)
        properties = build_cog(real_data / name, target, threads=2, on_progress=lambda _share: None)
        assert_on_the_maps_grid(target)
        assert len(properties["bands"]) == bands
