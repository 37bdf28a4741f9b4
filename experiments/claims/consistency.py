"""SimSiam bears a target that is half h∘F, and not one that is nine tenths h∘F: η = (1−λ)·F + λ·h∘F.

λ = 0 is SimSiam; at λ = 1 η solves (8) for the loss that is trained (`one_loss`, h∘F as target). Between them this
measures how much of an alternation over one loss SimSiam bears.
Setting: digits, 4,400 steps, constant lr, k = 1, λ = 0, 0.25, 0.5, 0.75, 0.9 and 1, 5 seeds.
Outcome: A_z at the end, SimSiam's less a row's.
Cells: λ = 0.5 passes below 5 points and fails above; λ = 0.9 passes above 5 points and fails below 1.
Reason: trials at 1,320 steps had 0.947 at λ = 0.5 and 0.756 at 0.9, SimSiam 0.98. F and h∘F differ in length, and λ
is a weight before they are made unit vectors: what it weighs by length at the end is shown, with g₁ (over windows
of 100 steps) and PR. In linear theory, for squared error, a mode of between share b of its variance t dies where
(1−λ)²b² < 4·wd·(t−λb) (in units of ½‖·‖²): it is drawn beside.
Supported means: the difference between F and h∘F in the target carries SimSiam: half of it is enough, a tenth is
not.
Contradicted means: SimSiam is more, or less, tolerant of the target's share of h∘F than trials said.
Changes: none since the first run.
"""

import math
from collections.abc import Mapping, Sequence

from emsiam.diagnostics.statistics import Estimate, mean, welch

from .._records import Record
from ._rules import FIVE, Cell, above, below, bootstrap
from ._runs import Spec
from ._settings import DIGITS, H_TARGET, SIMSIAM, last, of_seeds, rights
from .eta_step import taken

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
NEAR, SAME = 0.05, 0.01


def options(part: float) -> dict:
    ends = {0.0: SIMSIAM.options, 1.0: H_TARGET.options}
    return {**DIGITS, **ends.get(part, {"eta": "mixed", "eta_args": f"part={part}"})}


def name(part: float) -> str:
    return f"λ = {part:g}"


def wanted() -> dict[str, list[Spec]]:
    return {name(part): of_seeds(options(part), FIVE, ledger_every=100) for part in LAMBDAS}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    half, most = lost(found, 0.5), lost(found, 0.9)
    shares = ", ".join(f"{part:g}: {mean(taken(found[name(part)])).mean:.2f}" for part in LAMBDAS)
    weights = ", ".join(f"{part:g}: {weight(found[name(part)], part):.2f}" for part in LAMBDAS)
    note = f"g₁ by λ {shares}; weight of h∘F by length at the end {weights}"
    return [
        below(name(0.5), half[0], NEAR, bootstrap=half[1], note=note),
        above(name(0.9), most[0], NEAR, fails=SAME, bootstrap=most[1]),
    ]


def weight(runs: Sequence[Record], part: float) -> float:
    """λ‖p‖ / ((1−λ)‖z‖ + λ‖p‖), of root mean squares."""
    z, p = (math.sqrt(mean(last(runs, f"square_{of}")).mean) for of in ("z", "p"))
    return part * p / ((1 - part) * z + part * p)


def lost(found: Mapping[str, Sequence[Record]], part: float) -> tuple[Estimate, tuple[float, float]]:
    """SimSiam's A_z less that at λ, and its bootstrap."""
    base, runs = found[name(0.0)], found[name(part)]
    of_images = bootstrap(rights(base, "z"), rights(runs, "z"))
    return welch(last(base, "knn_z"), last(runs, "knn_z")), of_images
