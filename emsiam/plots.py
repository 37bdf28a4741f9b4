"""What did it look like? Pictures from tables."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import Metric, shown_in, training_order
from .runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 24  # characters of a name beside a matrix


def trajectory(runs: Run | Iterable[Run], names: Iterable[str] = (), *, rows: int = 1) -> "Figure":
    """Loss, std of ẑ against 1/√d, rank and kNN over steps (the paper's Fig. 2, and more), for one run or several.

    names: of the runs, for the legend; runs of one name are drawn as their mean with a 95 % interval. rows: of panels.
    Raises ConfigError for a damaged file of a run.
    """
    import pandas as pd
    import seaborn as sns

    from .figure import Picture

    runs = [runs] if isinstance(runs, Run) else list(runs)
    names = list(names) or [run.config.mode for run in runs]
    table = pd.concat([run.metrics.assign(run=name) for run, name in zip(runs, names, strict=True)], ignore_index=True)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.95):
        panels = training_order(shown_in("picture"))
        columns = math.ceil(len(panels) / rows)
        figure = Picture(figsize=(3.75 * columns, 3.6 * rows), layout="constrained")
        for axes, metric in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
            column = metric.name
            if column not in table or table[column].isna().all():  # nothing finite was ever measured
                _left_out(axes, metric, runs)
                continue
            sns.lineplot(
                table.dropna(subset=[column]),
                x="step",
                y=column,
                hue="run",
                style="run",
                dashes=False,
                markers=metric.seldom,
                palette=palette(names),
                legend=metric is panels[0] and len(set(names)) > 1,
                ax=axes,
            )
            axes.set(title=metric.title, ylabel="", xlim=(0, None))
            if axes.get_legend():
                axes.get_legend().set_title("")
            highest = table[column].max()
            if metric.level:
                label, value = metric.level
                widths = sorted({run.config.width for run in runs})
                for d in widths:
                    axes.axhline(value(d), color="0.3", linestyle="--", linewidth=1)
                    at = (0.98, value(d))
                    axes.annotate(label.format(d=d), at, xycoords=("axes fraction", "data"), ha="right", va="bottom")
                highest = max(highest, *map(value, widths))
            if metric.zero:
                axes.set_ylim(0, 1.15 * highest or 1)  # room above a curve that is flat
    return figure


def comparison(runs: Sequence[Run], result: dict[str, Any]) -> "Figure":
    """Curves with bands, the plane with the direction of time, CKA at the end, spectra: a result of `compare`.

    One colour a group of runs that differ by seed alone.
    """
    import pandas as pd
    import seaborn as sns
    from matplotlib.lines import Line2D

    from .figure import Picture

    groups = [run["group"] for run in result["runs"]]
    names = [run["name"] for run in result["runs"]]
    colours = palette(groups)
    parts = zip(runs, groups, names, strict=True)
    table = pd.concat([run.metrics.assign(group=g, run=n) for run, g, n in parts], ignore_index=True)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9):
        curves = shown_in("curves")
        columns = max(4, len(curves) + 1)
        figure = Picture(figsize=(4.75 * columns, 8.6), layout="constrained")
        above, below = figure.subplots(2, columns)
        d, (e, f, g, h) = above[len(curves)], below[:4]
        for axes in (*above[len(curves) + 1 :], *below[4:]):
            axes.set_axis_off()
        for axes, metric in zip(above, curves, strict=False):
            column = metric.name
            if column not in table:  # of runs before it was measured
                _left_out(axes, metric, runs)
                continue
            rows = table.dropna(subset=[column])
            for group, colour in colours.items():
                curves_of_group = rows[rows.group == group]
                if curves_of_group.empty:  # likewise
                    continue
                few = groups.count(group) < 3  # then each run a line: an interval would be their range
                options: dict[str, Any] = {"units": "run", "estimator": None} if few else {}
                sns.lineplot(curves_of_group, x="step", y=column, color=colour, ax=axes, legend=False, **options)
            axes.set(title=metric.title, ylabel="", xlim=(0, None))
            if metric.zero:
                most = rows[rows.step >= 0.02 * rows.step.max()][column].max()
                axes.set_ylim(0, 1.1 * most)
                if rows[column].max() > 1.1 * most:
                    axes.set_title(f"{metric.title} (start cut off)")
        handles = [Line2D([], [], color=colour, label=group) for group, colour in colours.items()]
        band = "mean and 95 % interval over seeds" if any(groups.count(g) > 2 for g in colours) else None
        figure.legend(handles=handles, loc="outside lower center", ncols=4, title=band, frameon=False)
        _cka_curves(d, result, groups, names, colours)
        _plane(e, result["plane"], groups, names, colours)
        e.set_title("paths of the Gram matrix of z, from dot to arrow")
        _plane(f, result["weight_plane"], groups, names, colours)
        f.set_title(f"paths of the weights of F, seed {runs[0].config.seed}")
        _cka_matrix(g, result, groups, names)
        for run, group in zip(runs, groups, strict=True):
            last = run.snapshots()[max(run.snapshots())]
            h.plot(eigenvalues(last), color=colours[group], linewidth=1.2)
        h.set(title="spectrum of ẑ at the end", xlabel="direction", ylabel="variance", yscale="log", ylim=(1e-9, 1))
    return figure


def _left_out(axes, metric: Metric, runs: Iterable[Run]) -> None:
    """A panel that says why it is empty."""
    unlabelled = metric.seldom and all(run.config.labels is False for run in runs)
    text = "left out: the images\nhave no labels" if unlabelled else "not measured"
    axes.text(0.5, 0.5, text, ha="center", va="center", color="0.4", transform=axes.transAxes)
    axes.set(title=metric.title, xticks=[], yticks=[])


def palette(groups: Iterable[str]) -> dict[str, str]:
    """One colour a group, in the order in which they first come."""
    import seaborn as sns

    named = list(dict.fromkeys(groups))
    colours = sns.color_palette("colorblind", 10).as_hex()
    apart = [colours[i] for i in (0, 1, 2, 4, 5, 3, 9, 7, 6, 8)]  # the two oranges are not neighbours
    return dict(zip(named, apart if len(named) <= 10 else sns.color_palette("husl", len(named)).as_hex(), strict=False))


def eigenvalues(z: np.ndarray) -> np.ndarray:
    """The eigenvalues of the covariance of ẑ, descending, from z [N, d]."""
    import torch

    from .diagnostics.collapse import spectrum

    return spectrum(torch.from_numpy(z)).numpy()


def _cka_curves(axes, result, groups, names, colours) -> None:
    """CKA of each group's runs with the first group's, step by step, and the first group's own seeds as a band."""
    first = groups[0]
    band = result["seed_band"].get(first)
    if band:
        steps = sorted(band)
        low, high = zip(*(band[s] for s in steps), strict=True)
        axes.fill_between(steps, low, high, color="0.5", alpha=0.25, label=f"seeds of {first}")
    member = dict(zip(names, groups, strict=True))
    for pair in result["pairs"]:
        one, two = member[pair["a"]], member[pair["b"]]
        alone = len(names) == len(set(groups))
        if first in (one, two) and one != two and pair["cka"] and (pair["paired"] or alone):
            steps = sorted(pair["cka"])
            axes.plot(
                steps, [pair["cka"][s] for s in steps], color=colours[two if one == first else one], linewidth=1.2
            )
    axes.set(title=f"linear CKA of z with {first}", xlabel="step", xscale="symlog", xlim=(0, None), ylim=(0, 1.03))
    if band:
        axes.legend(loc="lower left", fontsize=8)


def _plane(axes, plane, groups, names, colours) -> None:
    """Paths in their common plane; a dot where one starts, an arrow where it ends; the null in grey."""
    paths = {name: np.array(path) for name, path in plane["runs"].items()}
    size = max(np.abs(path).max() for path in paths.values()) or 1.0
    nulls = [np.array(path) for path in plane["random_walk"]["paths"]]
    most = max(np.abs(null).max() for null in nulls) or 1.0
    for null in nulls:
        axes.plot(*(null / most * size).T, color="0.8", linewidth=0.8, zorder=0)
    for name, path in paths.items():
        colour = colours[groups[names.index(name)]]
        axes.plot(*path.T, color=colour, linewidth=1.2)
        axes.plot(*path[0], "o", color=colour, markersize=5)
        if len(path) > 1:
            axes.annotate("", path[-1], path[-2], arrowprops={"arrowstyle": "-|>", "color": colour})
    share, walk = sum(plane["explained"]), sum(plane["random_walk"]["explained"])
    axes.set(ylabel="2nd axis")
    some = f", {len(paths)} of {len(names)} runs" if len(paths) < len(names) else ""
    text = f"{share:.0%} of the variance{some}; grey: as many random walks, {walk:.0%}"
    axes.set_xlabel(f"1st axis\n{text}", fontsize=9)


def _cka_matrix(axes, result, groups, names) -> None:
    """Linear CKA of every two runs at their last common snapshot."""
    import seaborn as sns

    matrix = np.eye(len(names))
    for pair in result["pairs"]:
        i, j = names.index(pair["a"]), names.index(pair["b"])
        matrix[i, j] = matrix[j, i] = pair["cka"][max(pair["cka"])] if pair["cka"] else np.nan
    few = len(names) <= 8  # else where each group begins
    numbers = [str(i + 1) for i in range(len(names))]  # below columns, which are narrower than names
    shown = [f"{_short(name)}  {i}" for i, name in zip(numbers, names, strict=True)]
    if not few:
        shown = [g if g not in groups[:i] else "" for i, g in enumerate(groups)]
    sns.heatmap(
        matrix, vmin=0, vmax=1, cmap="viridis", annot=few, fmt=".2f", square=True, ax=axes,
        xticklabels=numbers if few else False, yticklabels=shown, cbar_kws={"shrink": 0.8},
    )  # fmt: skip
    axes.tick_params(axis="both", rotation=0)
    axes.set_title("linear CKA at the last common snapshot")


def _short(name: str) -> str:
    """A name, or its beginning and its end."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2 - 1]}…{name[-LONGEST // 2 :]}"
