"""By which rules is a claim decided? They hold for all claims, and were fixed before the runs.

Words. A: top-1 accuracy of kNN (k = 20, t = 0.1); A_z of z, A_p of p, A_g of the output that the trained loss sees,
which is p, and z where there is no h on that side. Before it BN statistics are re-estimated from the training images,
for untrained weights too. On digits each of all 1,797 images is compared with all others (labels are never trained
on); on other data test images are compared with the images trained on. s: std·√d of unit vectors on the probe set,
with batch statistics; PR: their participation ratio, read only where s ≥ 0.5, as of noise around a constant it is 35.
Images are lost: A is below that of the same output of untrained weights by 3 points or more. Constant: s < 0.1. Rank
falls: PR is below half of SimSiam's at the same sum of learning rates. Three things, never one word.

Decisions. The unit is the seed: 100 to 109; others were trials. A cell is a number with a 95 % interval, by Welch's t
over seeds (pairing by seed gained nothing in trials). It passes where the interval lies wholly beyond the margin of
its prediction, and fails where it lies wholly beyond the other margin. A claim is supported where all its cells pass,
contradicted where one fails, else undecided. Equivalence is two one-sided tests at 5 %: a 90 % interval within the
margin. The primary p of a claim is its worst cell's, one-sided, and Holm's correction is over all claims: supported
needs 0.05 after it. All else is descriptive. Seeds share test images: a bootstrap over seeds and images stands
beside. A run in which an event did not happen is censored, and a ratio with such runs is a bound. Where a run
diverges the claim is undecided: no run is left out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from emsiam.diagnostics.statistics import Estimate

SEEDS = tuple(range(100, 110))
FIVE, THREE = SEEDS[:5], SEEDS[:3]
LOST, CONSTANT, RANK, READ = 0.03, 0.1, 0.5, 0.5  # see Words: points, s, of SimSiam's PR, s
POINT = 0.01
LEVEL = 0.05
UNDECIDABLE = "not decidable here"  # of a cell whose setting says nothing, whatever the rows do
RESAMPLES = 2000


class Cell(NamedTuple):
    """A number that a claim makes a prediction about."""

    name: str
    mean: float
    low: float
    high: float
    predicted: str
    verdict: str  # passes, fails, undecided, or UNDECIDABLE
    p: float  # one-sided, of the prediction
    bootstrap: tuple[float, float] | None = None  # over seeds and images
    note: str = ""


def above(name: str, found: Estimate, margin: float, *, fails: float | None = None, **more: Any) -> Cell:
    """A cell whose number is to be above a margin; it fails below another one, by default the same."""
    low, high = found.interval()
    said = _verdict(low > margin, high < (margin if fails is None else fails))
    return Cell(name, found.mean, low, high, f"> {margin:g}", said, found.p_above(margin), **more)


def below(name: str, found: Estimate, margin: float, *, fails: float | None = None, **more: Any) -> Cell:
    """A cell whose number is to be below a margin; it fails above another one, by default the same."""
    low, high = found.interval()
    said = _verdict(high < margin, low > (margin if fails is None else fails))
    return Cell(name, found.mean, low, high, f"< {margin:g}", said, mirrored(found).p_above(-margin), **more)


def within(name: str, found: Estimate, low: float, high: float, **more: Any) -> Cell:
    """A cell whose number is to be equivalent: its 90 % interval within two margins. It fails where the 95 % interval
    lies wholly outside."""
    inner, outer = found.interval(0.9), found.interval()
    good, bad = low < inner[0] and inner[1] < high, outer[1] < low or outer[0] > high
    p = max(found.p_above(low), mirrored(found).p_above(-high))
    return Cell(name, found.mean, *outer, f"in {low:g} to {high:g} (90 %)", _verdict(good, bad), p, **more)


def counted(name: str, happened: Sequence[bool], *, passes: int, fails: int | None = None, note: str = "") -> Cell:
    """A cell that counts runs: it is to be `passes` of them or more, and fails at `fails` or fewer.

    The interval is Clopper and Pearson's, the p that of a fair coin.
    """
    number, of = int(sum(happened)), len(happened)
    test = stats.binomtest(number, of, 0.5, alternative="greater")
    low, high = stats.binomtest(number, of).proportion_ci(0.95)
    verdict = _verdict(number >= passes, fails is not None and number <= fails)
    return Cell(
        name, number / of, float(low), float(high), f"{passes} of {of} or more", verdict, float(test.pvalue), note=note
    )


def mirrored(found: Estimate) -> Estimate:
    return found._replace(mean=-found.mean)


def _verdict(good: bool, bad: bool) -> str:
    return "passes" if good else "fails" if bad else "undecided"


def verdict(cells: Sequence[Cell], p: float) -> str:
    """Of a claim: cells, and its primary p after Holm."""
    said = {cell.verdict for cell in cells} - {UNDECIDABLE}
    if "fails" in said:
        return "contradicted"
    return "supported" if said == {"passes"} and p < LEVEL else "undecided"


def primary(cells: Sequence[Cell]) -> float:
    """The p of a claim: its worst cell's."""
    return max((cell.p for cell in cells if cell.verdict != UNDECIDABLE), default=1.0)


def bootstrap(a: Iterable[np.ndarray], b: Iterable[np.ndarray], weight: float = 1.0) -> tuple[float, float]:
    """95 % interval of mean(a) − weight·mean(b) over seeds and images: each [images] of true and false, a run each.

    Seeds are drawn anew within each group, images for both together.
    """
    rng = np.random.default_rng(0)
    groups = [np.stack([*x]).astype(np.float32) for x in (a, b)]
    images = groups[0].shape[1]
    counts = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(np.float32)
    means = []
    for group in groups:
        of_seed = group @ counts.T / images  # [seeds, RESAMPLES]
        drawn = rng.integers(len(group), size=(len(group), RESAMPLES))
        means.append(np.take_along_axis(of_seed, drawn, 0).mean(0))
    low, high = np.quantile(means[0] - weight * means[1], (0.025, 0.975))
    return float(low), float(high)
