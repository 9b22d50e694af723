"""Points of any LAS format as points of the formats that COPC has: 6, 7 and 8 (LAS 1.4 R15, tables 7 to 17)."""

from __future__ import annotations

import laspy
import numpy as np

from aerotask.derivatives.copc.bounds import Records
from aerotask.domain.errors import InvalidInput

_COPC_FORMATS = {0: 6, 1: 6, 2: 7, 3: 7, 6: 6, 7: 7, 8: 8}
_LEGACY = range(6)
_SCAN_ANGLE_STEP_DEG = 0.006
_REPACKED = frozenset({"bit_fields", "classification", "classification_flags", "scan_angle"})


def copc_format(source: laspy.PointFormat) -> laspy.PointFormat:
    """The point format, extra dimensions included, in which points of the source's format are kept.

    Raises:
        InvalidInput: they carry waveforms, which COPC has no place for (`unsupported-layout`).
    """
    if source.id not in _COPC_FORMATS:
        raise InvalidInput(
            f"The cloud's points are of format {source.id}, with waveforms, which COPC has no place for; "
            "export it without them (las2las, 'pdal translate').",
            code="unsupported-layout",
        )
    target = laspy.PointFormat(_COPC_FORMATS[source.id])
    target.dimensions.extend(source.extra_dimensions)
    return target


def converted(records: Records, source: laspy.PointFormat, target: laspy.PointFormat) -> Records:
    """The points in the target's format; nothing that the source's format says is lost."""
    if source.id == target.id:
        return records
    made = np.zeros(len(records), target.dtype())
    names = records.dtype.names or ()
    for name in made.dtype.names or ():
        if name in names and not (source.id in _LEGACY and name in _REPACKED):
            made[name] = records[name]
    bits, classes = records["bit_fields"], records["raw_classification"]
    # Return number and count get four bits each, direction and edge move to the flags.
    made["bit_fields"] = (bits & 0b111) | ((bits >> 3 & 0b111) << 4)
    made["classification"] = classes & 0b11111
    made["classification_flags"] = (classes >> 5) | (bits & 0b11000000)
    made["scan_angle"] = np.rint(records["scan_angle_rank"] / _SCAN_ANGLE_STEP_DEG).astype(np.int16)
    return made
