"""COGs in the raster's own grid: every pixel and everything that describes it as before, validated by rio-cogeo."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import ImageCms, TiffImagePlugin
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate
from tests.raster.rasters import Pixels, write_raster

from aerotask.derivatives.cog import build_cog
from aerotask.domain.errors import InvalidInput

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
RGBA = (*RGB, ColorInterp.alpha)


def built(source: Path) -> tuple[Path, dict[str, Any]]:
    target = source.parent / "made.tif"
    target.unlink(missing_ok=True)
    steps: list[float] = []
    properties = build_cog(source, target, threads=2, on_progress=steps.append)
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert {path.name for path in source.parent.iterdir()} == {source.name, "made.tif"}
    return target, properties


def assert_same(source: Path, target: Path) -> None:
    """The COG is valid, and reads exactly as the source: pixels, masks, grid, and what describes the bands."""
    valid, errors, warnings = cog_validate(target, quiet=True)
    assert (valid, errors) == (True, [])
    with rasterio.open(source) as before, rasterio.open(target) as made:
        # A line of pixels has no overviews.
        assert not warnings or min(made.shape) == 1
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert made.crs == before.crs
        assert made.shape == before.shape
        assert made.transform.almost_equals(before.transform, precision=1e-9)
        for fact in ("dtypes", "descriptions", "colorinterp", "scales", "offsets", "units"):
            assert getattr(made, fact) == getattr(before, fact), fact
        assert str(made.nodatavals) == str(before.nodatavals)
        assert made.mask_flag_enums == before.mask_flag_enums
        np.testing.assert_array_equal(made.read(), before.read())
        np.testing.assert_array_equal(made.read_masks(), before.read_masks())
        for band in (0, *made.indexes):
            assert made.tags(band) == before.tags(band)


def overviews(path: Path) -> list[Pixels]:
    with rasterio.open(path) as opened:
        levels = len(opened.overviews(1))
    found = []
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as opened:
            found.append(opened.read())
    return found


def halved(pixels: Pixels, valid: Pixels) -> tuple[np.ndarray[Any, Any], Pixels]:
    """The mean of the valid ones of each 2 × 2 pixels, and whether there is any, by numpy alone."""
    bands, rows, cols = pixels.shape
    padding = ((0, 0), (0, rows % 2), (0, cols % 2))
    pixels, valid = np.pad(pixels, padding, mode="edge"), np.pad(valid, padding, mode="edge")
    blocks = (bands, -(-rows // 2), 2, -(-cols // 2), 2)
    weights = valid.astype(np.float64)
    sums = (np.where(valid, pixels, 0) * weights).reshape(blocks).sum((2, 4))
    counts = weights.reshape(blocks).sum((2, 4))
    return sums / np.maximum(counts, 1), counts > 0


def noise(shape: tuple[int, int, int], dtype: Any, *, low: int = 1, high: int = 200) -> Pixels:
    return np.random.default_rng(4).integers(low, high, shape).astype(dtype)


def test_a_multispectral_raster_keeps_everything_and_has_exact_statistics(tmp_path: Path) -> None:
    pixels = noise((4, 700, 901), np.uint16, high=60_000)
    pixels[:, :300, :520] = 0
    pixels[2, 400:420] = 0
    names = ("red", "green", "blue", "nir")
    source = write_raster(
        tmp_path / "a.tif",
        pixels,
        nodata=0,
        descriptions=names,
        tags={"TIFFTAG_SOFTWARE": "x", "flight": "7"},
    )
    with rasterio.open(source, "r+") as opened:
        opened.scales, opened.offsets = (0.0001,) * 4, (0.0, 0.0, 0.0, -0.1)
        opened.units = ("reflectance",) * 4
        opened.update_tags(4, wavelength="840")
    target, properties = built(source)
    assert_same(source, target)
    assert properties["compression"] == "DEFLATE"
    third = pixels[2][pixels[2] > 0]
    band = properties["bands"][2]
    assert (band["min"], band["max"]) == (third.min(), third.max())
    assert band["mean"] == pytest.approx(third.mean(), rel=1e-12)
    assert band["std"] == pytest.approx(third.std(), rel=1e-12)
    assert band["validPercent"] == round(100 * third.size / (700 * 901), 4)
    assert band["percentiles"].keys() == {"2", "98"}
    [half, _] = overviews(target)
    mean, valid = halved(pixels, pixels != 0)
    np.testing.assert_array_equal(half != 0, valid)
    assert np.abs(half - mean)[valid].max() <= 0.5


def test_the_overviews_are_those_that_gdal_makes(tmp_path: Path) -> None:
    pixels = noise((2, 768, 1024), np.uint16)
    pixels[0, :100, :333] = 7
    source = write_raster(tmp_path / "a.tif", pixels, nodata=7)
    target, _ = built(source)
    other = tmp_path / "gdal.tif"
    rasterio.shutil.copy(source, other, driver="GTiff")
    with rasterio.open(other, "r+") as opened:
        opened.build_overviews([2], Resampling.average)
    [half, *_], [expected] = overviews(target), overviews(other)
    np.testing.assert_array_equal(half == 7, expected == 7)
    assert np.abs(half.astype(int) - expected).max() <= 1


TRANSFORMS = {
    "rotated": Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000),
    "south-up": Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000),
    "mirrored": Affine(-0.5, 0, 500_000, 0, -0.5, 5_000_000),
    "pixels that aren't square": Affine(0.5, 0, 500_000.25, 0, -0.75, 5_000_000.125),
}


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_the_grid_is_kept(tmp_path: Path, name: str) -> None:
    source = write_raster(tmp_path / "a.tif", noise((1, 33, 47), np.int16), transform=TRANSFORMS[name])
    target, _ = built(source)
    assert_same(source, target)


def test_a_grid_of_points_in_degrees_is_kept(tmp_path: Path) -> None:
    source = write_raster(
        tmp_path / "a.tif",
        noise((1, 40, 40), np.uint8),
        crs="EPSG:4979",
        transform=Affine(1e-5, 0, 7, 0, -1e-5, 50),
        tags={"AREA_OR_POINT": "Point"},
    )
    target, _ = built(source)
    assert_same(source, target)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1500), (1500, 1), (3, 1025), (513, 511)])
def test_any_size_is_kept(tmp_path: Path, shape: tuple[int, int]) -> None:
    source = write_raster(tmp_path / "a.tif", noise((2, *shape), np.uint8))
    target, _ = built(source)
    assert_same(source, target)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_any_type_is_kept(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(dtype)
    limits: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    pixels = noise((2, 600, 530), kind, high=100)
    pixels[0, 0, :2] = limits.min, limits.max
    source = write_raster(tmp_path / "a.tif", pixels)
    target, _ = built(source)
    assert_same(source, target)


def test_a_float_raster_keeps_nan_as_nodata(tmp_path: Path) -> None:
    pixels = noise((1, 900, 600), np.float32) / 8
    pixels[:, :300] = np.nan
    pixels[0, 400, ::3] = np.nan
    source = write_raster(tmp_path / "a.tif", pixels, nodata=np.nan)
    target, properties = built(source)
    assert_same(source, target)
    assert properties["bands"][0]["validPercent"] == round(100 * np.isfinite(pixels).mean(), 4)
    mean, valid = halved(pixels, np.isfinite(pixels))
    np.testing.assert_allclose(overviews(target)[0], np.where(valid, mean, np.nan), rtol=1e-6)


def test_transparency_stays_and_colours_are_averaged_without_transparent_pixels(tmp_path: Path) -> None:
    pixels = noise((4, 601, 600), np.uint8)
    pixels[3] = np.where(np.arange(600) % 5 < 2, 0, 255)
    source = write_raster(tmp_path / "a.tif", pixels, colours=RGBA, photometric="RGB", alpha="unspecified")
    target, properties = built(source)
    assert_same(source, target)
    assert len(properties["bands"]) == 3
    assert properties["bands"][0]["validPercent"] == 60
    [half] = overviews(target)
    mean, valid = halved(pixels[:3], np.broadcast_to(pixels[3] > 0, (3, 601, 600)))
    assert np.abs(half[:3] - mean)[valid].max() <= 0.5
    alpha, _ = halved(pixels[3:], np.ones((1, 601, 600), np.bool_))
    assert np.abs(half[3:] - alpha).max() <= 0.5


def test_an_internal_mask_stays_with_the_pixels_below_it(tmp_path: Path) -> None:
    pixels = noise((3, 1100, 700), np.uint8)
    mask = (np.add.outer(np.arange(1100), np.arange(700)) % 3 > 0) & (np.arange(1100) > 520)[:, np.newaxis]
    source = write_raster(
        tmp_path / "a.tif", pixels, colours=RGB, photometric="RGB", mask=mask.astype(np.uint8) * 255
    )
    target, properties = built(source)
    assert_same(source, target)
    assert properties["bands"][0]["validPercent"] == round(100 * mask.mean(), 4)
    mean, valid = halved(pixels, np.broadcast_to(mask, pixels.shape))
    with rasterio.open(target, overview_level=0) as half:
        assert MaskFlags.per_dataset in half.mask_flag_enums[0]
        np.testing.assert_array_equal(half.read_masks(1) > 0, valid[0])
        assert np.abs(half.read() - mean)[valid].max() <= 0.5
    with rasterio.open(target) as made:
        assert made.overviews(1) == [2, 4]


def test_a_mask_decides_where_there_is_a_nodata_value_too(tmp_path: Path) -> None:
    """As JPEG-compressed orthophotos have it: black is a colour, and the mask says what is empty."""
    pixels = noise((1, 600, 600), np.uint8)
    pixels[0, ::2] = 0
    mask = np.where(np.arange(600) < 450, 255, 0).astype(np.uint8) * np.ones((600, 1), np.uint8)
    source = write_raster(tmp_path / "a.tif", pixels, nodata=0, mask=mask)
    target, properties = built(source)
    assert_same(source, target)
    assert properties["bands"][0]["validPercent"] == 75
    assert properties["bands"][0]["min"] == 0
    mean, valid = halved(pixels, (mask > 0)[np.newaxis])
    assert np.abs(overviews(target)[0] - mean)[valid].max() <= 0.5


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_classes_with_a_colour_table_stay_classes_in_overviews(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(1).choice([0, 7, 9], (1, 700, 700)).astype(dtype)
    source = write_raster(tmp_path / "a.tif", pixels, photometric="PALETTE")
    with rasterio.open(source, "r+") as opened:
        opened.write_colormap(1, {0: (1, 2, 3, 255), 7: (70, 80, 90, 255), 9: (5, 5, 250, 255)})
    target, _ = built(source)
    assert_same(source, target)
    with rasterio.open(target) as made, rasterio.open(source) as before:
        assert made.colormap(1) == before.colormap(1)
    np.testing.assert_array_equal(overviews(target)[0], pixels[:, ::2, ::2])


def test_a_palette_without_a_colour_table_is_kept(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", noise((1, 60, 50), np.uint8), colours=(ColorInterp.palette,))
    target, _ = built(source)
    assert_same(source, target)


def test_overviews_of_the_source_are_kept_and_missing_ones_added(tmp_path: Path) -> None:
    pixels = noise((1, 2100, 1500), np.uint8)
    source = write_raster(
        tmp_path / "a.tif", pixels, overviews=[2], tiled=True, blockxsize=256, blockysize=256
    )
    [of_source] = overviews(source)
    target, _ = built(source)
    assert_same(source, target)
    [half, quarter, *_] = overviews(target)
    np.testing.assert_array_equal(half, of_source)  # the nearest pixels, not means
    mean, _ = halved(of_source, np.ones(of_source.shape, np.bool_))
    assert np.abs(quarter - mean).max() <= 0.5


def test_a_cog_is_copied_as_it_is(tmp_path: Path) -> None:
    pixels = noise((3, 1300, 1300), np.uint8)
    plain = write_raster(tmp_path / "plain.tif", pixels, colours=RGB, photometric="RGB")
    source = tmp_path / "a.tif"
    rasterio.shutil.copy(plain, source, driver="COG", compress="JPEG", blocksize=256)
    plain.unlink()
    target, properties = built(source)
    assert target.read_bytes() == source.read_bytes()
    with rasterio.open(source) as opened:
        assert properties["bands"][1]["mean"] == pytest.approx(opened.read(2).mean())


def test_a_damaged_cog_is_rejected(tmp_path: Path) -> None:
    plain = write_raster(tmp_path / "plain.tif", noise((1, 1300, 1300), np.uint16))
    source = tmp_path / "a.tif"
    rasterio.shutil.copy(plain, source, driver="COG", compress="DEFLATE", blocksize=256)
    content = bytearray(source.read_bytes())
    content[-100_000:-90_000] = bytes(10_000)
    source.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        build_cog(source, tmp_path / "made.tif", threads=2, on_progress=lambda _share: None)
    assert refused.value.code == "damaged-raster"


PACKET = (
    "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>"
    "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' name='Wäldchen'/></x:xmpmeta>"
    "<?xpacket end='w'?>"
)


def test_the_colour_profile_and_xmp_are_kept(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = write_raster(tmp_path / "plain.tif", noise((3, 700, 900), np.uint8), photometric="RGB")
    with TiffImagePlugin.TiffImageFile(plain) as image:
        tags = {code: image.tag_v2[code] for code in (33550, 33922, 34735, 34737)} | {700: PACKET.encode()}
        image.save(tmp_path / "a.tif", icc_profile=profile, tiffinfo=tags)
    plain.unlink()
    target, _ = built(tmp_path / "a.tif")
    with TiffImagePlugin.TiffImageFile(target) as made:
        assert made.info["icc_profile"] == profile
        assert made.tag_v2[700] == PACKET.encode()
        assert made.n_frames == 2
        made.seek(1)  # the overview
        assert not {700, 34675} & set(made.tag_v2)
    assert cog_validate(target, quiet=True)[:2] == (True, [])


def test_a_file_of_several_pages_warns_that_only_the_first_is_used(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", noise((1, 40, 50), np.uint8))
    with rasterio.open(source) as page:
        profile = page.profile | {"APPEND_SUBDATASET": "YES"}
    with rasterio.open(source, "w", **profile) as second:
        second.write(noise((1, 40, 50), np.uint8))
    _, properties = built(source)
    assert properties["warnings"] == ["The file has 2 pages; only the first is used."]


def test_a_cog_that_is_much_larger_than_its_source_is_mentioned(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(1200), np.arange(1200)) % 256
    pixels = (
        (np.stack([smooth] * 3) + noise((3, 1200, 1200), np.int16, high=60)).clip(0, 255).astype(np.uint8)
    )
    source = write_raster(
        tmp_path / "a.tif", pixels, photometric="YCBCR", compress="JPEG", JPEG_QUALITY=30, tiled=True
    )
    target, properties = built(source)
    times = target.stat().st_size / source.stat().st_size
    assert times > 4
    [warning] = properties["warnings"]
    assert f" {times:.0f} times as much as the file" in warning
    plain = write_raster(tmp_path / "b.tif", pixels)
    source.unlink()
    target.unlink()
    assert built(plain)[1]["warnings"] == []


def test_empty_tiles_are_compressed_once(tmp_path: Path) -> None:
    pixels = np.zeros((1, 4096, 4096), np.uint16)
    pixels[0, 5, 5] = 9
    source = write_raster(tmp_path / "a.tif", pixels, nodata=0, compress="deflate")
    target, _ = built(source)
    assert_same(source, target)
    assert target.stat().st_size < 150_000


def test_strips_and_separate_bands_are_read_alike(tmp_path: Path) -> None:
    pixels = noise((5, 900, 1100), np.uint16)
    for interleave in ("pixel", "band"):
        folder = tmp_path / interleave
        folder.mkdir()
        source = write_raster(folder / "a.tif", pixels, interleave=interleave, compress="lzw", blockysize=7)
        target, _ = built(source)
        assert_same(source, target)


def test_a_raster_without_georeference_is_rejected(tmp_path: Path) -> None:
    for name, lacking in (("crs", {"crs": None}), ("transform", {"transform": rasterio.Affine.identity()})):
        source = write_raster(tmp_path / f"{name}.tif", noise((1, 40, 40), np.uint8), **lacking)
        with pytest.raises(InvalidInput) as refused:
            build_cog(source, tmp_path / "made.tif", threads=1, on_progress=lambda _share: None)
        assert refused.value.code == "not-georeferenced"


def test_complex_numbers_are_rejected(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", np.ones((1, 40, 40), np.complex64))
    with pytest.raises(InvalidInput) as refused:
        build_cog(source, tmp_path / "made.tif", threads=1, on_progress=lambda _share: None)
    assert refused.value.code == "unsupported-layout"


def test_a_damaged_raster_is_rejected(tmp_path: Path) -> None:
    whole = write_raster(tmp_path / "a.tif", noise((3, 400, 400), np.uint16), compress="deflate").read_bytes()
    damaged = {"cut.tif": whole[: len(whole) // 2], "empty.tif": b"", "text.tif": b"no raster"}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput) as refused:
            build_cog(tmp_path / name, tmp_path / "made.tif", threads=2, on_progress=lambda _share: None)
        assert refused.value.code in {"unreadable-raster", "damaged-raster"}, name
        (tmp_path / "made.tif").unlink(missing_ok=True)


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
        assert_same(real_data / name, target)
        assert len(properties["bands"]) == bands
