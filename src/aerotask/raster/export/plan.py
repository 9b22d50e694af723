"""Export plan: what is computed for a raster's profile and given options, the same at submit and in the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import BandRoles, find_roles
from aerotask.raster.colormaps import DEFAULT_COLORMAP, GREY_COLORMAP, NO_COLORMAP, OWN_COLOURS
from aerotask.raster.export.area import ExportArea
from aerotask.raster.export.options import (
    DataType,
    ExportFormat,
    ExportOptions,
    check_data_type,
    palette_impossible,
)
from aerotask.raster.export.physical_values import choose_scalings, explain_scalings, warn_of_numbers
from aerotask.raster.export.presets import Composite, IndexPreset, ThermalPreset
from aerotask.raster.expression.indices import (
    Formula,
    ValueRange,
    missing_bands_message,
    parse_formula,
    resolve_names,
    single_band,
)
from aerotask.raster.expression.names import band_number, band_role
from aerotask.raster.profile import RasterProfile, Scaling
from aerotask.raster.windows import Window

RangeSource = Literal["rescale", "formula", "percentiles", "extremes", "none"]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """Computation and display of an export, resolved for one raster.

    With a formula there is one value for each pixel; without, three bands are shown as red, green and blue.
    """

    title: str
    formula: Formula | None
    names: Mapping[str, int]
    """With a formula: the band (counted from 1) behind each name in it."""
    channels: tuple[int, ...]
    """Without a formula: the bands shown as red, green and blue."""
    colormap: str
    """`none` for values instead of colours, `own` for the band's colour table; unused for three bands in colour."""
    ranges: tuple[ValueRange, ...] | None
    """One for the formula, or one for each channel; none for the band's own colours. None if they are taken from the pixels
    (percentiles; for Int16 the extremes), or for values in Float32."""
    range_source: RangeSource
    format: ExportFormat
    scalings: tuple[Scaling, ...] = ()
    """Scale and offset of each of the `source_bands`, if physical values are computed."""
    reasons: tuple[str, ...] = ()
    """Reasons for the choice of bands, for the log."""
    warnings: tuple[str, ...] = ()
    """Options that have no effect, for the log and the result."""
    data_type: DataType = "float32"
    """Type of the numbers, if the result is of values."""
    number_scaling: Scaling | None = None
    """For values in Int16: the scale and offset by which the numbers in the file stand for them."""
    area: ExportArea | None = None
    """The part of the raster that is exported; None for all of it."""

    def window_of(self, profile: RasterProfile) -> Window:
        """The window of the raster that is exported."""
        return self.area.window if self.area else (slice(0, profile.height), slice(0, profile.width))

    @property
    def is_cut(self) -> bool:
        """Whether pixels within the exported window may be outside of a cutline."""
        return self.area is not None and self.area.inside is not None

    @property
    def gives_values(self) -> bool:
        """Whether the result is of values rather than colours."""
        return self.colormap == NO_COLORMAP

    @property
    def keeps_colours(self) -> bool:
        """Whether the pixels have the colours of the raster's own colour table."""
        return self.colormap == OWN_COLOURS

    @property
    def source_bands(self) -> tuple[int, ...]:
        """The bands to read, each once, in ascending order."""
        return tuple(sorted({*self.names.values(), *self.channels}))


@dataclass(slots=True)
class _PlanDraft:
    """A plan under construction."""

    formula: Formula | None = None
    title: str = ""
    channels: tuple[int, ...] = ()
    colormap: str = DEFAULT_COLORMAP
    uses_filter: bool = False
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def ignore(self, option: str, reason: str) -> None:
        self.warnings.append(f"{option} was ignored: {reason}.")


