"""What did it look like? Pictures from tables."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {  # column of metrics.jsonl: title
    "loss": "loss",
    "z_std": "std of ẑ, mean over channels",
    "participation_ratio": "rank: participation ratio of ẑ",
    "knn_acc1": "kNN accuracy of the backbone",
}


def trajectory(runs: Run | Iterable[Run], names: Iterable[str] = ()) -> "Figure":
    """Loss, std of ẑ against 1/√d, rank and kNN over steps (the paper's Fig. 2, and more), for one run or several.

    names: of the runs, for the legend; runs of one name are drawn as their mean with a 95 % interval.
    """
    import pandas as pd
    import seaborn as sns
    from matplotlib.figure import Figure

    runs = [runs] if isinstance(runs, Run) else list(runs)
    names = list(names) or [run.config.mode for run in runs]
    table = pd.concat([run.metrics.assign(run=name) for run, name in zip(runs, names, strict=True)], ignore_index=True)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.95):
        figure = Figure(figsize=(15, 3.6), layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, 4), PANELS.items(), strict=True):
            if table[column].isna().all():  # nothing finite was ever measured
                continue
            sns.lineplot(
                table.dropna(subset=[column]),
                x="step",
                y=column,
                hue="run",
                style="run",
                dashes=False,
                markers=column == "knn_acc1",
                palette="colorblind",
                legend=column == "loss" and len(set(names)) > 1,
                ax=axes,
            )
            axes.set(title=title, ylabel="", xlim=(0, None))
            if column == "loss" and axes.get_legend():
                axes.get_legend().set_title("")
            elif column == "z_std":
                for d in sorted({run.config.dim for run in runs}):
                    axes.axhline(d**-0.5, color="0.3", linestyle="--", linewidth=1)
                    axes.annotate(
                        f"1/√{d}", (0.98, d**-0.5), xycoords=("axes fraction", "data"), ha="right", va="bottom"
                    )
                axes.set_ylim(0, 1.15 * max(table["z_std"].max(), max(run.config.dim**-0.5 for run in runs)))
            elif column == "participation_ratio":
                axes.set_ylim(0, None)
    return figure
