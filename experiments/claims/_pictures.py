"""How do the claims look? The staircase of L over half-steps, what a mixed target keeps, and rank over lags."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from emsiam import linear_theory as theory

from .._records import Record
from . import consistency, delay, first_visits
from ._settings import H_TARGET, NO_H, SIMSIAM, curve, last, ranks
from .eta_step import taken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = Mapping[str, Mapping[str, Sequence[Record]]]
ALTERNATIONS = 12  # shown of the staircase
SHARES = (0.5, 0.7, 0.9)  # ρ
SIZE, WD = 128, 5e-4  # d, and weight decay, of `consistency`


def descent(groups: Groups) -> "Figure":
    """L over half-steps for three ways to alternate; beside it accuracy and rank over λ."""
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.8):
        figure = Figure(figsize=(13, 6), layout="constrained")
        grid = figure.add_gridspec(2, 4)
        for column, row in enumerate((SIMSIAM, NO_H, H_TARGET)):
            runs = groups["eta_step"][f"digits, k = 100: {row.name}"]
            for line, of in enumerate(("trained", "f")):
                axis = figure.add_subplot(grid[line, column])
                staircase(axis, runs, of)
                axis.set(title=row.name if not line else "", xlabel="alternation" if line else "")
                if not column:
                    axis.set_ylabel("L of the trained loss" if of == "trained" else "L of (5), without h")
        mixed = [groups["consistency"][consistency.name(part)] for part in consistency.LAMBDAS]
        above, below = (figure.add_subplot(grid[line, 3]) for line in (0, 1))
        over_lambda(above, {"A_z": [last(of, "knn_z") for of in mixed], "g₁": [taken(of) for of in mixed]})
        over_lambda(below, {"PR of z": [last(of, "pr_z") for of in mixed]})
    return figure


def staircase(axis: "Axes", runs: Sequence[Record], of: str) -> None:
    """L before and after each η-step, and on to the next: means over runs."""
    before, solved = (np.mean([curve(r, f"{of}_{end}")[1] for r in runs], 0) for end in ("before", "solved"))
    solved = solved[1:]
    for t in range(min(ALTERNATIONS, len(before))):
        label = "_" if t else "η-step, to the dot"
        axis.plot([t, t], [before[t], solved[t]], color="C3", linewidth=2, marker="o", ms=4, markevery=[1], label=label)
        if t + 1 < min(ALTERNATIONS, len(before)):
            axis.plot([t, t + 1], [solved[t], before[t + 1]], color="C0", linewidth=1.5, label="_" if t else "θ-steps")
    axis.set_xticks(range(0, ALTERNATIONS, 2))
    axis.legend(loc="best")


def over_lambda(axis: "Axes", numbers: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Numbers, by λ and seed, a dot each; where linear theory lets modes die."""
    parts = consistency.LAMBDAS
    for i, (label, values) in enumerate(numbers.items()):
        axis.plot(parts, [np.mean(v) for v in values], color=f"C{i}", label=label)
        for part, of in zip(parts, values, strict=True):
            axis.plot([part] * len(of), of, "o", color=f"C{i}", markersize=4, alpha=0.6)
    axis.legend(loc="center left")
    fine = np.linspace(0, 1, 1000)
    _, wd = theory.in_half_squares(0.0, WD, SIZE)
    for share in SHARES:
        dies = theory.fixed_points(share, 1 - share, wd=wd, part=fine).critical < wd
        if dies.any():
            at = fine[dies.argmax()]
            axis.axvline(at, color="0.5", linestyle="--", linewidth=1)
            axis.text(
                at, axis.get_ylim()[0], f" ρ = {share}", rotation=90, va="bottom", ha="right", fontsize=8, color="0.3"
            )
    axis.set(xlabel="λ: h∘F in the target")


def lags(groups: Groups) -> "Figure":
    """PR of z over SimSiam's, over time in mean lags."""
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.8):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        found = groups["first_visits"]
        styles = {320: ":", 1280: "--", 5120: "-"}
        for colour, first in enumerate(first_visits.FIRST):
            for images, style in styles.items():
                name = f"{images} images"
                x, y = relative(found[f"{name}, {first}"], found[f"{name}, {SIMSIAM.name}"])
                lag = first_visits.LAG * first_visits.IMAGES[images]
                left.plot(x / lag, y, style, color=f"C{colour}", label=f"{first}, {images} images")
        cosine(left, found)
        left.set(title="Fashion-MNIST, m = 0.8, by first visit", ylabel="PR of z over SimSiam's")
        bank, simsiam = (groups["delay"][name] for name in (delay.BANK, SIMSIAM.name))
        x, y = relative(bank, simsiam)
        right.plot(x * 25 / delay.EARLY, y, color="C0")
        right.set(title="digits, m = 0.8")
        for axis in (left, right):
            axis.axhline(0.5, color="0.3", linestyle="--", linewidth=1)
            axis.set(xlabel="time in mean lags of η", yscale="log", ylim=(0.09, 1.1))
            axis.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 1]))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
            for at, text in ((12.5, "paper, Σlr"), (25, "paper, epochs")):
                axis.axvline(at, color="0.6", linewidth=1)
                aside = {"transform": axis.get_xaxis_transform(), "va": "top", "ha": "right", "rotation": 90}
                axis.text(at, 0.97, text, **aside, fontsize=8, color="0.3")
        left.legend(fontsize=7, loc="lower left", ncols=2)
    return figure


def cosine(axis: "Axes", found: Mapping[str, Sequence[Record]]) -> None:
    """The cosine row, its time being Σlr over peak lr × lag."""
    images = 1280
    x, log_pr = mean_log([ranks(r) for r in found[first_visits.COSINE]])
    at, base = mean_log([ranks(r) for r in found[f"{images} images, {SIMSIAM.name}"]])
    steps = x[-1]
    sum_lr = (
        x + steps / np.pi * np.sin(np.pi * x / steps)
    ) / 2  # of half a cosine to 0, peak 1; SimSiam's is its steps
    y = np.exp(log_pr - np.interp(sum_lr, at, base))
    axis.plot(sum_lr / (first_visits.LAG * first_visits.IMAGES[images]), y, color="0.2", label="own z, 1280, cosine")


def relative(runs: Sequence[Record], simsiam: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the geometric mean of PR over SimSiam's, where it is read in all runs."""
    (x, ours), (at, theirs) = (mean_log([ranks(r) for r in of]) for of in (runs, simsiam))
    steps = np.intersect1d(x, at)
    return steps, np.exp(ours[np.isin(x, steps)] - theirs[np.isin(at, steps)])


def mean_log(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps that all curves have, and the mean of the logarithms there."""
    steps = curves[0][0]
    for x, _ in curves[1:]:
        steps = np.intersect1d(steps, x)
    return steps, np.mean([np.log(y[np.isin(x, steps)]) for x, y in curves], 0)


PICTURES = {"descent": (descent, ("eta_step", "consistency")), "lag": (lags, ("first_visits", "delay"))}  # of claims
