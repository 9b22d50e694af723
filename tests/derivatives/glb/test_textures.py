"""Textures: formats, sizes, transparency, and images that can't be used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.derivatives.glb.meshes import build, images_of, parts_of, write_odm

from aerotask.derivatives.glb import textures
from aerotask.derivatives.glb.textures import read_texture


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_textures_of_any_format_become_jpeg(tmp_path: Path, suffix: str) -> None:
    _, made = build(write_odm(tmp_path / "odm", texture_suffix=suffix))
    assert [(image.format, image.size) for image in images_of(made)] == [("JPEG", (96, 64))] * 2
    red, green, blue = images_of(made)[0].getpixel((40, 40))  # type: ignore[misc]
    assert (abs(red - 200), abs(green - 40), abs(blue - 40)) < (6, 6, 6)


def test_a_jpeg_is_kept_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (9, 99, 199)).save(tmp_path / "a.jpg", quality=70)
    assert read_texture(tmp_path / "a.jpg").content == (tmp_path / "a.jpg").read_bytes()


def test_transparency_is_kept_where_there_is_any(tmp_path: Path) -> None:
    source = write_odm(tmp_path / "odm")
    image = Image.new("RGBA", (8, 8), (1, 2, 3, 255))
    image.save(tmp_path / "odm" / "odm_textured_model_geo_material0000_map_Kd.png")
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "odm" / "odm_textured_model_geo_material0001_map_Kd.png")
    _, made = build(source)
    assert [each.mode for each in images_of(made)] == ["RGB", "RGBA"]
    assert [part["material"].get("alphaMode") for part in parts_of(made)] == [None, "MASK"]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_texture_that_viewers_can_not_show_is_scaled_down(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textures, "MAX_SIDE_PX", 50)
    Image.new("RGB", (150, 90), (200, 40, 40)).save(tmp_path / f"a.{suffix}")
    texture = read_texture(tmp_path / f"a.{suffix}")
    assert (texture.width_px, texture.height_px) == (38, 23)
    assert texture.warning == (
        f"The texture 'a.{suffix}' of 150 × 90 pixels is scaled down to 38 × 23: many devices show at most 50."
    )
    with Image.open(io.BytesIO(texture.content)) as image:
        assert image.size == (38, 23)


def bomb(path: Path) -> None:
    Image.new("1", (20_000, 100)).save(path)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)


def cut_short(path: Path) -> None:
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(content, "PNG")
    path.write_bytes(content.getvalue()[:900])


def text(path: Path) -> None:
    path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (bomb, "has 20,000 × 100 pixels, which is more than 16,384 on a side"),
        (sixteen_bits, "has no 8-bit colours"),
        (cut_short, "is damaged or no image"),
        (text, "is damaged or no image"),
    ],
)
def test_a_texture_that_can_not_be_used_is_left_out_and_named(
    tmp_path: Path, write: object, words: str
) -> None:
    source = write_odm(tmp_path / "odm")
    name = "odm_textured_model_geo_material0000_map_Kd.png"
    write(tmp_path / "odm" / name)  # type: ignore[operator]
    facts, made = build(source)
    assert facts["warnings"] == [f"A texture is left out: '{name}' {words}."]
    assert len(images_of(made)) == 1
    assert [("baseColorTexture" in part["material"]["pbrMetallicRoughness"]) for part in parts_of(made)] == [
        False,
        True,
    ]
