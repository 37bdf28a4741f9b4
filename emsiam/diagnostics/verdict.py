"""Numbers to words: is this representation healthy, and if not, what is wrong? No labels are used."""

import math
from typing import NamedTuple

VERDICTS = ("healthy", "dimensional collapse", "complete collapse", "not converging", "diverged")


class Evidence(NamedTuple):
    """What the verdict looks at, on the probe set with batch statistics."""

    z_std_ratio: float
    participation_ratio: float
    between_share: float
    prediction_quality: float
    dim: int
    finite: bool = True  # loss and representation


def verdict(e: Evidence) -> str:
    """One of VERDICTS. First match wins; c = min(4, d/6).

    not finite                    diverged
    z_std_ratio < 0.2             complete collapse
    z_std_ratio < 0.7 and PR < c  dimensional collapse
    ρ_b < 0.3 or q < 0.5          not converging
    PR < c                        dimensional collapse
    else                          healthy

    Known misses: a network without any BN starts at z_std_ratio 0.05 and reads as collapsed; a target that is very
    stale reads as healthy while its participation ratio still falls; data of two classes gives a PR near 4.
    """
    few = e.participation_ratio < min(4, e.dim / 6)
    numbers = (e.z_std_ratio, e.participation_ratio, e.between_share, e.prediction_quality)
    if not (e.finite and all(map(math.isfinite, numbers))):
        return "diverged"
    if e.z_std_ratio < 0.2:
        return "complete collapse"
    if e.z_std_ratio < 0.7 and few:
        return "dimensional collapse"
    if e.between_share < 0.3 or e.prediction_quality < 0.5:
        return "not converging"
    return "dimensional collapse" if few else "healthy"
