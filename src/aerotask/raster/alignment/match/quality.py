"""Quality of a match: reasons to reject it, and its confidence."""

from __future__ import annotations

import math

from aerotask.raster.alignment.match.matching import Match

MIN_SHARPNESS = 14.0
"""Minimum sharpness: correct matches have 100 and more, wrong ones and noise at most 7."""
MAX_RIVAL = 0.5
"""Maximum peak of the next best shift, as a share of the best: below 0.02 in real images, 0.8 in regular patterns."""
MIN_INLIERS = 8
MIN_INLIER_RATIO = 0.25
MAX_RMSE_PX = 1.5
MIN_CORRELATION = 0.15
"""Minimum correlation of the edges over the whole overlap; unrelated images have at most 0.05."""
SCALES = (0.5, 2.0)

_GOOD_SHARPNESS, _GOOD_INLIERS, _GOOD_RATIO, _GOOD_CORRELATION = 100.0, 40, 0.6, 0.5


def reasons_to_reject(match: Match) -> tuple[str, ...]:
    """All reasons to reject the match, with their figures; none if it is reliable."""
    checks = (
        (
            match.estimate.sharpness < MIN_SHARPNESS,
            f"the peak's sharpness is {match.estimate.sharpness:.1f} (at least {MIN_SHARPNESS:g})",
        ),
        (
            match.estimate.rival > MAX_RIVAL,
            f"another position fits {match.estimate.rival:.0%} as well (at most {MAX_RIVAL:.0%}): the pattern repeats",
        ),
        (match.inliers < MIN_INLIERS, f"{match.inliers} patches agree (at least {MIN_INLIERS})"),
        (
            match.inlier_ratio < MIN_INLIER_RATIO,
            f"{match.inlier_ratio:.0%} of {match.patches} patches agree (at least {MIN_INLIER_RATIO:.0%})",
        ),
        (
            math.isfinite(match.rmse_px) and match.rmse_px > MAX_RMSE_PX,
            f"their RMSE is {match.rmse_px:.2f} px (at most {MAX_RMSE_PX:g})",
        ),
        (
            match.correlation < MIN_CORRELATION,
            f"the edges' correlation is {match.correlation:.2f} (at least {MIN_CORRELATION:g})",
        ),
        (
            not SCALES[0] <= match.transform.scale <= SCALES[1],
            f"the scale would be {match.transform.scale:.3f} ({SCALES[0]:g} to {SCALES[1]:g} are plausible)",
        ),
    )
    return tuple(text for failed, text in checks if failed)


def confidence(match: Match) -> float:
    """The confidence from 0 to 1, relative to a good match.

    The product of sharpness, number and share of agreeing patches, their error and the correlation.
    """
    parts = (
        match.estimate.sharpness / _GOOD_SHARPNESS,
        match.inliers / _GOOD_INLIERS,
        match.inlier_ratio / _GOOD_RATIO,
        1 - match.rmse_px / (2 * MAX_RMSE_PX) if math.isfinite(match.rmse_px) else 0.0,
        match.correlation / _GOOD_CORRELATION,
    )
    return math.prod(min(max(part, 0.0), 1.0) for part in parts)
