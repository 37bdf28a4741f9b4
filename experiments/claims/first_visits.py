"""The paper's moving average without h falls in rank, whatever stands for η before a first visit.

Paper: η ← m·η + (1−m)·F with m = 0.8 and no h has 55.0 after 100 epochs with a cosine schedule, no rank is
reported.
Why it can fail: what a first visit takes is open there. With own z the first epoch is "no h, no average"; a frozen
θ⁰ or random unit vectors may keep the run where it begins. Longer epochs are more steps per lag.
Setting: Fashion-MNIST at 14×14, batch 64, 100 epochs, m = 0.8 (mean lag 4 epochs, so 25 lags), constant lr; 320,
1,280 and 5,120 images (5, 20, 80 steps per epoch) × first visit own z, θ⁰, random unit vectors; 5 seeds.
Beside them 1,280 images with own z and a cosine schedule, whose last lags carry almost no lr: shown, no cell.
Outcome: PR of z at the end over SimSiam's (5 seeds, the same images and steps), of logarithms; and the slope of log
PR over epochs 60 to 100, in lags 15 to 25. Where s < 0.5 PR is not read, and counts as 1.
Margins: ratio passes below 0.6, fails above; slope passes below 0, fails above. Where the ratio is below 0.6 at 15
lags already, all of its interval, the slope has nothing left to show, and passes with the p of that ratio.
Supported means: the paper's moving average loses rank, whatever it starts from: no choice that §5.2 leaves open
saves it.
Contradicted means: a first visit, or the number of images, decides whether the moving average keeps its rank: §5.2
left open what matters.
Changes: none since the first run.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from emsiam.diagnostics.statistics import Estimate, mean, welch

from .._records import Record
from ._rules import FIVE, READ, Cell, below
from ._runs import Spec
from ._settings import FASHION, SIMSIAM, curve, of_seeds

IMAGES = {320: 5, 1280: 20, 5120: 80}  # steps per epoch
FIRST = {"own z": {}, "θ⁰": {"eta_args": "first=theta0"}, "random": {"eta_args": "first=random"}}
EPOCHS, SLOPE_FROM, LAG = 100, 60, 4  # the lag in epochs
RATIO = 0.6
COSINE = "1280 images, own z, cosine"


def wanted() -> dict[str, list[Spec]]:
    runs = {}
    for images, steps in IMAGES.items():
        options = {**FASHION, "num_images": images, "epochs": EPOCHS}
        looks = {"spread_every": 2 * steps, "right_every": EPOCHS * steps}
        runs[f"{images} images, {SIMSIAM.name}"] = of_seeds(options, FIVE, **looks)
        for first, more in FIRST.items():
            bank = {**options, "mode": "ema_eta", "m": 0.8, **more}
            runs[f"{images} images, {first}"] = of_seeds(bank, FIVE, **looks)
            if images == 1280 and not more:
                runs[COSINE] = of_seeds({**bank, "schedule": "cosine"}, FIVE, **looks)
    return runs


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    cells = []
    for images in IMAGES:
        simsiam = found[f"{images} images, {SIMSIAM.name}"]
        for first in FIRST:
            name, runs = f"{images} images, {first}", found[f"{images} images, {first}"]
            late, early = (over(runs, simsiam, epoch) for epoch in (EPOCHS, SLOPE_FROM))
            cells.append(ratio(below(f"{name}: PR over SimSiam's", late, math.log(RATIO))))
            slopes = below(f"{name}: slope per lag", mean([slope(r) for r in runs]), 0.0)
            before = below("", early, math.log(RATIO))
            if before.verdict == "passes":
                slopes = slopes._replace(verdict="passes", p=before.p, note="PR had fallen by 15 lags")
            cells.append(slopes)
    return cells


def over(runs: Sequence[Record], simsiam: Sequence[Record], epoch: int) -> Estimate:
    """log PR less SimSiam's at an epoch."""
    ours, theirs = ([float(np.interp(epoch, *by_epoch(r))) for r in group] for group in (runs, simsiam))
    return welch(ours, theirs)


def ratio(cell: Cell) -> Cell:
    """A cell of logarithms as one of ratios."""
    mean_, low, high = (math.exp(x) for x in (cell.mean, cell.low, cell.high))
    return cell._replace(mean=mean_, low=low, high=high, predicted=f"< {RATIO:g}")


def by_epoch(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and log PR of z, PR counting as 1 where it is not read."""
    steps, y = log_rank(run)
    return steps * EPOCHS / steps[-1], y


def log_rank(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and log PR of z, PR counting as 1 where it is not read."""
    steps, pr = curve(run, "pr_z")
    _, s = curve(run, "std_z")
    return steps, np.log(np.where(s >= READ, pr, 1.0))


def slope(run: Record) -> float:
    """Of log PR over the last epochs, per lag."""
    epochs, y = by_epoch(run)
    late = epochs >= SLOPE_FROM
    return float(np.polyfit(epochs[late] / LAG, y[late], 1)[0])
