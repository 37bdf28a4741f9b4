"""What was looked at, and which of its numbers are shown?"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..diagnostics.verdict import Number, Seen

SHOWN = {  # number: how it is called, and what it is
    "residual_norm": ("spread", "the length of what differs between images, of unit vectors: 0 for a constant"),
    "directions": ("directions", "how many carry the variance: the participation ratio of very many such images"),
    "effective_rank": ("effective rank", "RankMe of unit vectors, highest before training"),
    "view_auc": ("found again", "how often an image's other view is nearer to it than another image; 0.5 is chance"),
}


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


def rows(outputs: Sequence[Output]) -> list[list[str]]:
    """The four numbers, a column an output. Nothing where nothing could be looked at."""
    if not outputs:
        return []
    found = [["", *(f"{o.name} ({o.images:,} × {o.width:,})" for o in outputs)]]
    for name, (called, _) in SHOWN.items():
        cells = [spelled(o, name) for o in outputs]
        if any(cells):
            found.append([called, *cells])
    return found


def meanings(outputs: Sequence[Output]) -> list[str]:
    """What each of them is."""
    known = {name for o in outputs for name in o.numbers}
    return [f"{called} is {meaning}." for name, (called, meaning) in SHOWN.items() if name in known]


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
    digits = 1 if abs(x) >= 2 else 2
    span = intervals(o).get(name)
    return f"{x:.{digits}f}" + (f" ({span.low:.{digits}f} to {span.high:.{digits}f})" if span else "")
