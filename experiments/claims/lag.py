"""An old η delays the fall of rank, and an average over views does not.

Why it can fail: §5.2 explains that no h is needed by the moving average's better estimate of E_T[F]. If that is so,
more views should help, and age should not.
Setting: digits, no h, constant lr, θ held for k = 1, 100 and 400 steps (mean lag 0, 49.5, 199.5) × n = 1 and 9
fresh views, 10 seeds, at most 7,997 steps. The target is the mean of unit vectors, not made a unit vector again
(`mean_of_units`, `--similarity inner`), so that the expected gradient does not depend on n.
Outcome: the time at which PR comes to be below half of what SimSiam keeps, at two looks in a row (2 steps apart for
k = 1, then 10 and 20; s < 0.5 counts too, as PR is not read there). What SimSiam keeps is its mean PR over seeds
and over steps 1,000 to 4,400: at the same step it would fall from 29 to 8 in the first steps itself, and rise
later. A run ends once PR is below 2.5.
Cells: time at n = 9 over n = 1, for each k: passes where the 90 % interval lies in 0.75 to 1.33, fails where the 95
% one lies outside. Time at each k over the k before, for each n: passes above 1.5, fails below. Of logarithms, by
Welch. Where a run does not lose rank it is censored, so that a ratio over lag is a bound, and one over n is
undecided.
Reason: in trials s fell below 0.5 after 1,282, 3,246 and 5,645 steps at lag 0, 50 and 209, and PR much sooner: at k
= 1 below 4 within 50 steps, at k = 100 within 1,100.
Supported means: age of η is what delays the fall of rank; the number of views that η averages is not. §5.2's
explanation, a better estimate of E_T[F], is not what is seen.
Contradicted means: averages over views do change how long rank is kept, or age does not: §5.2's explanation stands,
or needs another one.
Changes: none since the first run.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from emsiam.diagnostics.statistics import welch

from .._records import Record
from ._rules import RANK, SEEDS, Cell, above, within
from ._runs import Spec
from ._settings import DIGITS, NO_H, SIMSIAM, falls, k_steps, mean_rank, of_seeds

HELD, VIEWS = (1, 100, 400), (1, 9)
LONG = {"epochs": 727}  # 7,997 steps
LOW, HIGH, LONGER = 0.75, 1.33, 1.5
ENDS_BELOW = 2.5
EVERY = {1: 2, 100: 10, 400: 20}  # steps between looks, by k
PLATEAU = 1000  # the step from which on SimSiam's PR is taken


def name(k: int, n: int) -> str:
    return f"k = {k}, n = {n}"


def wanted() -> dict[str, list[Spec]]:
    views = {n: {**LONG, **NO_H.options, "eta": "mean_of_units", "similarity": "inner", "n": n} for n in VIEWS}
    runs = {
        name(k, n): of_seeds(
            {**views[n], **k_steps(k)}, SEEDS, spread_every=EVERY[k], right_every=8000, ends_below=ENDS_BELOW
        )
        for k in HELD
        for n in VIEWS
    }
    return {SIMSIAM.name: of_seeds(DIGITS, SEEDS, ledger_every=100), **runs}


class Times:
    """Logarithms of the steps until rank has fallen, and how many runs are censored."""

    def __init__(self, runs: Sequence[Record], simsiam: Sequence[Record]):
        steps, pr = mean_rank(simsiam)
        found = [falls(r, RANK * pr[steps >= PLATEAU].mean()) for r in runs]
        self.logs = [math.log(t or r.summary["steps"]) for t, r in zip(found, runs, strict=True)]
        self.censored = sum(t is None for t in found)
        self.mean = math.exp(sum(self.logs) / len(self.logs))


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    times = {(k, n): Times(found[name(k, n)], found[SIMSIAM.name]) for k in HELD for n in VIEWS}
    cells = []
    for k in HELD:
        one, nine = (times[k, n] for n in VIEWS)
        cell = within(f"n = 9 over n = 1, k = {k}", welch(nine.logs, one.logs), math.log(LOW), math.log(HIGH))
        cells.append(ratio(cell, nine, one, f"in {LOW:g} to {HIGH:g} (90 %)"))
    for n in VIEWS:
        for before, k in itertools.pairwise(HELD):
            old, young = times[k, n], times[before, n]
            cell = above(f"k = {k} over {before}, n = {n}", welch(old.logs, young.logs), math.log(LONGER))
            cells.append(ratio(cell, old, young, f"> {LONGER:g}", bound=True))
    return cells


def ratio(cell: Cell, over: Times, under: Times, predicted: str, *, bound: bool = False) -> Cell:
    """A cell of logarithms as one of ratios. bound: a censored numerator makes it a lower bound, which may pass."""
    note = f"{over.mean:,.0f} and {under.mean:,.0f} steps"
    verdict = cell.verdict
    if over.censored or under.censored:
        note += f"; rank did not fall in {over.censored} and {under.censored} runs"
        verdict = "passes" if verdict == "passes" and bound and not under.censored else "undecided"
    mean, low, high = (math.exp(x) for x in (cell.mean, cell.low, cell.high))
    return cell._replace(mean=mean, low=low, high=high, predicted=predicted, verdict=verdict, note=note)
