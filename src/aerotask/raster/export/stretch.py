"""Percentile stretch: the range of values to show where the options give none."""

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
from aerotask.raster.windows import Window, windows

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
    for sample in (plan_sample(source.profile), plan_thinned(source.profile)):
        channels = _collect(source, plan, sample, threads=threads, on_progress=on_progress)
        if all(values.size for values in channels):
            ranges = tuple(_range_of(values) for values in channels)
            return Stretch(ranges, sample.description, found_values=True)
        if sample.description == "all pixels":
            break
    channel_count = 1 if plan.formula else len(plan.channels)
    return Stretch((ValueRange(0, 1),) * channel_count, "no pixel with a value", found_values=False)


def _collect(
    source: SourceFile,
    plan: ExportPlan,
    sample: Sample,
    *,
    threads: int,
    on_progress: Callable[[float], None],
) -> list[Floats]:
    channels: Values = [[] for _ in range(1 if plan.formula else len(plan.channels))]
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
                found: Values = [[] for _ in channels]
                for part in windows(thinned.planes.shape[1:], _PART_YX):
                    for chunk in reader.chunks(thinned, part):
                        for pieces, values in zip(found, compute(chunk.planes, chunk.valid), strict=True):
                            pieces.append(values[chunk.valid])
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
