"""By the paper's own loss (5), without h, both half-steps of SimSiam go down.

This is the authors' reading, which the paper does not test. It supports the hypothesis where the prediction holds.
Setting: as `eta_step`: digits, 4,400 steps, constant lr, θ held for k = 100 steps, 10 seeds.
Outcome: the share of alternations in which L(θᵗ, ηᵗ⁻¹) ≥ L(θᵗ, ηᵗ) ≥ L(θᵗ⁺¹, ηᵗ), L = E‖F − η‖² of unit vectors.
Margins: passes above 0.9, fails below 0.6. Trials had 16 of 20, and 5 of 15. η is the mean over 8 views here, where
training takes one.
Beside it: the same with the η of other images, which falls too where the whole representation shrinks; and the
cosine of E_T[h∘F] and E_T[F].
Supported means: as the paper writes it, over (5) without h, the alternation does descend. That alone keeps nothing:
where a row of `one_loss` collapses, its loss goes down too.
Contradicted means: not even (5) goes down in both half-steps, so SimSiam is no descent of it.
Changes: none since the first run.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from emsiam.diagnostics.statistics import mean

from .._records import Record
from ._rules import Cell, above
from ._runs import Spec
from ._settings import curve
from .eta_step import ROW
from .eta_step import wanted as of_eta_step

PASSES, FAILS = 0.9, 0.6


def wanted() -> dict[str, list[Spec]]:
    return {ROW: of_eta_step()[ROW]}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    runs = found[ROW]
    other = mean([descents(r, "other") for r in runs]).mean
    eta, theta = (mean([half(r, "f")[i].mean() for r in runs]).mean for i in (0, 1))
    cosine = np.mean([curve(r, "cosine")[1][-1] for r in runs])
    note = f"η-step {eta:.2f}, θ-step {theta:.2f}; η of other images {other:.2f}; cosine at the end {cosine:.2f}"
    return [above("both half-steps", mean([descents(r, "f") for r in runs]), PASSES, fails=FAILS, note=note)]


def descents(run: Record, of: str) -> float:
    """The share of alternations in which both half-steps went down."""
    eta, theta = half(run, of)
    return float((eta & theta).mean())


def half(run: Record, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether L went down in the η-step and in the θ-step, by alternation."""
    _, before = curve(run, f"{of}_before")
    _, solved = curve(run, f"{of}_solved")
    solved = solved[1:]  # the first alternation has no η before it
    return before[:-1] >= solved[:-1], solved[:-1] >= before[1:]
