"""What was looked at, and which of its numbers are shown?"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..diagnostics.verdict import Judgement, Number, Seen
from .healthy import healthy, span

SHOWN = {  # number: how it is called, and what it is
    "residual_norm": ("spread", "how much of unit vectors differs between images: 0 for a constant, at most 1"),
    "directions": ("directions", "how many carry the variance: the participation ratio of very many such images"),
    "effective_rank": ("effective rank", "RankMe of unit vectors, highest before training"),
    "view_auc": ("found again", "how often an image's other view is nearer to it than another image; 0.5 is chance"),
}

# {what decided, as a judgement names it: how it is called in print}
DECISIVE = {"z_residual_norm": "the spread of z", "p_residual_norm": "the spread of p"}
DECISIVE |= {"directions": "directions", "view_auc": "“found again”"}


class Output(NamedTuple):
    """What was looked at: z, p, or features."""

    name: str
    images: int
    width: int
    views: int
    numbers: dict[str, float]  # of `diagnostics.collapse`, by name
    seen: Seen  # of these the verdict
    spectrum: tuple[float, ...]  # eigenvalues of the covariance of unit vectors, descending


class Shown(NamedTuple):
    """What pictures are drawn of."""

    z: Tensor  # [n, N, d], of the first output
    images: Tensor | None = None  # [N, C, H, W], uint8


def decided(j: Judgement) -> str:
    """Which number decided, its value, the bound, and where that is from: a sentence, or nothing."""
    called = DECISIVE.get(j.number)
    value, bound = (written(x, min(abs(j.value), abs(j.bound))) for x in (j.value, j.bound))
    return f"Decided by {called}: {value}, the bound is {bound} ({j.source})." if called else ""


def rows(o: Output) -> list[list[str]]:
    """A head, and each number as it is called, with its interval and the range of healthy runs."""
    like = healthy(o.name, o.width)
    found = [
        [f"{o.name}, {o.images:,} images, {o.width:,} channel{'s' * (o.width > 1)}", "", "healthy runs" if like else ""]
    ]
    for name, (called, _) in SHOWN.items():
        if cell := spelled(o, name):
            ends = span(like, name, o.images)
            found.append([called, cell, f"{written(ends[0])} to {written(ends[1])}" if ends else ""])
    return found


def meanings(outputs: Sequence[Output]) -> list[str]:
    """What each of them is, and which runs are the healthy ones."""
    numbers = {name for o in outputs for name in o.numbers}
    said = [f"{called} is {meaning}." for name, (called, meaning) in SHOWN.items() if name in numbers]
    found: dict[str, list[str]] = {}
    for o in outputs:
        if h := healthy(o.name, o.width):
            runs = f"{h.runs} SimSiam runs on {', '.join(h.data)}, of {h.images} images and {h.width:,} channels"
            found.setdefault(runs, []).append(o.name)
    return said + [f"Healthy runs of {', '.join(names)}: {runs}." for runs, names in found.items()]


def plain(o: Output) -> dict[str, Any]:
    """An output in plain values."""
    numbers = {name: value if math.isfinite(value) else None for name, value in o.numbers.items()}  # which JSON lacks
    ends = {name: [x.low, x.high] for name, x in intervals(o).items()}
    plain = {"name": o.name, "images": o.images, "width": o.width, "views": o.views, "numbers": numbers}
    return plain | {"intervals": ends, "spectrum": list(o.spectrum)}


def intervals(o: Output) -> dict[str, Number]:
    """The numbers that a verdict looks at, as they are called in `SHOWN`."""
    found = {"residual_norm": o.seen.spread, "directions": o.seen.directions}
    return found | ({"view_auc": o.seen.found} if o.seen.found else {})


def spelled(o: Output, name: str) -> str:
    """A number and its interval; nothing where it is not there."""
    x = o.numbers.get(name)
    if x is None or not math.isfinite(x):
        return ""
    ends = intervals(o).get(name)
    return written(x) + (f" ({written(ends.low, x)} to {written(ends.high, x)})" if ends else "")


def written(x: float, like: float | None = None) -> str:
    """With as many digits as its size asks for, or that of another number."""
    size = abs(x if like is None else like)
    return f"{x:.{0 if size >= 100 else 1 if size >= 2 else 2}f}"
