"""Point records: conversion from any LAS format to COPC's formats 6, 7 and 8 (LAS 1.4 R15, tables 7 to 17)."""

from __future__ import annotations

import laspy
import numpy as np

from aerotask.derivatives.copc.bounds import Records
from aerotask.domain.errors import InvalidInput

_COPC_FORMATS = {0: 6, 1: 6, 2: 7, 3: 7, 4: 6, 5: 7, 6: 6, 7: 7, 8: 8, 9: 6, 10: 8}
_WITH_WAVEFORMS = frozenset({4, 5, 9, 10})
_LEGACY = range(6)
_SCAN_ANGLE_STEP_DEG = 0.006
_REPACKED = frozenset({"bit_fields", "classification", "classification_flags", "scan_angle"})


def copc_format(source: laspy.PointFormat) -> laspy.PointFormat:
    """Point format of the COPC, including the source's extra dimensions.

    Raises:
        InvalidInput: the format is none of LAS 1.4 (`unsupported-layout`).
    """
    if source.id not in _COPC_FORMATS:
        raise InvalidInput(
            f"The cloud has point format {source.id}, which is none of LAS 1.4 (0 to 10); write it again with one of "
            "them.",
            code="unsupported-layout",
        )
    target = laspy.PointFormat(_COPC_FORMATS[source.id])
    target.dimensions.extend(source.extra_dimensions)
    return target


def has_waveforms(source: laspy.PointFormat) -> bool:
    """Whether points of the format refer to waveforms, for which COPC has no place."""
    return source.id in _WITH_WAVEFORMS


def converted(records: Records, source: laspy.PointFormat, target: laspy.PointFormat) -> Records:
    """The points in the target's format; of the source's attributes only those of waveforms are left out."""
    if source.id == target.id:
        return records
    result = np.zeros(len(records), target.dtype())
    names = records.dtype.names or ()
    for name in result.dtype.names or ():
        if name in names and not (source.id in _LEGACY and name in _REPACKED):
            result[name] = records[name]
    if source.id not in _LEGACY:
        return result
    bits, classes = records["bit_fields"], records["raw_classification"]
    # Return number and count grow to four bits each; direction and edge move to the flags.
    result["bit_fields"] = (bits & 0b111) | ((bits >> 3 & 0b111) << 4)
    result["classification"] = classes & 0b11111
    result["classification_flags"] = (classes >> 5) | (bits & 0b11000000)
    result["scan_angle"] = np.rint(records["scan_angle_rank"] / _SCAN_ANGLE_STEP_DEG).astype(np.int16)
    return result
