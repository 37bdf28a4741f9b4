"""Images are lost at the end of the network first: in z, then in the projector, then in the backbone.

Setting: the moving average's runs of `delay`: digits, m = 0.8, no h, 4,400 steps, 10 seeds, looks every 55 steps.
Outcome: the first time at which the kNN accuracy of an output is 3 points below its own maximum so far; not reached
counts as later. The projector's output before its last layer stands for the projector.
Cells: z is strictly first: passes in 9 of 10 or more, fails in 7 or fewer. The projector is not after the backbone:
passes in 9 or more. The projector comes to it: passes in 5 or more; this is a precondition, which has no p.
Reason: gradient of the loss reaches z first; trials had backbone kNN high long after z had collapsed.
Supported means: what is read at the backbone, as the paper's accuracies are, is the last place where collapse
shows.
Contradicted means: the backbone may lose images before z does, and its accuracy would show collapse in time.
Changes: none since the first run.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .._records import Record
from ._rules import LOST, Cell, counted
from ._runs import Spec
from ._settings import curve
from .delay import BANK
from .delay import wanted as of_delay


def wanted() -> dict[str, list[Spec]]:
    return {BANK: of_delay()[BANK]}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    z, hidden, backbone = ([time(r, output) for r in found[BANK]] for output in ("z", "hidden", "backbone"))
    runs = list(zip(z, hidden, backbone, strict=True))
    medians = ", ".join(
        f"{name} {np.median(times):,.0f}" for name, times in (("z", z), ("projector", hidden), ("backbone", backbone))
    )
    return [
        counted(
            "z strictly first", [a < min(b, c) for a, b, c in runs], passes=9, fails=7, note=f"median steps: {medians}"
        ),
        counted("projector not after backbone", [b <= c for _, b, c in runs], passes=9),
        counted("projector comes to it", [b < math.inf for b in hidden], passes=5)._replace(p=0.0),
    ]


def time(run: Record, output: str) -> float:
    """The step at which an output has lost images, of its own; infinity: never."""
    steps, a = curve(run, f"knn_{output}")
    lost = np.flatnonzero(a < np.maximum.accumulate(a) - LOST)
    return float(steps[lost[0]]) if len(lost) else math.inf
