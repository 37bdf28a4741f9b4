"""How do two runs move, and where do they part? Snapshots and curves of runs in, numbers out.

A snapshot is z [N, d] of the same N images; runs may differ in d. A path is {step: snapshot}, as `Run.snapshots()`.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import Tensor

Array = NDArray[np.floating]
Path = Mapping[int, Array]


def _centred(z: Array) -> Array:
    x = np.asarray(z, dtype=np.float64)
    return x - x.mean(0)


def unit(z: Array) -> Array:
    """ẑ."""
    x = np.asarray(z, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)


def gram(z: Array) -> Array:
    """Centred Gram matrix [N, N] of length 1: the point that a representation is, whatever its basis and scale.

    The inner product of two of them is their linear CKA. A constant gives 0.
    """
    x = _centred(z)
    x = x / (np.abs(x).max() or 1.0)
    k = x @ x.T
    length = np.linalg.norm(k)
    return k / length if length > 1e-300 else k * 0


def linear_cka(x: Array, y: Array) -> float:
    """Linear CKA ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖) of x [N, d₁] and y [N, d₂], centred (Kornblith et al. 2019).

    1: equal up to rotation and scale; 0 for a constant. For N ≪ d unrelated representations score high too: look at
    the band of other seeds beside it.
    """
    x, y = (c / (np.abs(c).max() or 1.0) for c in (_centred(x), _centred(y)))
    if len(x) < max(x.shape[1], y.shape[1]):
        a, b = x @ x.T, y @ y.T
        cross, own = (a * b).sum(), np.linalg.norm(a) * np.linalg.norm(b)
    else:
        cross, own = np.linalg.norm(y.T @ x) ** 2, np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(cross / own) if own > 1e-300 else 0.0


def procrustes(x: Array, y: Array) -> float:
    """min over rotations R of ‖X − YR‖², both centred and of length 1: 2 − 2‖XᵀY‖_*, from 0 to 2 (Ding et al. 2021).

    Widths may differ (the smaller is padded with zeros). A constant is at distance 1 from all else, 0 from another.
    """
    x, y = _centred(x), _centred(y)
    lengths = np.linalg.norm(x), np.linalg.norm(y)
    x, y = (v / n if n > 1e-150 else v * 0 for v, n in zip((x, y), lengths, strict=True))
    nuclear = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    return float(max(0.0, (x**2).sum() + (y**2).sum() - 2 * nuclear))


def along(a: Path, b: Path, measure=linear_cka) -> dict[int, float]:
    """A measure of two paths at the steps that both have. Empty where they share none, or show other images."""
    steps = sorted(set(a) & set(b))
    return {step: measure(a[step], b[step]) for step in steps if len(a[step]) == len(b[step])}


def to_start_and_end(path: Path) -> dict[int, tuple[float, float]]:
    """Linear CKA of each snapshot with the path's first and last: {step: (start, end)}."""
    steps = sorted(path)
    return {s: (linear_cka(path[s], path[steps[0]]), linear_cka(path[s], path[steps[-1]])) for s in steps}


def parting(cka: Mapping[int, float], tolerance: float = 0.05) -> int | None:
    """The first step from which two runs stay more than `tolerance` in CKA apart; None where they do not."""
    parted = None
    for step in sorted(cka):
        if cka[step] >= 1 - tolerance:
            parted = None
        elif parted is None:
            parted = step
    return parted


def turning(path: Path) -> dict[int, float]:
    """Angle in degrees between successive moves of a path, at the point between: 0 straight on, 90 a random walk's.

    Points are ẑ or weights of one run: all in one basis. A move of length 0 is passed over.
    """
    steps = sorted(path)
    points = [np.asarray(path[s], dtype=np.float64) for s in steps]
    moves = [(b - a).ravel() for a, b in itertools.pairwise(points)]
    return {
        step: angle(a, b)
        for step, a, b in zip(steps[1:], moves, moves[1:], strict=False)
        if np.linalg.norm(a) * np.linalg.norm(b) > 0
    }


