"""Point records: conversion from any LAS format to COPC's formats 6, 7 and 8 (LAS 1.4 R15, tables 7 to 17)."""

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
    """Point format of the COPC, including the source's extra dimensions.

    Raises:
        InvalidInput: the source has waveforms, which COPC doesn't support (`unsupported-layout`).
    """
    if source.id not in _COPC_FORMATS:
        raise InvalidInput(
            f"The cloud has point format {source.id}, with waveforms, which COPC doesn't support; "
            "export it without them (las2las, 'pdal translate').",
            code="unsupported-layout",
        )
    target = laspy.PointFormat(_COPC_FORMATS[source.id])
    target.dimensions.extend(source.extra_dimensions)
    return target


def converted(records: Records, source: laspy.PointFormat, target: laspy.PointFormat) -> Records:
    """The points in the target's format; no attribute of the source is lost."""
    if source.id == target.id:
        return records
    result = np.zeros(len(records), target.dtype())
    names = records.dtype.names or ()
    for name in result.dtype.names or ():
        if name in names and not (source.id in _LEGACY and name in _REPACKED):
            result[name] = records[name]
    bits, classes = records["bit_fields"], records["raw_classification"]
    # Return number and count grow to four bits each; direction and edge move to the flags.
    result["bit_fields"] = (bits & 0b111) | ((bits >> 3 & 0b111) << 4)
    result["classification"] = classes & 0b11111
    result["classification_flags"] = (classes >> 5) | (bits & 0b11000000)
    result["scan_angle"] = np.rint(records["scan_angle_rank"] / _SCAN_ANGLE_STEP_DEG).astype(np.int16)
    return result
