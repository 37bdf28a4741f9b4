"""SimSiam's η-step takes less than a tenth of the descent of the loss that is trained.

Why it can fail: if SimSiam were an alternation over one loss, η ← E_T[F] would lower that loss. With h the trained
loss is E‖h∘F − η‖², whose best η is E_T[h∘F]. §5.1 says that the hypothesis does not involve h: this is our
question.
Setting: digits, 4,400 steps, constant lr, θ held for k = 100 steps, 10 seeds; the 43 alternations after the first.
Outcome: g₁, the share of the descent that the η-step takes: Σ (L(θᵗ, ηᵗ⁻¹) − L(θᵗ, ηᵗ)) / Σ (L(θᵗ, ηᵗ⁻¹) − min_η
L), sums over alternations. η and the minimum are solved from 8 views of 512 training images, L is taken over 8
others.
Margins: passes below 0.1, fails above 0.5. Trials had −0.16 to 0.002: the η-step then raises the trained loss a
little. The rows of `one_loss` (the first 4,400 steps of their runs at k = 100) have g₁ = 1 by definition, up to h
in the η-step, whose h only regresses: they are shown, and the median over alternations.
Supported means: η ← E_T[F] is no descent step of the loss that θ descends.
Contradicted means: SimSiam's η-step goes a good part of the way to the best η of the loss that is trained.
Changes: none since the first run.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from emsiam.diagnostics.statistics import mean

from .._records import Record
from ._rules import SEEDS, Cell, below
from ._runs import Spec
from ._settings import DIGITS, SIMSIAM, curve, k_steps, of_seeds
from .one_loss import ONE_LOSS, settings

ROW = f"digits, k = 100: {SIMSIAM.name}"
PASSES, FAILS = 0.1, 0.5
STEPS = 4400


def wanted() -> dict[str, list[Spec]]:
    others = {f"digits, k = 100: {row.name}": settings(row)["digits, k = 100"] for row in ONE_LOSS}
    return {ROW: of_seeds({**DIGITS, **k_steps(100)}, SEEDS, ledger_every=100), **others}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    shown = ", ".join(f"{name.partition(': ')[2]} {mean(taken(runs)).mean:.3f}" for name, runs in found.items())
    ours = found[ROW]
    median = np.median([fell(r, "trained_solved") / fell(r, "trained_least") for r in ours])
    note = f"means: {shown}; median over alternations {median:.3f}"
    return [below("g₁ of SimSiam", mean(taken(ours)), PASSES, fails=FAILS, note=note)]


def taken(runs: Sequence[Record]) -> list[float]:
    """g₁ by run."""
    return [float(fell(r, "trained_solved").sum() / fell(r, "trained_least").sum()) for r in runs]


def fell(run: Record, to: str) -> np.ndarray:
    """What L fell by from L(θᵗ, ηᵗ⁻¹), by alternation."""
    steps, before = curve(run, "trained_before")
    all_steps, after = curve(run, to)
    used = steps < STEPS  # the η that is solved at the end is not used any more
    return (before - after[np.isin(all_steps, steps)])[used]
