"""Which numbers are shown of a run, and how is each called, written and drawn? A row holds all that is known of one.

What measures, writes, draws and compares reads this table: a row is all that another number needs.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .diagnostics import collapse
from .traits import by_name

PLACES = {  # where a number may be shown
    "bar": "the progress bar",
    "end": "what the command prints at the end",
    "picture": "a panel of trajectory.png",
    "curves": "a panel of comparison.png",
    "page": "a curve of comparison.html",
    "compared": "means and differences in comparison.json",
    "table": "the table that compare prints, and group differences in it",
    "results": "the tables of experiments",
    "dots": "the pictures of experiments",
}


class Metric(NamedTuple):
    """One number of a run, under its name in metrics.jsonl, summary.json and results."""

    name: str
    short: str  # heading of a column
    title: str  # of a panel
    digits: int  # after the point
    meaning: str  # for docs/numbers.md
    of: Callable[[Tensor], Tensor] | None = None  # of z [N, d] of the probe set: measured at each line, kept at the end
    of_p: Callable[[Tensor], Tensor] | None = None  # of p [N, d]: measured at evaluations, the first and last kept
    healthy: str = ""
    collapsed: str = ""
    said: str = ""  # how the command says it at the end, {d} being the width of z
    level: tuple[str, Callable[[int], float]] | None = None  # a dashed line in panels, by d: its label and value
    below: tuple[float, ...] = ()  # bounds: when a run comes to stay below them is told in comparisons
    zero: bool = False  # its axis begins at 0
    seldom: bool = False  # measured at evaluations only
    group: str = "collapse"  # of its curve in TensorBoard
    places: tuple[str, ...] = ()  # of PLACES

    def checked(self) -> "Metric":
        """Raises ValueError where it is shown in no place that there is, or has no words for one."""
        if unknown := set(self.places) - PLACES.keys():
            raise ValueError(f"{self.name}: {unknown} is not one of PLACES")
        if "end" in self.places and not self.said:
            raise ValueError(f"{self.name}: shown at the end, it needs `said`")
        return self

    def written(self, value: float) -> str:
        """A value as text."""
        return f"{value:.{self.digits}f}"


METRICS = by_name(
    (m.name, m.checked())
    for m in (
        Metric(
            "z_std",
            "std",
            "std of ẑ, mean over channels",
            4,
            "std of ẑ over images, mean over channels",
            collapse.z_std,
            healthy="1/√d",
            collapsed="0",
            level=("1/√{d}", lambda d: d**-0.5),
            zero=True,
            places=("picture",),
        ),
        Metric(
            "z_std_ratio",
            "std·√d",
            "std of ẑ · √d (1 healthy, 0 collapsed)",
            3,
            "`z_std` times √d. Blind to rank",
            collapse.z_std_ratio,
            healthy="1",
            collapsed="0",
            said="std·√d {} (1 healthy, 0 collapsed)",
            below=(0.7, 0.5, 0.2),
            zero=True,
            places=("bar", "end", "curves", "page", "compared", "table", "results", "dots"),
        ),
        Metric(
            "effective_rank",
            "RankMe",
            "RankMe of ẑ",
            1,
            "RankMe. Not a detector by itself: untrained networks score high",
            collapse.effective_rank,
            places=("compared",),
        ),
        Metric(
            "participation_ratio",
            "PR",
            "rank: participation ratio of ẑ",
            1,
            "(Σλ)²/Σλ² of the covariance of ẑ: directions that carry the variance",
            collapse.participation_ratio,
            healthy="about 8 on digits, d = 128",
            collapsed="1-2",
            said="participation ratio {} of {d}",
            below=(4.0, 2.0),
            zero=True,
            places=("bar", "end", "picture", "curves", "page", "compared", "table", "results", "dots"),
        ),
        Metric(
            "loss",
            "loss",
            "loss",
            3,
            "the training loss: the mean since the previous line; in summary.json, the mean of the last epoch",
            said="loss {}",
            group="training",
            places=("bar", "end", "picture", "page", "compared", "results"),
        ),
        Metric(
            "between_share",
            "ρ_b",
            "share of the variance of ẑ between images",
            3,
            "ρ_b, share of the variance of ẑ that lies between images; 8 views. At the end",
            healthy="> 0.3",
        ),
        Metric(
            "prediction_quality",
            "q",
            "agreement of p with the other view",
            3,
            "q = a(p, z′)/a(z, z′), a being the mean cosine of two views of the same image less that of different "
            "images. At the end",
            healthy="about 1",
        ),
        Metric(
            "knn_acc1",
            "kNN",
            "kNN accuracy of the backbone",
            3,
            "kNN on backbone features, cosine, `--knn-k` 20, `--knn-t` 0.1; test images, BN in eval mode. On digits "
            "random weights already score 0.94: collapse of z hardly shows here",
            group="accuracy",
            seldom=True,
            places=("bar", "picture", "curves", "page", "compared", "table", "results", "dots"),
        ),
        Metric(
            "probe_acc1",
            "online probe",
            "accuracy of the online probe",
            3,
            "`--online-probe`: a linear classifier that learns beside, SGD of base lr 0.1, from the backbone's "
            "features of each step's first views, BN in eval mode, standardised; test images. It lags behind a "
            "classifier fitted to the final features (`emsiam.evaluate linear`)",
            group="accuracy",
            seldom=True,
        ),
        Metric(
            "knn_z_acc1",
            "kNN of z",
            "kNN accuracy of z",
            3,
            "kNN on z, as `knn_acc1` on the backbone's features, from the same passes. It shows losses in z "
            "that kNN of the backbone hides",
            group="accuracy",
            seldom=True,
            places=("compared",),
        ),
        Metric(
            "p_std_ratio",
            "std·√d of p",
            "std of p̂ · √d",
            3,
            "`z_std_ratio` of p, the predictions; without h it is that of z. Measured at evaluations",
            of_p=collapse.z_std_ratio,
            healthy="1",
            collapsed="0",
            zero=True,
            seldom=True,
            places=("compared",),
        ),
        Metric(
            "p_participation_ratio",
            "PR of p",
            "rank: participation ratio of p̂",
            1,
            "`participation_ratio` of p; without h it is that of z. Measured at evaluations",
            of_p=collapse.participation_ratio,
            healthy="as that of z",
            collapsed="1-2",
            zero=True,
            seldom=True,
            places=("compared",),
        ),
        Metric("r_h", "R of h", "R of h", 2, "see `r_h` in the table below", group="alternation", places=("results",)),
    )
)
MEASURED = tuple(m for m in METRICS.values() if m.of is not None)
OF_P = tuple(m for m in METRICS.values() if m.of_p is not None)
CRITERIA = {f"{m.name} < {bound:g}": (m.name, bound) for m in METRICS.values() for bound in m.below}


COLUMNS = {
    "lr": "training",
    "epoch": "training",
    "seconds": "speed",
    "images_per_second": "speed",
}  # beside them: a group


def group(column: str) -> str:
    """Where TensorBoard shows a column of metrics.jsonl; of an alternation is what is neither above nor a metric."""
    return METRICS[column].group if column in METRICS else COLUMNS.get(column, "alternation")


def shown_in(place: str) -> list[Metric]:
    """The metrics of one of PLACES, in the order of the table."""
    if place not in PLACES:
        raise KeyError(place)
    return [m for m in METRICS.values() if place in m.places]


def training_order(metrics: list[Metric]) -> list[Metric]:
    """The order in which a training is shown: what is minimised comes first."""
    return sorted(metrics, key=lambda m: m.name != "loss")


def heading(name: str) -> tuple[str, int]:
    """How a number of a result is called, and its digits: a metric, or the accuracy of an evaluation under its name."""
    return (METRICS[name].short, METRICS[name].digits) if name in METRICS else (name, 3)
