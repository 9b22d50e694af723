"""Range of values where the options give none: percentiles to show, or the extremes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from aerotask.raster.export.compute import computation_for
from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.evaluate import Floats
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.io import open_raster
from aerotask.raster.parallel import run_in_threads
from aerotask.raster.pixels import BandReader, PixelBlock, SourceFile
from aerotask.raster.sampling import Sample, plan_sample, plan_thinned
from aerotask.raster.windows import Window, shape_of, shifted, unit_shape, windows

PERCENTILES = (2, 98)
_PART_YX = (64, 512)

Values = list[list[Floats]]
"""Values of the valid pixels, in pieces, for each channel of the result."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Range of each channel, and a description of the sample that it comes from."""

    ranges: tuple[ValueRange, ...]
    sample: str
    found_values: bool


def percentile_stretch(
    source: SourceFile, plan: ExportPlan, *, threads: int, on_progress: Callable[[float], None]
) -> Stretch:
    """The range from the 2nd to the 98th percentile of the valid pixels, or of a sample in a large raster.

    The percentiles interpolate linearly between the nearest values. Where both are the same, the range reaches half
    a unit to either side; without a valid pixel, it is 0 to 1.
    """
    part = plan.area.window if plan.area else None
    for sample in (plan_sample(source.profile, part), plan_thinned(source.profile, part)):
        channels = _collect(source, plan, sample, threads=threads, on_progress=on_progress)
        if all(values.size for values in channels):
            ranges = tuple(_range_of(values) for values in channels)
            return Stretch(ranges, sample.description, found_values=True)
        if sample.description == "all pixels":
            break
    channel_count = 1 if plan.formula else len(plan.channels)
    return Stretch((ValueRange(0, 1),) * channel_count, "no pixel with a value", found_values=False)


def extremes(
    source: SourceFile, plan: ExportPlan, *, threads: int, on_progress: Callable[[float], None]
) -> ValueRange | None:
    """The smallest and the largest value of all valid pixels, for a plan with one value per pixel; None without any."""
    part, profile = plan.window_of(source.profile), source.profile
    bytes_per_px = sum(profile.bands[band - 1].value_bytes for band in plan.source_bands) + 1
    unit_yx = unit_shape(
        shape_of(part),
        tile_yx=_PART_YX,
        block_yx=(profile.block_size[1], profile.block_size[0]),
        bytes_per_px=bytes_per_px,
    )
    units = tuple(shifted(each, (part[0].start, part[1].start)) for each in windows(shape_of(part), unit_yx))
    [found] = _collect(
        source, plan, Sample(units, 1, None, ""), threads=threads, on_progress=on_progress, keep=_ends
    )
    return ValueRange(float(found.min()), float(found.max())) if found.size else None


def _ends(values: Floats) -> Floats:
    return np.array([values.min(), values.max()]) if values.size else values


def _collect(  # noqa: PLR0913  the plan, the sample, and what is kept of it
    source: SourceFile,
    plan: ExportPlan,
    sample: Sample,
    *,
    threads: int,
    on_progress: Callable[[float], None],
    keep: Callable[[Floats], Floats] = lambda values: values,
) -> list[Floats]:
    """The valid values of the sample for each channel, or the part of them that `keep` returns."""
    channels: Values = [[] for _ in range(1 if plan.formula else len(plan.channels))]
    cutline = plan.area.inside if plan.area else None
    done = 0

    @contextmanager
    def worker() -> Iterator[Callable[[Window], Values]]:
        with (
            open_raster(source.path, overview_level=sample.overview_level) as opened,
            np.errstate(all="ignore"),
        ):
            reader = BandReader(opened, source.profile, plan.source_bands, scalings=plan.scalings)
            compute = computation_for(plan)

            def values_in(window: Window) -> Values:
                thinned = _thinned(reader.read(window), sample.stride)
                inside = cutline.inside(window, stride=sample.stride) if cutline else None
                found: Values = [[] for _ in channels]
                for part in windows(thinned.planes.shape[1:], _PART_YX):
                    for chunk in reader.chunks(thinned, part):
                        if inside is not None:
                            chunk.valid[:] &= inside[part][chunk.rows].reshape(-1)
                        for pieces, values in zip(found, compute(chunk.planes, chunk.valid), strict=True):
                            pieces.append(keep(values[chunk.valid]))
                return found

            yield values_in

    def take(found: Values) -> None:
        nonlocal done
        done += 1
        for channel, pieces in zip(channels, found, strict=True):
            channel.extend(pieces)
        on_progress(done / len(sample.windows))

    run_in_threads(sample.windows, threads=threads, worker=worker, on_result=take)
    return [_joined(pieces) for pieces in channels]


def _thinned(block: PixelBlock, stride: int) -> PixelBlock:
    if stride == 1:
        return block
    mask = None if block.mask is None else block.mask[::stride, ::stride]
    return PixelBlock(block.planes[:, ::stride, ::stride], mask)


def _joined(pieces: Sequence[Floats]) -> Floats:
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


def _range_of(values: Floats) -> ValueRange:
    low, high = (float(limit) for limit in np.percentile(values, PERCENTILES, overwrite_input=True))
    if np.float32(low) >= np.float32(high):
        half = max(0.5, abs(low) * 1e-6)
        return ValueRange(low - half, high + half)
    return ValueRange(low, high)
