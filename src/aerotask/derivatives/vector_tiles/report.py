"""Report of the features that the tiles lack or show otherwise than the file has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from aerotask.derivatives.vector_tiles.geometries import Undrawable
from aerotask.derivatives.vector_tiles.staging import FIRST_IDS, FeatureTally, StagedLayer
from aerotask.domain.errors import AerotaskError, InvalidInput
from aerotask.domain.paths import shown

_NOT_PLACED = frozenset({Undrawable.NOT_DEGREES, Undrawable.OUTSIDE_CRS})


def layer_warnings(staged: StagedLayer, lost: Sequence[int]) -> list[str]:
    """Warnings about one layer; `lost` are the ids of features that GDAL left out of the tiles."""
    found = [
        f"{_some(tally, staged)} left out of the tiles: {fault}."
        for fault, tally in sorted(staged.undrawable.items())
    ]
    if lost:
        tally = FeatureTally(len(lost), list(lost[:FIRST_IDS]))
        found.append(
            f"{_some(tally, staged)} left out of the tiles: too small even for the most detailed zoom, or too many in one "
            "place. The GeoPackage has all."
        )
    if staged.repaired.count:
        found.append(
            f"{_some(staged.repaired, staged)} repaired for the tiles: rings that cross themselves, are not closed or "
            "are doubled. The GeoPackage has them as they are."
        )
    if staged.renamed is not None:
        found.append(
            f"Layer {shown(staged.layer.name)}: in the tiles, the attribute {shown(staged.renamed)} has a number added to "
            "its name, since the name is taken by the ids."
        )
    return found


def why_nothing(staged: Iterable[StagedLayer]) -> AerotaskError:
    """Refusal of a file none of whose features can be drawn, by the most frequent fault."""
    counts: Counter[Undrawable] = Counter()
    for layer in staged:
        counts.update({fault: tally.count for fault, tally in layer.undrawable.items()})
    faults = ", ".join(f"{fault} ({count:,})" for fault, count in counts.most_common())
    if counts.most_common(1)[0][0] in _NOT_PLACED:
        return InvalidInput(
            f"No feature can be shown on a map: {faults}. Check the coordinate system of the file, or transform it to "
            "WGS 84 (EPSG:4326).",
            code="not-georeferenced",
        )
    return InvalidInput(f"No feature can be shown on a map: {faults}.", code="nothing-to-show")


def _some(tally: FeatureTally, staged: StagedLayer) -> str:
    """The layer, and its number of features with the first ids."""
    more = ", …" if tally.count > len(tally.first_ids) else ""
    ids = ", ".join(map(str, tally.first_ids))
    return (
        f"Layer {shown(staged.layer.name)}: {tally.count:,} of {staged.layer.features:,} features "
        f"({'id' if tally.count == 1 else 'ids'} {ids}{more})"
    )
