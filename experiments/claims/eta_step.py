"""SimSiam's η-step takes none of the descent of the loss that is trained.

Why it can fail: if SimSiam were an alternation over one loss, η ← E_T[F] would lower that loss. With h the trained
loss is E‖h∘F − η‖², whose best η is E_T[h∘F]. §5.1 says that the hypothesis does not involve h: this is our
question.
Setting: digits, 4,400 steps, constant lr, θ held for k = 100 steps, 10 seeds; the 43 alternations after the first.
Outcome: g₁, the share of the descent that the η-step takes: Σ (L(θᵗ, ηᵗ⁻¹) − L(θᵗ, ηᵗ)) / Σ (L(θᵗ, ηᵗ⁻¹) − min_η
L), sums over alternations. η and the minimum are solved from 8 views of 512 training images, L is taken over 8
others.
Margins: passes below 0.1, fails above 0.5. Trials had −0.16 to 0.002. The rows of `one_loss` have g₁ = 1 by
definition, up to h in the η-step, whose h only regresses: they are shown.
Supported means: η ← E_T[F] is no descent step of the loss that θ descends.
Contradicted means: SimSiam's η-step goes a good part of the way to the best η of the loss that is trained.
Changes: none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .._records import Record
from ._rules import SEEDS, Cell, below, mean
from ._runs import Spec
from ._settings import DIGITS, SIMSIAM, k_steps, of_seeds
from .one_loss import ONE_LOSS, settings

ROW = f"digits, k = 100: {SIMSIAM.name}"
PASSES, FAILS = 0.1, 0.5


def wanted() -> dict[str, list[Spec]]:
    others = {f"digits, k = 100: {row.name}": settings(row)["digits, k = 100"] for row in ONE_LOSS}
    return {ROW: of_seeds({**DIGITS, **k_steps(100)}, SEEDS, ledger_every=100), **others}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    shown = ", ".join(f"{name.partition(': ')[2]} {mean(taken(runs)).mean:.3f}" for name, runs in found.items())
    return [below("g₁ of SimSiam", mean(taken(found[ROW])), PASSES, fails=FAILS, note=f"means: {shown}")]


def taken(runs: Sequence[Record]) -> list[float]:
    """g₁ by run."""
    return [sum_of(r, "trained_before", "trained_solved") / sum_of(r, "trained_before", "trained_least") for r in runs]


def sum_of(run: Record, before: str, after: str) -> float:
    """The sum over alternations of what L fell by."""
    a, b = (np.array(run.curves[name], dtype=float) for name in (before, after))
    return float(np.nansum(a - b))
