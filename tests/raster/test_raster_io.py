"""Safe opening of rasters: supported files, refusals and their messages."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from tests.raster.rasters import read, slope, write_raster

from aerotask.domain.errors import InvalidInput, cause_of
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.profile import RasterProfile
from aerotask.raster.tiff.directory import HEADER_BYTES, FieldType, field, pack_directories, pack_header


def opened(path: Path) -> RasterProfile:
    with open_raster(path) as source:
        return read_profile(source)


def refusal(path: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        opened(path)
    return caught.value


@pytest.mark.parametrize(
    ("driver", "suffix"), [("GTiff", "tif"), ("PNG", "png"), ("JPEG", "jpg"), ("JP2OpenJPEG", "jp2")]
)
def test_the_usual_formats_are_read(tmp_path: Path, driver: str, suffix: str) -> None:
    pixels = np.full((3, 40, 50), 200, np.uint8)
    path = write_raster(tmp_path / f"in.{suffix}", pixels, driver=driver, crs=None, transform=None)
    found = opened(path)
    assert (found.width, found.height, found.count, found.bands[0].dtype) == (50, 40, 3, "uint8")


@pytest.mark.parametrize(
    "name", ["a?b.tif", "a#b.tif", "a!b.tif", "a b.tif", "ä.tif", "a:b.tif", "zip:x.tif"]
)
def test_a_file_name_is_never_taken_for_a_url(tmp_path: Path, name: str) -> None:
    assert opened(write_raster(tmp_path / "plain.tif", slope((3, 4))).rename(tmp_path / name)).width == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"these are words\n" * 50, "it is text"),
        (b"\x00\x01\x02" * 50, "its format is not supported"),
        (b"II*\0" + b"\xff" * 40, "begins like one (GTiff)"),
        (b"II*\0\x08\0\0\0", "begins like one (GTiff)"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "begins like one (PNG)"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "begins like one (JPEG)"),
    ],
)
def test_other_files_are_refused_with_a_plain_message(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "field.tif"
    path.write_bytes(content)
    error = refusal(path)
    assert error.code == "unreadable-raster"
    assert error.message.startswith("'field.tif' is not a readable raster: ")
    assert words in error.message


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (50002, "compressed by JPEG XL"),
        (34712, "compressed by JPEG 2000"),
        (34892, "compressed by lossy JPEG"),
        (6, "compressed by old-style JPEG"),
        (777, "compressed by number 777"),
    ],
)
def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path, code: int, name: str) -> None:
    path = write_raster(tmp_path / "in.tif", np.zeros((1, 20, 30), np.uint8))
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    at = next(
        at for at in range(start + 2, start + 2 + 12 * entries, 12) if content[at : at + 2] == b"\x03\x01"
    )
    struct.pack_into("<H", content, at + 8, code)
    path.write_bytes(content)
    refused = refusal(path)
    assert refused.code == "unreadable-raster"
    assert name in refused.message


def test_the_pages_of_a_file_are_counted_without_overviews_and_masks(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif",
        np.ones((1, 64, 64), np.uint8),
        mask=np.full((64, 64), 255, np.uint8),
        overviews=[2],
    )
    assert opened(path).pages == 1
    images = [Image.fromarray(np.full((40, 50), value, np.uint8)) for value in (1, 2, 3)]
    images[0].save(tmp_path / "pages.tif", save_all=True, append_images=images[1:])
    assert opened(tmp_path / "pages.tif").pages == 3


def test_a_vrt_cannot_reach_other_files(tmp_path: Path) -> None:
    secret = write_raster(tmp_path / "secret.tif", np.full((1, 8, 8), 42, np.uint8))
    disguised = tmp_path / "field.tif"
    disguised.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    error = refusal(disguised)
    assert error.code == "unreadable-raster"
    assert "it is a VRT, which only points to other files" in error.message
    assert str(secret) not in error.message


def test_sidecar_files_are_ignored(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "field.tif", np.full((1, 8, 8), 42, np.uint8), crs=None, transform=None)
    (tmp_path / "field.tif.tfw").write_text("1\n0\n0\n-1\n500000\n5000000\n")
    (tmp_path / "field.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
    (tmp_path / "field.tif.ovr").write_text("<VRTDataset rasterXSize='4' rasterYSize='4'/>")
    (tmp_path / "field.tif.msk").write_text("<VRTDataset rasterXSize='8' rasterYSize='8'/>")
    found = opened(path)
    assert (found.crs, found.geotransform, found.overview_sizes) == (None, None, ())


def declared(path: Path, *, width: int, height: int, samples: int = 1, tile: int = 512) -> Path:
    """A TIFF whose header declares any size, without the pixels."""
    tiles = -(-width // tile) * -(-height // tile) if width * height < 10**8 else 1
    fields = [
        field(256, FieldType.LONG, width),
        field(257, FieldType.LONG, height),
        field(258, FieldType.SHORT, *[8] * samples),
        field(259, FieldType.SHORT, 8),
        field(262, FieldType.SHORT, 1),
        field(277, FieldType.SHORT, samples),
        field(284, FieldType.SHORT, 1),
        field(322, FieldType.LONG, tile),
        field(323, FieldType.LONG, tile),
        field(324, FieldType.LONG, *[0] * tiles),
        field(325, FieldType.LONG, *[0] * tiles),
    ]
    directory = pack_directories([fields], start=HEADER_BYTES, big=False)
    path.write_bytes(pack_header(big=False, first_directory=HEADER_BYTES) + directory)
    return path


def test_a_header_that_declares_terapixels_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    error = refusal(declared(tmp_path / "field.tif", width=1_500_000, height=1_500_000))
    assert error.code == "raster-too-large"
    assert error.message.startswith(
        "The raster declares 1500000 × 1500000 pixels (2,250 GB) in a file of 0.0 MB."
    )


def test_a_file_that_declares_far_more_pixels_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    assert refusal(declared(tmp_path / "field.tif", width=100_000, height=100_000)).code == "raster-too-large"


def test_blocks_too_large_to_decode_are_refused(tmp_path: Path) -> None:
    error = refusal(
        declared(tmp_path / "field.tif", width=30_000, height=30_000, tile=30_000 // 16 * 16 + 16)
    )
    assert error.code == "unsupported-layout"
    assert "Store it tiled" in error.message


def test_a_file_truncated_in_its_pixels_opens_but_reading_it_fails(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "field.tif", slope((200, 200)), tiled=True, compress="deflate")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InvalidInput) as caught, open_raster(path) as source:
        source.read()
    assert (caught.value.code, caught.value.message) == (
        "damaged-raster",
        "A part of 'field.tif' can't be read: the file is damaged or incomplete. Upload it again.",
    )
    assert "TIFF" in (cause_of(caught.value) or "")


def test_a_coordinate_system_that_cannot_be_transformed_is_no_damage(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", slope((4, 4)), crs=CRS.from_wkt('LOCAL_CS["a",UNIT["metre",1]]'))
    with pytest.raises(InvalidInput) as caught, open_raster(path) as source:
        transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    assert caught.value.code == "not-georeferenced"
    assert caught.value.message.startswith("The coordinate system of 'a.tif' can't be transformed to others")


def test_a_truncated_jpeg_is_not_filled_with_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (3, 200, 200)).astype(np.uint8)
    path = write_raster(tmp_path / "field.jpg", pixels, driver="JPEG", crs=None, transform=None)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InvalidInput) as caught, open_raster(path) as source:
        source.read()
    assert caught.value.code == "damaged-raster"


def test_an_overview_can_be_opened_by_itself(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", slope((301, 203), bands=1), overviews=[2, 4])
    sizes = opened(path).overview_sizes
    for level, size in enumerate(sizes):
        with open_raster(path, overview_level=level) as overview:
            assert (overview.width, overview.height) == size
    assert len(sizes) == 2


MUTATE = """
import json, random, sys
from pathlib import Path
from aerotask.domain.errors import InvalidInput
from tests.raster.rasters import export
folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seeds = sorted(folder.glob("seed-*.tif"))
dice = random.Random(seed)
outcomes = {}
for number in range(count):
    content = bytearray(dice.choice(seeds).read_bytes())
    for _ in range(dice.randint(1, 12)):
        if dice.random() < 0.2:
            del content[dice.randrange(len(content)):]
            content += b"\\0"
        else:
            reach = 400 if dice.random() < 0.7 else len(content)
            content[dice.randrange(min(reach, len(content)))] = dice.choice([0, 1, 255, dice.randrange(256)])
    mutated = folder / "mutated.tif"
    mutated.write_bytes(content)
    try:
        export(mutated, folder / "out.tif", bands="1", rescale="0,255")
        outcome = "exported"
    except InvalidInput as error:
        outcome = error.code
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_files_end_in_a_result_or_a_known_refusal(tmp_path: Path, seed: int) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (2, 90, 90)).astype(np.uint8)
    write_raster(tmp_path / "seed-strips.tif", pixels, compress="lzw")
    write_raster(
        tmp_path / "seed-tiles.tif", pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate"
    )
    write_raster(tmp_path / "seed-masked.tif", pixels, mask=np.full((90, 90), 255, np.uint8), bigtiff="YES")
    command = [sys.executable, "-c", MUTATE, str(tmp_path), str(seed), "60"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parents[2]
    )
    assert ended.returncode == 0, ended.stderr
    outcomes = json.loads(ended.stdout)
    known = {"exported", "unreadable-raster", "damaged-raster", "raster-too-large", "unsupported-layout"}
    assert set(outcomes) <= known | {"band-out-of-range", "unsupported-pixel-type"}
    assert outcomes["exported"] > 0
    assert outcomes["unreadable-raster"] > 0


def test_reading_does_not_change_the_file(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", slope((20, 20)))
    before = path.read_bytes()
    opened(path)
    assert read(path).shape == (2, 20, 20)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.tif"]
