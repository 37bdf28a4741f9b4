"""h sits at an edge: with h = c·H* what z holds grows for c below 1, and shrinks for c above 1.

H* = Σ_b Σ_t⁻¹ is the best linear h. In linear theory (`emsiam.linear_theory`) the force on W Wᵀ is c(1−c) times
something positive: zero at H*, without weight decay. So a network whose h follows H* closely is at the edge of
collapse.
Setting: digits, squared error, no BN on the outputs, no weight decay, constant lr, h = c·H* solved at each step
from averages over recent batches, 165 steps, 5 seeds. A trial at c = 0.9 grew ever faster and diverged at step 240.
Outcome: log of E‖z‖² at the end over that at step 40, from which on the averages hold.
Cells: c = 0.9 passes above 0, fails below; c = 1.1 passes below 0, fails above.
Beside them: c = 1; and under the cosine, where a factor changes nothing, h = H*^α for α = 0.5, 1, 2 (0 is the
identity), 1,320 steps.
Supported means: with a linear h the optimum is an edge: what keeps z is an h that is a little too small.
Contradicted means: the linear theory of H* does not carry over to this network.
Changes: none since the first run.
"""

import math
from collections.abc import Mapping, Sequence

from emsiam.diagnostics.statistics import mean

from .._records import Record
from ._rules import FIVE, Cell, above, below
from ._runs import Spec
from ._settings import at, last, of_seeds

LINEAR = {"predictor": "linear"}
FREE = {**LINEAR, "similarity": "mse", "bn": "hidden", "wd": 0.0, "epochs": 15}
FROM, TO = 40, 165
FACTORS, POWERS = ("0.9", "1", "1.1"), ("0.5", "1", "2")


def wanted() -> dict[str, list[Spec]]:
    factors = {f"h = {c} H*": of_seeds(FREE, FIVE, spread_every=20, change=f"h = {c} H*") for c in FACTORS}
    return factors | {f"h = H*^{a}": of_seeds(LINEAR, FIVE, change=f"h = H*^{a}") for a in POWERS}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    grown = {c: mean(growth(found[f"h = {c} H*"])) for c in FACTORS}
    low, high = grown["1"].interval()
    cosine = ", ".join(
        f"H*^{a} A_z {mean(last(runs, 'knn_z')).mean:.3f} PR {mean(last(runs, 'pr_z')).mean:.1f}"
        for a in POWERS
        for runs in [found[f"h = H*^{a}"]]
    )
    note = f"c = 1: {grown['1'].mean:+.3f} ({low:+.3f} to {high:+.3f}); cosine: {cosine}"
    return [above("growth at c = 0.9", grown["0.9"], 0.0, note=note), below("growth at c = 1.1", grown["1.1"], 0.0)]


def growth(runs: Sequence[Record]) -> list[float]:
    start, end = (at(runs, "square_z", step) for step in (FROM, TO))
    return [math.log(b / a) for a, b in zip(start, end, strict=True)]
