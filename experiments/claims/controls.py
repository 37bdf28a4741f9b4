"""Do the rows of `one_loss` and `consistency` depend on what stands around them? Controls, not a claim.

Setting: digits, 1,320 steps, constant lr, 5 seeds: no BN in the heads; BN on h's output, so that p cannot become
constant (does z lose its images?); no weight decay; squared error; asymmetric loss; Adam; h optimal at each step
(BYOL: 52.5 instead of 72.5); h's learning rate × 10 (BYOL without momentum encoder: 66.5). The h of "h in the η-step"
keeps its own cosine, BN and SGD.
Outcome: A_z of SimSiam less a row's, under the same control; A_p, s and PR are shown. Nothing is predicted.
Changes: none since the first run.
"""

import math
from collections.abc import Mapping, Sequence

from emsiam.diagnostics.statistics import mean, welch

from .._records import Record
from ._rules import FIVE, Cell
from ._runs import Spec
from ._settings import H_IN_ETA, H_TARGET, NO_H, SIMSIAM, Row, last, of_seeds

MIXED = tuple(Row(f"λ = {part}", {"eta": "mixed", "eta_args": f"part={part}"}, "p") for part in (0.5, 0.9))
ALL, WITH_H = (SIMSIAM, NO_H, H_TARGET, H_IN_ETA, *MIXED), (SIMSIAM, H_TARGET, *MIXED)
CONTROLS = {
    "as it is": ({}, "", ALL),
    "no BN in heads": ({"bn": "none"}, "", ALL),
    "BN on h's output": ({"bn": "all"}, "", WITH_H),
    "no weight decay": ({"wd": 0.0}, "", ALL),
    "squared error": ({"similarity": "mse"}, "", ALL),
    "asymmetric": ({"symmetry": "asym"}, "", ALL),
    "Adam": ({}, "Adam", ALL),
    "h optimal": ({"predictor": "linear"}, "h = 1 H*", WITH_H),
    "h's lr × 10": ({}, "h's lr × 10", WITH_H),
}


def wanted() -> dict[str, list[Spec]]:
    return {
        f"{control}: {row.name}": of_seeds({**row.options, **options}, FIVE, change=change, right_every=660)
        for control, (options, change, rows) in CONTROLS.items()
        for row in rows
    }


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    """Numbers, without predictions."""
    cells = []
    for control, (_, _, rows) in CONTROLS.items():
        base = found[f"{control}: {SIMSIAM.name}"]
        for row in rows:
            name, runs = f"{control}: {row.name}", found[f"{control}: {row.name}"]
            if min(len(runs), len(base)) < 2:
                cells.append(Cell(name, math.nan, math.nan, math.nan, "", "", 1.0, note="diverged"))
                continue
            lost = welch(last(base, "knn_z"), last(runs, "knn_z"))
            shown = [mean(last(runs, n)).mean for n in ("knn_z", "knn_p", "std_z", "pr_z", "std_p")]
            note = "A_z {:.3f}, A_p {:.3f}, s of z {:.2f}, PR {:.1f}, s of p {:.2f}".format(*shown)
            cells.append(Cell(name, lost.mean, *lost.interval(), "", "", 1.0, note=note))
    return cells
