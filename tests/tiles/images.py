"""Decoding of images in responses."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

Rgba = np.ndarray[Any, np.dtype[Any]]


def pixels_of(content: bytes) -> Rgba:
    """The pixels of a PNG or WebP, (rows, cols, 4)."""
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGBA"))
