"""SimSiam bears half of its target from the trained loss, and not nine tenths: η = (1−λ)·F + λ·h∘F.

λ = 0 is SimSiam; at λ = 1 η solves (8) for the loss that is trained (`one_loss`, h∘F as target). Between them this
measures how much of an alternation over one loss SimSiam bears.
Setting: digits, 4,400 steps, constant lr, k = 1, λ = 0, 0.25, 0.5, 0.75, 0.9 and 1, 5 seeds.
Outcome: A_z at the end, SimSiam's less a row's.
Cells: λ = 0.5 passes below 5 points and fails above; λ = 0.9 passes above 5 points and fails below 1.
Reason: trials at 1,320 steps had 0.947 at λ = 0.5 and 0.756 at 0.9, SimSiam 0.98. In linear theory a mode of
between share b of its variance t dies where (1−λ)²b² < 4·wd·(t−λb): it is drawn beside, with g₁ and PR.
Supported means: the difference between F and h∘F in the target carries SimSiam: half of it is enough, a tenth is
not.
Contradicted means: SimSiam is more, or less, tolerant of the target's share of h∘F than trials said.
Changes: none.
"""

from collections.abc import Mapping, Sequence

from .._records import Record
from ._rules import FIVE, Cell, Estimate, above, below, bootstrap, difference
from ._runs import Spec
from ._settings import DIGITS, H_TARGET, SIMSIAM, last, of_seeds, rights

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
    return [
        below(name(0.5), half[0], NEAR, bootstrap=half[1]),
        above(name(0.9), most[0], NEAR, fails=SAME, bootstrap=most[1]),
    ]


def lost(found: Mapping[str, Sequence[Record]], part: float) -> tuple[Estimate, tuple[float, float]]:
    """SimSiam's A_z less that at λ, and its bootstrap."""
    base, runs = found[name(0.0)], found[name(part)]
    of_images = bootstrap(rights(base, "z"), rights(runs, "z"))
    return difference(last(base, "knn_z"), last(runs, "knn_z")), of_images
