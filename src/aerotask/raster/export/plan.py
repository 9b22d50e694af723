"""From a request and a raster's profile to exactly what will be computed: the same at submit and in the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import BandRoles, find_roles
from aerotask.raster.colormaps import DEFAULT_COLORMAP, NO_COLORMAP
from aerotask.raster.export.options import ExportFormat, ExportOptions, palette_impossible
from aerotask.raster.export.presets import Composite, IndexPreset, ThermalPreset
from aerotask.raster.expression.indices import (
    Formula,
    ValueRange,
    missing_bands_message,
    parse_formula,
    resolve_names,
    single_band,
)
from aerotask.raster.profile import RasterProfile

RangeSource = Literal["rescale", "formula", "percentiles", "none"]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to compute from which bands, and how to show it.

    With a formula there is one value for each pixel; without, three bands are shown as red, green and blue.
    """

    title: str
    formula: Formula | None
    names: Mapping[str, int]
    """With a formula: the band (counted from 1) behind each name in it."""
    channels: tuple[int, ...]
    """Without a formula: the bands shown as red, green and blue."""
    colormap: str
    """`none` for values as Float32; of no meaning for three bands in colour."""
    ranges: tuple[ValueRange, ...] | None
    """One for the formula, or one for each channel; None if the pixels tell (percentiles), or if unused."""
    range_source: RangeSource
    format: ExportFormat
    reasons: tuple[str, ...] = ()
    """Why these bands, in words for the log."""
    warnings: tuple[str, ...] = ()
    """What was asked for and can't have an effect."""

    @property
    def gives_values(self) -> bool:
        """Whether the result is Float32 values rather than colours."""
        return self.colormap == NO_COLORMAP

    @property
    def source_bands(self) -> tuple[int, ...]:
        """The bands to read, each once, in ascending order."""
        return tuple(sorted({*self.names.values(), *self.channels}))


@dataclass(slots=True)
class _PlanDraft:
    """The recipe in the making."""

    formula: Formula | None = None
    title: str = ""
    channels: tuple[int, ...] = ()
    colormap: str = DEFAULT_COLORMAP
    uses_filter: bool = False
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def ignore(self, what: str, why: str) -> None:
        self.warnings.append(f"{what} was ignored: {why}.")


def make_plan(request: ExportOptions, profile: RasterProfile) -> ExportPlan:
    """Decide what to compute; precedence is formula, bands, preset, the first three bands.

    Raises:
        InvalidInput: the raster can't give what is asked for; the code and the message say why.
    """
    _check_pixels(profile)
    choice = _PlanDraft(colormap=request.colormap)
    roles = find_roles(profile, request.band_filter)
    _choose(request, profile, roles, choice)
    names = resolve_names(choice.formula, roles, profile.count) if choice.formula else {}
    _explain_names(names, roles, choice)
    _warn_of_ignored(request, choice)
    if request.format is ExportFormat.PALETTE and (choice.formula is None or choice.colormap == NO_COLORMAP):
        raise palette_impossible()
    ranges, range_source = _ranges(request, choice)
    return ExportPlan(
        title=choice.title,
        formula=choice.formula,
        names=names,
        channels=choice.channels,
        colormap=choice.colormap,
        ranges=ranges,
        range_source=range_source,
        format=request.format,
        reasons=tuple(choice.reasons),
        warnings=tuple(choice.warnings),
    )


def _check_pixels(profile: RasterProfile) -> None:
    if any(band.dtype.startswith("complex") for band in profile.bands):
        raise InvalidInput(
            "The raster has complex pixels, which can't be shown; export its magnitude or one part of it.",
            code="unsupported-pixel-type",
        )


def _choose(request: ExportOptions, profile: RasterProfile, roles: BandRoles, choice: _PlanDraft) -> None:
    """Settle the formula or the channels by precedence."""
    if request.formula:
        choice.formula, choice.title = request.formula, request.formula.title
    elif request.bands:
        _take_bands(request.bands, profile, choice)
    elif request.preset:
        _take_preset(request, profile, roles, choice)
    elif len(profile.data_bands) >= 3:
        choice.channels = profile.data_bands[:3]
        choice.title = "the first three bands"
        choice.reasons.append(
            f"Nothing was chosen: showing {_listed(choice.channels)} as red, green and blue."
        )
    else:
        first = profile.data_bands[0] if profile.data_bands else 1
        choice.formula, choice.title = single_band(first), f"band {first}"
        choice.reasons.append(
            f"Nothing was chosen, and there are fewer than three bands: taking band {first}."
        )


