"""Which bounds would other data sets have chosen?"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emsiam.diagnostics.verdict import BOUNDS, Bounds, Judgement, judge

from .judge import Row, says_ill, says_lost

DIRECTIONS, ENOUGH = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0), (0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


class Shares(NamedTuple):
    """How many looks at some data sets the verdict speaks against, as shares."""

    lost: float  # that say so, of those whose images are lost
    kept: float  # that say lost, of those whose images are kept
    will: float  # that are not healthy, of those that will lose images
    not_will: float  # that are not healthy, of those that will not

    @property
    def score(self) -> float:
        """The larger the better. What no look is of counts nothing."""
        lost, kept, will, not_will = (0.0 if math.isnan(x) else x for x in self)
        return lost - kept + will - not_will


def shares(found: Sequence[Row], bounds: Bounds) -> Shares:
    """With other bounds. NaN where no look is of a kind."""
    said = [(row, judge(row.evidence, bounds)) for row in found]

    def says_so(j: Judgement) -> bool:
        return says_lost(j) is True

    def share(truth: str, state: bool, against: Callable[[Judgement], bool]) -> float:
        of = [against(j) for row, j in said if getattr(row, truth) is state]
        return sum(of) / len(of) if of else math.nan

    lost, will = ([share(t, s, f) for s in (True, False)] for t, f in (("lost", says_so), ("will_lose", says_ill)))
    return Shares(*lost, *will)


def chosen(found: Sequence[Row]) -> Bounds:
    """The bounds with the best score; of equal ones the nearest to the rule's."""
    grid = [Bounds(directions, enough) for directions in DIRECTIONS for enough in ENOUGH]
    near = sorted(grid, key=lambda b: sum(abs(x - y) / y for x, y in zip(b, BOUNDS, strict=True)))
    return max(near, key=lambda bounds: round(shares(found, bounds).score, 9))
