"""Options of an export and of map tiles: their one spelling for clients, and what it parses to without a raster."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.bands import parse_filter
from aerotask.raster.colormaps import NO_COLORMAP, known_name
from aerotask.raster.export.area import AreaOptions
from aerotask.raster.export.presets import Composite, Preset, find_preset
from aerotask.raster.expression.indices import Formula, ValueRange, parse_formula
from aerotask.sdk import ToolParams

ColormapName = Annotated[str, Field(min_length=1, max_length=64)]

UnscaleMode = Literal["auto", "true", "false"]
Unscale = Annotated[
    UnscaleMode, BeforeValidator(lambda value: str(value).lower() if isinstance(value, bool) else value)
]
"""Choice between physical values and the numbers in the file; JSON's true and false are accepted as well."""

DataType = Literal["float32", "int16"]
"""Type of the numbers in a result of values."""

_BANDS = re.compile(r"\s*[0-9]{1,4}\s*(?:,\s*[0-9]{1,4}\s*){0,2}")


class ExportFormat(StrEnum):
    """File formats of an export."""

    GTIFF = "gtiff"
    COG = "cog"
    PALETTE = "palette"


class DisplayOptions(ToolParams):
    """Display options of a raster as clients spell them: for exports, map tiles and their routes."""

    formula: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """An index by its id (NDVI, VARI, …, in any case), or arithmetic over bands such as `(N-R)/(N+R)`, `b4/b1` or
    `where(NDVI>0.3, NDVI, 0)`. Comes before `bands` and `preset`."""

    band_filter: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Roles of the bands, in their order: R, G, B, N (near infrared), Re (red edge), T (thermal); any other letter
    skips a band. `RGBN` and `BGRReN`, for example. Left out, the roles are taken from the file's own metadata."""

    colormap: ColormapName | None = None
    """The colours of a formula or of a single band, by name. Left out: `rdylgn` for a formula, greys for a band, and its own
    for a band with a colour table."""

    rescale: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The values that the first and the last colour stand for: `min,max`, or three such pairs separated by `;` for
    three bands. Left out: the formula's own range, else the 2nd to 98th percentile."""

    bands: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Three bands to show as red, green and blue (`3,2,1`), or one to colour; counted from 1."""

    unscale: Unscale | None = None
    """Whether physical values are computed, number × scale + offset: `auto`, where the file gives scale or offset;
    `true`; or `false`, for the numbers in the file. Left out: `auto`."""

    preset: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A named choice: true-color, false-color-ir, agriculture, geology, moisture, urban, red-edge, swir-composite,
    ndvi, ndwi, gndvi, ndre, ironbow, whitehot or blackhot."""

    def parsed(self, *, format: ExportFormat = ExportFormat.GTIFF) -> ExportOptions:  # noqa: A002  raster-export's word
        """The options with their texts parsed, each checked without a raster.

        Raises:
            InvalidInput: one of them is malformed or names something unknown.
        """
        options = ExportOptions(
            formula=None if self.formula is None else parse_formula(self.formula),
            band_filter=None if self.band_filter is None else parse_filter(self.band_filter),
            colormap=None if self.colormap is None else known_name(self.colormap),
            rescale=None if self.rescale is None else parse_rescale(self.rescale),
            bands=None if self.bands is None else parse_bands(self.bands),
            unscale=self.unscale or "auto",
            preset=None if self.preset is None else find_preset(self.preset),
            preset_name=None if self.preset is None else self.preset.strip().lower(),
            format=format,
        )
        _check_palette(options)
        return options


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Parsed options of one export; None where nothing was chosen."""

    formula: Formula | None
    band_filter: tuple[str | None, ...] | None
    colormap: str | None
    rescale: tuple[ValueRange, ...] | None
    bands: tuple[int, ...] | None
    unscale: UnscaleMode
    preset: Preset | None
    preset_name: str | None
    format: ExportFormat
    data_type: DataType = "float32"
    area: AreaOptions | None = None
    """The part of the raster that is exported; None for all of it."""

    @property
    def wants_values(self) -> bool:
        """Whether values are asked for instead of colours."""
        return self.colormap == NO_COLORMAP


def parse_rescale(text: str) -> tuple[ValueRange, ...]:
    """The ranges in `min,max` or, one for each of three bands, `min,max;min,max;min,max`.

    Raises:
        InvalidInput: it is neither, or a minimum isn't below its maximum (`invalid-rescale`).
    """
    ranges = tuple(_parse_range(pair, text) for pair in text.split(";"))
    if len(ranges) not in {1, 3}:
        raise _invalid_rescale(text, "give one pair for all bands, or three")
    return ranges


def parse_bands(text: str) -> tuple[int, ...]:
    """One or three band numbers, counted from 1; the same band may come twice.

    Raises:
        InvalidInput: it is something else (`invalid-bands`, or `band-out-of-range` for a band 0).
    """
    numbers = tuple(map(int, text.split(","))) if _BANDS.fullmatch(text) else ()
    if len(numbers) not in {1, 3}:
        raise InvalidInput(
            f"The bands {shown(text)} can't be read: name one band, or three for red, green and blue, by their "
            "numbers from 1 on; '3,2,1', for example.",
            code="invalid-bands",
        )
    if 0 in numbers:
        raise InvalidInput("There is no band 0; bands are counted from 1.", code="band-out-of-range")
    return numbers


def _parse_range(pair: str, text: str) -> ValueRange:
    try:
        low, high = (float(number) for number in pair.split(","))
        # Pixels are computed in float32, where two numbers may be too near to each other, or too large.
        low_f32, high_f32 = struct.unpack("<2f", struct.pack("<2f", low, high))
    except (ValueError, OverflowError):
        raise _invalid_rescale(text, "each pair is two numbers with a comma between them") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _invalid_rescale(text, "its numbers must be finite")
    if low_f32 >= high_f32:
        raise _invalid_rescale(text, "each minimum must be below its maximum")
    return ValueRange(low, high)


def _invalid_rescale(text: str, rule: str) -> InvalidInput:
    return InvalidInput(
        f"The rescale {shown(text)} can't be used: {rule}. Examples: '-1,1' or '0,3000;0,3000;0,2500'.",
        code="invalid-rescale",
    )


def check_data_type(options: ExportOptions, *, values_per_px: int = 1) -> None:
    """Check that numbers of the type can be written.

    Raises:
        InvalidInput: Int16 is for one value per pixel, not for colours or several values (`data-type-impossible`).
    """
    if options.data_type == "int16" and not (options.wants_values and values_per_px == 1):
        raise InvalidInput(
            "The data type 'int16' is for the values of a formula or of one band: give one of them and colormap 'none', or "
            "leave out 'dataType'.",
            code="data-type-impossible",
        )


def _check_palette(options: ExportOptions) -> None:
    """Raise if a colour table is asked for that no raster could give a colormap for."""
    if options.format is not ExportFormat.PALETTE:
        return
    composite = options.formula is None and (
        len(options.bands) == 3 if options.bands else isinstance(options.preset, Composite)
    )
    if composite or options.wants_values:
        raise palette_impossible()


def palette_impossible() -> InvalidInput:
    """The error for format `palette` where the result has no colormap."""
    return InvalidInput(
        "Format 'palette' is for results with a colormap: ask for a formula or for one band, with a colormap other "
        "than 'none', or take format 'gtiff' or 'cog'.",
        code="palette-impossible",
    )