def make_plan(options: ExportOptions, profile: RasterProfile) -> ExportPlan:
    """Resolve the options for a raster; precedence is formula, bands, preset, the first three bands.

    Raises:
        InvalidInput: the raster lacks what the options need; code and message say why.
    """
    _check_pixels(profile)
    draft = _PlanDraft(colormap=options.colormap or DEFAULT_COLORMAP)
    roles = find_roles(profile, options.band_filter)
    _choose(options, profile, roles, draft)
    names = resolve_names(draft.formula, roles, profile.count) if draft.formula else {}
    _explain_names(names, roles, draft)
    _warn_of_ignored(options, draft)
    if profile.page_warning:
        draft.warnings.append(profile.page_warning)
    if options.format is ExportFormat.PALETTE and (draft.formula is None or draft.colormap == NO_COLORMAP):
        raise palette_impossible()
    check_data_type(options, values_per_px=1 if draft.formula else len(draft.channels))
    bands = tuple(sorted({*names.values(), *draft.channels}))
    scalings = () if draft.colormap == OWN_COLOURS else choose_scalings(options.unscale, profile, bands)
    _explain_values(options, profile, bands, scalings, draft)
    ranges, range_source = _ranges(options, draft)
    return ExportPlan(
        title=draft.title,
        formula=draft.formula,
        names=names,
        channels=draft.channels,
        colormap=draft.colormap,
        ranges=ranges,
        range_source=range_source,
        format=options.format,
        scalings=scalings,
        reasons=tuple(draft.reasons),
        warnings=tuple(draft.warnings),
        data_type=options.data_type,
    )


def _check_pixels(profile: RasterProfile) -> None:
    if any(band.dtype.startswith("complex") for band in profile.bands):
        raise InvalidInput(
            "The raster has complex pixels, which can't be shown; export its magnitude or one part of it.",
            code="unsupported-pixel-type",
        )


def _choose(options: ExportOptions, profile: RasterProfile, roles: BandRoles, draft: _PlanDraft) -> None:
    """Set the formula or the channels, by precedence."""
    if options.formula:
        draft.formula, draft.title = options.formula, options.formula.title
    elif options.bands:
        _take_bands(options.bands, options, profile, draft)
    elif options.preset:
        _take_preset(options, profile, roles, draft)
    elif len(profile.data_bands) >= 3:
        draft.channels = profile.data_bands[:3]
        draft.title = "the first three bands"
        draft.reasons.append(f"Nothing was chosen: showing {_listed(draft.channels)} as red, green and blue.")
    else:
        first = profile.data_bands[0] if profile.data_bands else 1
        draft.reasons.append(
            f"Nothing was chosen, and there are fewer than three bands: taking band {first}."
        )
        _take_band(first, options, profile, draft)


def _take_band(number: int, options: ExportOptions, profile: RasterProfile, draft: _PlanDraft) -> None:
    """Take one band, in its own colours or in greys unless others are chosen."""
    draft.formula, draft.title = single_band(number), f"band {number}"
    if options.colormap:
        return
    band = profile.bands[number - 1]
    if band.colour == "palette" and band.dtype == "uint8" and not options.rescale:
        draft.colormap = OWN_COLOURS
        draft.reasons.append("The band keeps the colours of its colour table.")
    else:
        draft.colormap = GREY_COLORMAP


def _take_bands(
    bands: tuple[int, ...], options: ExportOptions, profile: RasterProfile, draft: _PlanDraft
) -> None:
    beyond = next((number for number in bands if number > profile.count), None)
    if beyond:
        raise InvalidInput(
            f"Band {beyond} was asked for, but the raster has {profile.count} band(s).",
            code="band-out-of-range",
        )
    draft.title = _listed(bands)
    if len(bands) == 1:
        _take_band(bands[0], options, profile, draft)
    else:
        draft.channels = bands
        draft.reasons.append(f"Showing {draft.title} as red, green and blue.")


def _take_preset(options: ExportOptions, profile: RasterProfile, roles: BandRoles, draft: _PlanDraft) -> None:
    match options.preset:
        case IndexPreset(formula_id):
            draft.formula, draft.title = parse_formula(formula_id), formula_id
        case ThermalPreset(colormap):
            band = roles.bands.get("T") or (profile.data_bands or (1,))[0]
            draft.formula, draft.title = single_band(band), f"band {band}"
            draft.uses_filter = "T" in roles.bands
            if options.colormap not in {None, NO_COLORMAP, colormap}:
                draft.ignore("The colormap", f"preset '{colormap}' has its own")
            if options.colormap != NO_COLORMAP:
                draft.colormap = colormap
        case Composite(roles_rgb):
            _take_composite(roles_rgb, str(options.preset_name), roles, draft)


