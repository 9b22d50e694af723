"""Preview of two rasters before their alignment."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.raster.alignment.scenes import METRES, canvas, cut, located, on_disk, shifted

from aerotask.domain.errors import InvalidInput
from aerotask.raster.alignment.match.similarity import Similarity
from aerotask.raster.alignment.preview import preview_pair


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """A source whose content is 40 pixels too far to the right, and its reference."""
    scene = canvas(21)
    source = on_disk(tmp_path / "source.tif", shifted(scene, right=40, down=0), nodata=0)
    reference = on_disk(tmp_path / "reference.tif", cut(scene, left=0, top=0), nodata=0)
    return source.path, reference.path


def pixels(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "WEBP"
        return np.asarray(picture.convert("RGB"), np.float64)


def colourfulness(content: bytes) -> float:
    """The difference between red and cyan: 0 where the two match."""
    shown = pixels(content)
    return float(np.abs(shown[..., 0] - shown[..., 1]).mean())


def test_an_overlay_is_coloured_where_the_two_differ_and_grey_where_they_match(
    paths: tuple[Path, Path],
) -> None:
    as_it_lies = preview_pair(*paths)
    moved = preview_pair(*paths, transform=Similarity(1 + 0j, complex(-40 * METRES, 0)))
    assert pixels(as_it_lies).shape == (512, 512, 3)
    assert colourfulness(as_it_lies) > 30
    assert colourfulness(moved) < 8


def test_side_by_side_both_fit_into_the_requested_size(paths: tuple[Path, Path]) -> None:
    shown = pixels(preview_pair(*paths, look="side-by-side", longest_px=300))
    assert shown.shape == (146, 300, 3)
    assert shown[:, 146:154].min() > 240


def test_rasters_that_cannot_be_aligned_have_no_preview(paths: tuple[Path, Path], tmp_path: Path) -> None:
    far = on_disk(tmp_path / "far.tif", cut(canvas(21), left=0, top=0), **located(right=9000))
    with pytest.raises(InvalidInput) as caught:
        preview_pair(paths[0], far.path)
    assert caught.value.code == "no-overlap"
