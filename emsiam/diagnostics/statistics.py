"""What do so many seeds say? Means with one kind of interval everywhere: 95 %, by the t distribution."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

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


class Difference(NamedTuple):
    """A mean difference of two groups with its 95 % interval, and the smallest that so many seeds could have shown."""

    mean: float
    low: float
    high: float
    p: float
    detectable: float  # with power 0.8 at level 0.05
    paired: bool
    n: int


def difference(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Difference:
    """b − a, by the t test (paired: of the differences run by run). One run a group gives no interval: NaN."""
    from scipy import stats

    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    mean = float(y.mean() - x.mean())
    if paired and len(x) != len(y):
        raise ValueError(f"pairs need groups of one size, not {len(x)} and {len(y)}")
    n = len(x) if paired else len(x) + len(y)
    if min(len(x), len(y)) < 2:
        return Difference(mean, math.nan, math.nan, math.nan, math.nan, paired, n)
    if paired:
        freedom, error = len(x) - 1, float((y - x).std(ddof=1) / math.sqrt(len(x)))
    else:  # Welch
        parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
        error = math.sqrt(sum(parts))
        spread = sum(part**2 / (len(g) - 1) for part, g in zip(parts, (x, y), strict=True))
        freedom = sum(parts) ** 2 / spread if spread else len(x) + len(y) - 2
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    detectable = (float(stats.t.ppf(0.975, freedom)) + float(stats.t.ppf(0.8, freedom))) * error
    return Difference(mean, mean - half, mean + half, p, detectable, paired, n)


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p values, corrected for their number. Source: Holm 1979."""
    corrected: dict[Key, float] = {}
    so_far = 0.0
    for i, name in enumerate(sorted(p, key=p.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = so_far
    return corrected
