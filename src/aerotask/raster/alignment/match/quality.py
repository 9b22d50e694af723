"""Whether a match can be trusted, and how much."""

from __future__ import annotations

import math

from aerotask.raster.alignment.match.matching import Match

MIN_SHARPNESS = 14.0
"""Matches have peaks of 100 and more, wrong ones and noise at most 7."""
MAX_RIVAL = 0.5
"""The peak of the next best shift, as a part of the best one's: below 0.02 in real pictures, 0.8 in regular patterns."""
MIN_INLIERS = 8
MIN_INLIER_RATIO = 0.25
MAX_RMSE_PX = 1.5
MIN_CORRELATION = 0.15
"""Of the edges, over the whole overlap; unrelated pictures have 0.05 at most."""
SCALES = (0.5, 2.0)

_GOOD_SHARPNESS, _GOOD_INLIERS, _GOOD_RATIO, _GOOD_CORRELATION = 100.0, 40, 0.6, 0.5


def doubts(match: Match) -> tuple[str, ...]:
    """Everything that speaks against the match, with its figures; nothing if it can be trusted."""
    checks = (
        (
            match.seed.sharpness < MIN_SHARPNESS,
            f"the peak's sharpness is {match.seed.sharpness:.1f} (of {MIN_SHARPNESS:g})",
        ),
        (
            match.seed.rival > MAX_RIVAL,
            f"another place fits {match.seed.rival:.0%} as well (of {MAX_RIVAL:.0%}): the pattern repeats itself",
        ),
        (match.inliers < MIN_INLIERS, f"{match.inliers} patches agree (of {MIN_INLIERS})"),
        (
            match.inlier_ratio < MIN_INLIER_RATIO,
            f"{match.inlier_ratio:.0%} of {match.patches} patches agree (of {MIN_INLIER_RATIO:.0%})",
        ),
        (
            math.isfinite(match.rmse_px) and match.rmse_px > MAX_RMSE_PX,
            f"they agree within {match.rmse_px:.2f} px (of {MAX_RMSE_PX:g})",
        ),
        (
            match.correlation < MIN_CORRELATION,
            f"the edges' correlation is {match.correlation:.2f} (of {MIN_CORRELATION:g})",
        ),
        (
            not SCALES[0] <= match.transform.scale <= SCALES[1],
            f"the scale would be {match.transform.scale:.3f} ({SCALES[0]:g} to {SCALES[1]:g} are believed)",
        ),
    )
    return tuple(text for failed, text in checks if failed)


def confidence(match: Match) -> float:
    """How much of what a good match has this one has, from 0 to 1.

    The product of sharpness, number and share of agreeing patches, their error and the correlation.
    """
    parts = (
        match.seed.sharpness / _GOOD_SHARPNESS,
        match.inliers / _GOOD_INLIERS,
        match.inlier_ratio / _GOOD_RATIO,
        1 - match.rmse_px / (2 * MAX_RMSE_PX) if math.isfinite(match.rmse_px) else 0.0,
        match.correlation / _GOOD_CORRELATION,
    )
    return math.prod(min(max(part, 0.0), 1.0) for part in parts)