def _take_bands(bands: tuple[int, ...], profile: RasterProfile, choice: _PlanDraft) -> None:
    beyond = next((number for number in bands if number > profile.count), None)
    if beyond:
        raise InvalidInput(
            f"Band {beyond} was asked for, but the raster has {profile.count} band(s).",
            code="band-out-of-range",
        )
    choice.title = _listed(bands)
    if len(bands) == 1:
        choice.formula = single_band(bands[0])
    else:
        choice.channels = bands
        choice.reasons.append(f"Showing {choice.title} as red, green and blue.")


def _take_preset(
    request: ExportOptions, profile: RasterProfile, roles: BandRoles, choice: _PlanDraft
) -> None:
    match request.preset:
        case IndexPreset(formula_id):
            choice.formula, choice.title = parse_formula(formula_id), formula_id
        case ThermalPreset(colormap):
            band = roles.bands.get("T") or (profile.data_bands or (1,))[0]
            choice.formula, choice.title = single_band(band), f"band {band}"
            choice.uses_filter = "T" in roles.bands
            if request.colormap not in {DEFAULT_COLORMAP, NO_COLORMAP, colormap}:
                choice.ignore("The colormap", f"preset '{colormap}' has its own")
            if request.colormap != NO_COLORMAP:
                choice.colormap = colormap
        case Composite(wanted):
            _take_composite(wanted, str(request.preset_name), roles, choice)


def _take_composite(wanted: tuple[str, ...], name: str, roles: BandRoles, choice: _PlanDraft) -> None:
    missing = [role for role in wanted if role not in roles.bands]
    if missing:
        raise InvalidInput(missing_bands_message(f"Preset '{name}'", missing, roles), code="missing-bands")
    choice.channels = tuple(roles.bands[role] for role in wanted)
    choice.title = name
    choice.uses_filter = True
    shown = ", ".join(
        f"{role} = band {roles.bands[role]} (from {roles.known_from[role]})" for role in dict.fromkeys(wanted)
    )
    choice.reasons.append(f"Preset '{name}' shows {'-'.join(wanted)} as red, green and blue: {shown}.")


def _explain_names(names: Mapping[str, int], roles: BandRoles, choice: _PlanDraft) -> None:
    by_role = {name: number for name, number in names.items() if not name.lower().removeprefix("b").isdigit()}
    if by_role:
        choice.uses_filter = True
        from_where = {role.lower(): source for role, source in roles.known_from.items()}
        choice.reasons.extend(
            f"{name} is band {number}, from {from_where[name.lower()]}." for name, number in by_role.items()
        )


def _warn_of_ignored(request: ExportOptions, choice: _PlanDraft) -> None:
    if request.formula and request.bands:
        choice.ignore("'bands'", "the formula comes first")
    if request.preset and (request.formula or request.bands):
        first = "the formula comes" if request.formula else "bands named by number come"
        choice.ignore(f"Preset '{request.preset_name}'", f"{first} first")
    if request.band_filter is not None and not choice.uses_filter:
        choice.ignore("The band filter", "nothing that was chosen asks for bands by what they show")
    in_colour = choice.formula is None and choice.colormap != NO_COLORMAP
    if in_colour and choice.colormap != DEFAULT_COLORMAP:
        choice.ignore(f"Colormap '{choice.colormap}'", "three bands are shown in their own colours")
    if request.rescale and choice.colormap == NO_COLORMAP:
        choice.ignore("'rescale'", "colormap 'none' gives the values as they are")


def _ranges(request: ExportOptions, choice: _PlanDraft) -> tuple[tuple[ValueRange, ...] | None, RangeSource]:
    if choice.colormap == NO_COLORMAP:
        return None, "none"
    wanted = 1 if choice.formula else len(choice.channels)
    if request.rescale:
        if len(request.rescale) not in {1, wanted}:
            raise InvalidInput(
                f"The rescale gives {len(request.rescale)} pairs for one value per pixel; give one pair.",
                code="invalid-rescale",
            )
        return request.rescale * (wanted // len(request.rescale)), "rescale"
    if choice.formula and choice.formula.value_range:
        return (choice.formula.value_range,), "formula"
    return None, "percentiles"


def _listed(bands: tuple[int, ...]) -> str:
    return f"{'band' if len(bands) == 1 else 'bands'} {', '.join(map(str, bands))}"