def _take_composite(roles_rgb: tuple[str, ...], name: str, roles: BandRoles, draft: _PlanDraft) -> None:
    missing = [role for role in roles_rgb if role not in roles.bands]
    if missing:
        raise InvalidInput(missing_bands_message(f"Preset '{name}'", missing, roles), code="missing-bands")
    draft.channels = tuple(roles.bands[role] for role in roles_rgb)
    draft.title = name
    draft.uses_filter = True
    shown = ", ".join(
        f"{role} = band {roles.bands[role]} (from {roles.known_from[role]})"
        for role in dict.fromkeys(roles_rgb)
    )
    draft.reasons.append(f"Preset '{name}' shows {'-'.join(roles_rgb)} as red, green and blue: {shown}.")


def _explain_names(names: Mapping[str, int], roles: BandRoles, draft: _PlanDraft) -> None:
    by_role = {name: role for name in names if not band_number(name) and (role := band_role(name))}
    if by_role:
        draft.uses_filter = True
        draft.reasons.extend(
            f"{name} is band {names[name]}, from {roles.known_from[role]}." for name, role in by_role.items()
        )


def _explain_values(
    options: ExportOptions,
    profile: RasterProfile,
    bands: tuple[int, ...],
    scalings: tuple[Scaling, ...],
    draft: _PlanDraft,
) -> None:
    if scalings:
        draft.reasons.append(explain_scalings(bands, scalings))
        return
    if options.unscale == "true":
        draft.ignore("'unscale'", "the file gives neither scale nor offset for the bands that are used")
    elif any(profile.bands[band - 1].is_scaled for band in bands):
        draft.reasons.append("Computing on the numbers in the file, without their scale and offset.")
    if draft.formula and draft.formula.needs_reflectances:
        warning = warn_of_numbers(draft.title, profile, bands)
        draft.warnings.extend([warning] if warning else [])


def _warn_of_ignored(options: ExportOptions, draft: _PlanDraft) -> None:
    if options.formula and options.bands:
        draft.ignore("'bands'", "the formula comes first")
    if options.preset and (options.formula or options.bands):
        first = "the formula comes" if options.formula else "bands named by number come"
        draft.ignore(f"Preset '{options.preset_name}'", f"{first} first")
    if options.band_filter is not None and not draft.uses_filter:
        draft.ignore("The band filter", "nothing that was chosen refers to bands by their role")
    in_colour = draft.formula is None and draft.colormap != NO_COLORMAP
    if in_colour and options.colormap:
        draft.ignore(f"Colormap '{draft.colormap}'", "three bands are shown in their own colours")
    if options.rescale and draft.colormap == NO_COLORMAP and options.data_type != "int16":
        draft.ignore("'rescale'", "colormap 'none' gives the values as they are")


def _ranges(options: ExportOptions, draft: _PlanDraft) -> tuple[tuple[ValueRange, ...] | None, RangeSource]:
    if draft.colormap == NO_COLORMAP and options.data_type != "int16":
        return None, "none"
    if draft.colormap == OWN_COLOURS:
        return (), "none"
    value_count = 1 if draft.formula else len(draft.channels)
    if options.rescale:
        if len(options.rescale) not in {1, value_count}:
            raise InvalidInput(
                f"The rescale gives {len(options.rescale)} pairs for one value per pixel; give one pair.",
                code="invalid-rescale",
            )
        return options.rescale * (value_count // len(options.rescale)), "rescale"
    if draft.formula and draft.formula.value_range:
        return (draft.formula.value_range,), "formula"
    return None, "percentiles" if draft.colormap != NO_COLORMAP else "extremes"


def _listed(bands: tuple[int, ...]) -> str:
    return f"{'band' if len(bands) == 1 else 'bands'} {', '.join(map(str, bands))}"
