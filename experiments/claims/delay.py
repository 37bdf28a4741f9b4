"""The moving average delays the loss of images: it does not prevent it.

Paper: m = 0.8 without h has 55.0 after 100 epochs, 25 mean lags of η (12.5 in units of Σlr, with cosine).
Why it can fail: if averages take the place of h, images are kept at any length.
Setting: digits, constant lr, m = 0.8: mean lag 44 steps; 25 lags are 1,100 steps, 100 are 4,400; 10 seeds.
Outcome: A_z at 100 lags less A_z at 25, less the same of SimSiam.
Margins: passes below −3 points, fails above −1.
Supported means: §5.2's moving average puts off the loss of images here, so that its 55.0 may be of a run that was
under way.
Contradicted means: a moving average can stand in for h at this length of training.
Changes: none since the first run.
"""

from collections.abc import Mapping, Sequence

from emsiam.diagnostics.statistics import welch

from .._records import Record
from ._rules import LOST, POINT, SEEDS, Cell, below
from ._runs import Spec
from ._settings import DIGITS, SIMSIAM, at, of_seeds

EARLY, LATE = 1100, 4400  # steps: 25 and 100 lags
BANK = "moving average"


def wanted() -> dict[str, list[Spec]]:
    bank = {**DIGITS, "mode": "ema_eta", "m": 0.8}
    return {
        SIMSIAM.name: of_seeds(DIGITS, SEEDS, ledger_every=100),
        BANK: of_seeds(bank, SEEDS, right_every=55),
    }


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    bank, simsiam = (change(found[name]) for name in (BANK, SIMSIAM.name))
    means = " to ".join(f"{sum(x) / len(x):.3f}" for x in (at(found[BANK], "knn_z", s) for s in (EARLY, LATE)))
    return [below("change of A_z", welch(bank, simsiam), -LOST, fails=-POINT, note=f"A_z {means}")]


def change(runs: Sequence[Record]) -> list[float]:
    early, late = (at(runs, "knn_z", step) for step in (EARLY, LATE))
    return [b - a for a, b in zip(early, late, strict=True)]
