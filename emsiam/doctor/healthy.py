"""What do healthy runs look like? Ranges by kind and width; `python -m experiments.doctor` makes them."""

import json
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

ALIKE = 1.5  # times as many images are about as many


class Healthy(NamedTuple):
    """Healthy runs of SimSiam, whose images are kept: the least and the largest of each number, over runs and steps."""

    kind: str  # z, p or features
    width: int
    images: int
    runs: int
    data: tuple[str, ...]
    numbers: dict[str, tuple[float, float]]
    spectrum: dict[int, float]  # position, from 1: eigenvalue of the covariance of unit vectors, geometric mean


@cache
def known() -> tuple[Healthy, ...]:
    """The healthy runs of each kind and width."""
    lines = json.loads(Path(__file__).with_suffix(".json").read_text())
    return tuple(
        Healthy(
            **line
            | {
                "data": tuple(line["data"]),
                "numbers": {name: (low, high) for name, (low, high) in line["numbers"].items()},
                "spectrum": {int(i): value for i, value in line["spectrum"].items()},
            }
        )
        for line in lines
    )


def healthy(kind: str, width: int) -> Healthy | None:
    """The healthy runs whose width is nearest; None for a kind that is not known."""
    alike = [h for h in known() if h.kind == kind]
    return min(alike, key=lambda h: abs(math.log(h.width / width)), default=None)


def span(h: Healthy | None, name: str, images: int) -> tuple[float, float] | None:
    """The range of a number; None where it depends on how many images there are, and they are not as many."""
    if h is None or (name == "effective_rank" and not h.images / ALIKE <= images <= h.images * ALIKE):
        return None
    return h.numbers.get(name)
