"""What do so many seeds say? Means with one kind of interval everywhere: 95 %, by the t distribution."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Key = TypeVar("Key")


def mean_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """`mean`, `low`, `high` and `n` of values; no interval, None, for one value and where one is not finite."""
    from scipy import stats

    x = np.asarray(values, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        return {"mean": float(x.mean()), "low": None, "high": None, "n": len(x)}
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return {"mean": float(x.mean()), "low": float(x.mean()) - half, "high": float(x.mean()) + half, "n": len(x)}


def spelled(interval: Mapping[str, Any], digits: int) -> str:
    """What `mean_interval` gives in text: the mean, and the interval where there is one."""
    mean, low, high = (interval[name] for name in ("mean", "low", "high"))
    return f"{mean:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})")


class Difference(NamedTuple):
    """A mean difference of two groups with its 95 % interval, and the smallest that so many seeds could have shown."""

    mean: float
    low: float
    high: float
    p: float
    detectable: float  # with power 0.8 at level 0.05
    paired: bool
    n: int


class Estimate(NamedTuple):
    """A mean with its standard error and degrees of freedom."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        from scipy import stats

        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def p_above(self, margin: float) -> float:
        """One-sided, of the hypothesis that the mean is not above a margin."""
        from scipy import stats

        if not self.error:
            return float(self.mean <= margin)
        return float(stats.t.sf((self.mean - margin) / self.error, self.freedom))


def mean(x: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of two runs or more. Raises ValueError for fewer."""
    y = np.asarray(x, dtype=float)
    if len(y) < 2:
        raise ValueError(f"an interval needs two runs or more, not {len(y)}")
    return Estimate(float(y.mean()), float(y.std(ddof=1) / math.sqrt(len(y))), len(y) - 1)


def welch(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Estimate:
    """mean(a) − mean(b) of groups of two runs or more, whose variances may differ. Source: Welch 1947."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    spread = sum(part**2 / (len(g) - 1) for part, g in zip(parts, (x, y), strict=True))
    freedom = sum(parts) ** 2 / spread if spread else len(x) + len(y) - 2
    return Estimate(float(x.mean() - y.mean()), math.sqrt(sum(parts)), float(freedom))


def difference(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Difference:
    """mean(b) − mean(a) of two groups of runs, with its 95 % interval and two-sided p, by the t test.

    paired: of the differences run by run, a[i] with b[i]; else by Welch's, see `welch`. Where a group has one run there
    is no interval: NaN. Raises ValueError for pairs of groups of different sizes.
    """
    from scipy import stats

    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    moved = float(y.mean() - x.mean())
    if paired and len(x) != len(y):
        raise ValueError(f"pairs need groups of one size, not {len(x)} and {len(y)}")
    n = len(x) if paired else len(x) + len(y)
    if min(len(x), len(y)) < 2:
        return Difference(moved, math.nan, math.nan, math.nan, math.nan, paired, n)
    _, error, freedom = mean(y - x) if paired else welch(x, y)
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = float(2 * stats.t.sf(abs(moved) / error, freedom)) if error else float(moved == 0)
    detectable = (float(stats.t.ppf(0.975, freedom)) + float(stats.t.ppf(0.8, freedom))) * error
    return Difference(moved, moved - half, moved + half, p, detectable, paired, n)


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p values, corrected for their number. Source: Holm 1979."""
    corrected: dict[Key, float] = {}
    so_far = 0.0
    for i, name in enumerate(sorted(p, key=p.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = so_far
    return corrected