def angle(a: Array, b: Array) -> float:
    """Angle in degrees between two updates of one shape, 0 to 180. NaN where one has length 0.

    By half-angles (Kahan): an arc cosine would round equal updates to 1e-6 degrees on some processors.
    """
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if 0 in lengths:
        return math.nan
    u, v = np.asarray(a) / lengths[0], np.asarray(b) / lengths[1]
    return math.degrees(2 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))


def cloud(path: Path, at: Sequence[int], like: Array | None = None) -> dict[int, Array]:
    """ẑ of a path seen in three dimensions: {step of `at`: [N, 3]} in the unit ball, from one side throughout.

    The axes are those that hold most of ẑ at the first, the middle and the last of these steps together, from the
    origin: a constant is a point near the sphere. like: [N, 3], the same images in another cloud; the axes are then
    turned (and mirrored) so that the last points lie nearest to it.
    """
    seen = {step: unit(path[step]) for step in at}
    few = np.concatenate([seen[at[i]] for i in sorted({0, len(at) // 2, len(at) - 1})])
    axes = np.linalg.svd(few, full_matrices=False)[2][:3].T
    axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
    if like is not None:
        u, _, v = np.linalg.svd((seen[at[-1]] @ axes).T @ like)
        axes = axes @ u @ v
    return {step: z @ axes for step, z in seen.items()}


SKETCH = 4096


def sketch(weights: Iterable[Tensor], size: int = SKETCH) -> Tensor:
    """θ [p₁], [p₂], … as `size` numbers, float32: each weight, with a fixed random sign, in one of as many sums.

    Linear, and inner products are kept on average, with a standard deviation of √(2/size)·‖a‖‖b‖ at most: distances and
    angles of paths through θ without the space that θ takes. Comparable between networks of one form. Count sketch:
    Charikar et al. 2002, Weinberger et al. 2009.
    """
    rng = torch.Generator().manual_seed(0)
    sums = torch.zeros(2 * size, dtype=torch.float64)  # of those with sign + and with sign −
    for w in weights:
        places = torch.randint(2 * size, (w.numel(),), generator=rng)
        sums += torch.bincount(places, w.detach().flatten().double().cpu(), 2 * size)
    return (sums[:size] - sums[size:]).float()


class Onset(NamedTuple):
    """When a run collapsed: at a logged step, after so much learning rate and so many alternations."""

    step: int
    sum_lr: float
    alternations: int


def onset(steps: Sequence[int], values: Sequence[float], below: float, lr: Sequence[float], k: int = 1) -> Onset | None:
    """The first logged step from which values stay below a bound to the end; None where they do not.

    lr: at each logged step; Σlr by the trapezoid rule. Steps and alternations of a run that starts below it are 0.
    """
    where = len(steps)
    while where and values[where - 1] < below:
        where -= 1
    if where == len(steps):
        return None
    total = float(trapezoid(lr[: where + 1], steps[: where + 1])) if where else 0.0
    return Onset(int(steps[where]), total, int(steps[where]) // k)


class Plane(NamedTuple):
    """Paths in their common plane of largest variance."""

    paths: list[Array]  # [snapshots, 2] for each run
    explained: tuple[float, float]  # share of the variance that each axis holds


def plane(paths: Sequence[Sequence[Array]]) -> Plane:
    """Principal plane of all points of all paths; a point is any array, of one size: a `gram`, or weights."""
    points = np.stack([np.ravel(p) for path in paths for p in path]).astype(np.float64)
    points -= points.mean(0)
    values, vectors = np.linalg.eigh(points @ points.T)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    flat = np.zeros((len(points), 2))
    held = min(2, len(values))
    flat[:, :held] = vectors[:, :held] * np.sqrt(values[:held])
    ends = np.cumsum([len(path) for path in paths])[:-1]
    share = values / max(values.sum(), 1e-300)
    return Plane(np.split(flat, ends), (float(share[0]), float(share[1]) if len(share) > 1 else 0.0))


def random_walk(points: int, size: int, seed: int = 0) -> Array:
    """A walk [points, size] of independent Gaussian steps, the null of a plane: PCA draws it as a smooth curve too.

    Its first two axes hold 6/π² = 61 % and 15 % of the variance in high dimension (Antognini & Sohl-Dickstein 2018).
    """
    return np.random.default_rng(seed).standard_normal((points, size)).cumsum(0)
