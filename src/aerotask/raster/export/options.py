"""What an export was asked for, read from its parameters before any raster is looked at."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from enum import StrEnum

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.bands import parse_filter
from aerotask.raster.colormaps import DEFAULT_COLORMAP, NO_COLORMAP, check_name
from aerotask.raster.export.presets import Composite, Preset, preset_named
from aerotask.raster.expression.indices import Formula, ValueRange, parse_formula

_BANDS = re.compile(r"\s*[0-9]{1,4}\s*(?:,\s*[0-9]{1,4}\s*){0,2}")


class ExportFormat(StrEnum):
    """How the result is stored."""

    GTIFF = "gtiff"
    COG = "cog"
    PALETTE = "palette"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The choices of one export, each well formed by itself; None where nothing was chosen."""

    formula: Formula | None = None
    band_filter: tuple[str | None, ...] | None = None
    colormap: str = DEFAULT_COLORMAP
    rescale: tuple[ValueRange, ...] | None = None
    bands: tuple[int, ...] | None = None
    preset: Preset | None = None
    preset_name: str | None = None
    format: ExportFormat = ExportFormat.GTIFF

    @property
    def wants_values(self) -> bool:
        """Whether values are asked for instead of colours."""
        return self.colormap == NO_COLORMAP


def parse_request(  # noqa: PLR0913  one argument for each parameter of the tool
    *,
    formula: str | None = None,
    band_filter: str | None = None,
    colormap: str = DEFAULT_COLORMAP,
    rescale: str | None = None,
    bands: str | None = None,
    preset: str | None = None,
    format: str = ExportFormat.GTIFF,  # noqa: A002  the parameter's own name
) -> ExportOptions:
    """The request that the parameters spell.

    Raises:
        InvalidInput: one of them is malformed or names something unknown.
    """
    request = ExportOptions(
        formula=None if formula is None else parse_formula(formula),
        band_filter=None if band_filter is None else parse_filter(band_filter),
        colormap=check_name(colormap),
        rescale=None if rescale is None else parse_rescale(rescale),
        bands=None if bands is None else parse_bands(bands),
        preset=None if preset is None else preset_named(preset),
        preset_name=None if preset is None else preset.strip().lower(),
        format=ExportFormat(format),
    )
    _check_palette(request)
    return request


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


def _check_palette(request: ExportOptions) -> None:
    """Refuse a colour table for what has no colormap, as far as the request alone tells."""
    if request.format is not ExportFormat.PALETTE:
        return
    composite = request.formula is None and (
        len(request.bands) == 3 if request.bands else isinstance(request.preset, Composite)
    )
    if composite or request.wants_values:
        raise palette_impossible()


def palette_impossible() -> InvalidInput:
    """The refusal of format `palette` for a result that isn't coloured by a colormap."""
    return InvalidInput(
        "Format 'palette' is for results with a colormap: ask for a formula or for one band, with a colormap other "
        "than 'none', or take format 'gtiff' or 'cog'.",
        code="palette-impossible",
    )
