"""Textures of a GLB: JPEG, or PNG where parts are transparent, of a size that viewers on the web can use."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from aerotask.domain.paths import shown

MAX_SIDE_PX = 8192
"""Longest side in the GLB: WebGL's limit on almost all devices."""
MAX_SOURCE_SIDE_PX = 16384
_MAX_FILE_BYTES = 2 * 1024**3
_QUALITY = 90
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
_SIMPLE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


@dataclass(frozen=True, slots=True)
class Texture:
    """Encoded texture."""

    content: bytes
    media_type: str
    width_px: int
    height_px: int
    has_alpha: bool
    warning: str | None = None


def read_texture(path: Path) -> Texture:
    """The texture, downscaled by a power of two if it is too large for viewers; JPEG is kept as it is otherwise.

    Raises:
        ValueError: it can't be used, with the reason.
    """
    with large_images_allowed():
        try:
            return _read(path)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{shown(path.name)} is damaged or no image") from error


def _read(path: Path) -> Texture:
    with Image.open(path, formats=_FORMATS) as image:
        source_px = image.size
        if max(source_px) > MAX_SOURCE_SIDE_PX or path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError(
                f"{shown(path.name)} has {source_px[0]:,} × {source_px[1]:,} pixels, which is more than "
                f"{MAX_SOURCE_SIDE_PX:,} on a side"
            )
        if image.mode not in _SIMPLE_MODES:
            raise ValueError(f"{shown(path.name)} has no 8-bit colours")
        factor = 1
        while max(source_px) > factor * MAX_SIDE_PX:
            factor *= 2
        keeps = factor == 1 and image.format == "JPEG" and image.mode in {"L", "RGB"}
        if factor > 1 and image.format == "JPEG":
            image.draft("RGB", (source_px[0] // factor, source_px[1] // factor))
        image.load()
        warning = None
        pixels: Image.Image = image
        if factor > 1:
            pixels = pixels.reduce(max(1, round(image.width * factor / source_px[0])))
            warning = (
                f"The texture {shown(path.name)} of {source_px[0]:,} × {source_px[1]:,} pixels is scaled down to "
                f"{pixels.width:,} × {pixels.height:,}: many devices show at most {MAX_SIDE_PX:,}."
            )
        if keeps:
            return Texture(path.read_bytes(), "image/jpeg", *pixels.size, has_alpha=False)
        pixels = pixels.convert("RGBA" if pixels.has_transparency_data else "RGB")
        if pixels.mode == "RGBA" and pixels.getchannel("A").getextrema()[0] == 255:
            pixels = pixels.convert("RGB")
        has_alpha = pixels.mode == "RGBA"
        encoded = io.BytesIO()
        if has_alpha:
            pixels.save(encoded, "PNG", compress_level=6)
        else:
            pixels.save(encoded, "JPEG", quality=_QUALITY, subsampling=0)
        kind = "image/png" if has_alpha else "image/jpeg"
        return Texture(encoded.getvalue(), kind, *pixels.size, has_alpha, warning)


@contextmanager
def large_images_allowed() -> Iterator[None]:
    """Context without Pillow's own limit of pixels, which is below a texture's usual size; ours is checked before decoding."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
