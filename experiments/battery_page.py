"""What does the battery say? docs/battery.md: its results, sorted by what a reader asks. Made by its command."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .battery import SIMSIAM
from .report import span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = """# The battery: every way to solve for η, with and without h

Made by `python -m experiments.battery` from results/battery.runs.jsonl; nothing here is typed by hand. Each solver of
[solvers.md](solvers.md) is trained from the same weights, on the same images and draws of T, at a constant learning
rate, so that all have the same sum of learning rates: digits (8×8), 1,320 steps, 5 seeds; 1,280 images of Fashion-MNIST
at 14×14, 960 steps, 3 seeds. `python -m experiments.battery --eta FILE.py:FUNCTION` puts a solver of yours among them.

How to read the tables. Intervals are 95 %, by t over seeds.

- *rank*: the participation ratio (PR) of z on the probe set over that of SimSiam of the same seed at the same step.
  `kept`: its interval at the end lies above one half, and the PR at the end is at least 0.9 of that at two thirds of
  the run. `falling`: above one half, but less than that. `lost`: the interval lies below one half. `undecided`: it
  contains one half. The rule was written before the runs.
- *lost at*: when the PR is, from then on, below half of SimSiam's: the step, over seeds, and its mean in lags of the
  solver's formula and as the sum of learning rates until then.
- *std of z, of p*: std·√d of the unit vectors; 1 is healthy, 0 collapsed. Without h, p is z.
- *kNN of z*, *linear*: accuracy on test images, of z by 20 neighbours and of the backbone by ridge regression; beside
  them the difference to SimSiam and to untrained weights, by pairs of seeds.
- *passes*, *memory*, *time*: forward passes of F for each trained view beside the θ-step's, MiB beside the network, and
  the time of a step over SimSiam's, each measured alone, one after the other, in one thread.
"""
ORDER = {"kept": 0, "falling": 1, "undecided": 2, "lost": 3, "diverged": 4}


def text(made: Mapping[str, Any]) -> str:
    """The text of docs/battery.md."""
    parts = [HEAD.rstrip()]
    for h in (False, True):
        question = "Which of them, without h, keeps its rank?" if not h else "And with h?"
        parts.append(f"## {question}")
        for name, result in made.items():
            parts.append(f"### {name}\n\n{answer(result, h)}\n\n{table(result, h)}")
    parts.append("![The rank of z at the end](../results/battery.png)")
    return "\n\n".join(parts) + "\n"


def of(result: Mapping[str, Any], h: bool) -> list[dict[str, Any]]:
    """The solvers with h, or without, those that keep their rank first, and among equals by their rank."""
    return sorted((s for s in result["solvers"] if s["h"] == h), key=place)


def place(s: Mapping[str, Any]) -> tuple[int, float]:
    ratio = s.get("rank_of_simsiam")
    return ORDER[s["rank"]], -ratio["mean"] if ratio else math.inf


def answer(result: Mapping[str, Any], h: bool) -> str:
    """How many of each, by name."""
    found: dict[str, list[str]] = {}
    for s in of(result, h):
        found.setdefault(s["rank"], []).append(f"`{s['name']}`")
    return " ".join(f"{rank.capitalize()}: {', '.join(names)}." for rank, names in found.items())


COLUMNS = (
    "rank",
    "PR over SimSiam's",
    "lost at",
    "std of z",
    "std of p",
    "PR of p",
    "kNN of z",
    "linear",
    "passes, memory, time",
)


def table(result: Mapping[str, Any], h: bool, mine: str = "") -> str:
    """The solvers as a table; mine: a name that is shown in bold."""
    lines = [f"| η | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
    for s in of(result, h):
        name = f"**{s['name']}**" if s["name"] == mine else f"`{s['name']}`"
        if s["rank"] == "diverged":
            lines.append(f"| {name} | diverged |" + " |" * (len(COLUMNS) - 1))
            continue
        cells = [s["rank"], span(s["rank_of_simsiam"], 2), lost(s)]
        cells += [span(s["z_std_ratio"], 2), span(s["p_std_ratio"], 2), span(s["p_participation_ratio"], 1)]
        cells += [accuracy(s, n) for n in ("knn_z_acc1", "linear")]
        cells.append(f"{s['forwards']:g}, {s['memory'] / 2**20:.1f}, {s['time_over_simsiam']:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lost(s: Mapping[str, Any]) -> str:
    """When, in three clocks."""
    if not s["lost_at_step"]:
        return "" if s["lost_in"].startswith("0") else f"in {s['lost_in']} seeds"
    lags = f", {s['lost_at_lags']:.1f} lags" if s["lost_at_lags"] else ""
    return f"step {span(s['lost_at_step'], 0)}{lags}, Σlr {s['lost_at_sum_lr']:.1f}"


def accuracy(s: Mapping[str, Any], name: str) -> str:
    """An accuracy, and its differences to SimSiam and to untrained weights."""
    parts = [span(s[name], 3)]
    for what, key in (("SimSiam", "against_simsiam"), ("untrained", "against_untrained")):
        d = s[key][name]
        interval = f" ({d['low']:+.3f} to {d['high']:+.3f})" if d["low"] is not None and math.isfinite(d["low"]) else ""
        parts.append(f"{what} {d['mean']:+.3f}{interval}")
    return "; ".join(parts)


def beside(made: Mapping[str, Any], others: Mapping[str, Any], mine: str) -> str:
    """A solver among the committed others."""
    parts = []
    for name, result in made.items():
        known = [s for s in others.get(name, {}).get("solvers", []) if s["name"] != mine]
        own = [s for s in result["solvers"] if s["name"] == mine]
        base = [] if known else [s for s in result["solvers"] if s["name"] == SIMSIAM]
        both = {**result, "solvers": [*known, *base, *own]}
        for h in (False, True):
            if any(s["h"] == h for s in own):
                parts.append(f"{name}, {'with' if h else 'without'} h\n\n{table(both, h, mine)}")
    return "\n\n".join(parts)


def picture(made: Mapping[str, Any]) -> "Figure":
    """The rank of z at the end over SimSiam's, a line a solver, with h and without."""
    import seaborn as sns
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.8):
        figure = Figure(figsize=(6.5 * len(made), 8.5), layout="constrained")
        axes = figure.subplots(1, len(made), squeeze=False)[0]
        for axis, (name, result) in zip(axes, made.items(), strict=True):
            names = ordered(result)
            for h, colour, shift in ((False, "C1", 0.15), (True, "C0", -0.15)):
                label = "with h" if h else "without h"
                for s in of(result, h):
                    ratio = s.get("rank_of_simsiam")
                    if not ratio:
                        continue
                    y = names.index(s["name"]) + shift
                    low, high = (ratio["mean"] if ratio[end] is None else ratio[end] for end in ("low", "high"))
                    axis.plot([low, high], [y, y], color=colour, linewidth=1.5)
                    axis.plot(ratio["mean"], y, "o", color=colour, markersize=5, label=label)
                    label = "_"
            axis.axvline(0.5, color="0.3", linestyle="--", linewidth=1)
            axis.set(title=name, xlabel="participation ratio of z over SimSiam's, at the end", xscale="log")
            axis.set(yticks=range(len(names)), yticklabels=names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.legend(loc="lower right")
    return figure


def ordered(result: Mapping[str, Any]) -> Sequence[str]:
    """Names by the rank without h, then with it."""
    return list(dict.fromkeys(s["name"] for h in (False, True) for s in of(result, h)))
