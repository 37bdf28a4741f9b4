"""What does the battery say? docs/battery.md: its results, sorted by what a reader asks. Made by its command."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._battery import ACCURACIES, HALF, SIMSIAM
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
- *lost at*: when the PR is, from then on, below half of SimSiam's: the step, mean and range over seeds, and the mean
  in lags of the solver's formula and as the sum of learning rates until then. A step is a multiple of 20, as the PR is
  looked at then.
- *std*: std·√d of the unit vectors; 1 is healthy, 0 collapsed. Where it is near 0 the PR is that of noise, and says
  nothing. Without h, p is z.
- *kNN*, *linear*: accuracy on test images, of z by 20 neighbours and of the backbone by ridge regression, in points
  above or below SimSiam's and those of untrained weights, by pairs of seeds.
"""
ORDER = {"kept": 0, "falling": 1, "undecided": 2, "lost": 3, "diverged": 4}


def text(made: Mapping[str, Any]) -> str:
    """The text of docs/battery.md."""
    parts = [HEAD.rstrip(), "![The rank of z at the end](../results/battery.png)"]
    for h in (False, True):
        parts.append("## And with h?" if h else "## Which of them, without h, keeps its rank?")
        for name, result in made.items():
            parts.append(f"### {name}\n\n{answer(result, h)}\n\n{anchors(result)}\n\n{table(result, h)}")
    parts.append(f"## What does each cost?\n\n{COST}")
    parts += [f"### {name}\n\n{costs(result)}" for name, result in made.items()]
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


def anchors(result: Mapping[str, Any]) -> str:
    """What the differences are taken to."""
    base, start = simsiam(result), result["untrained"]
    known = [
        f"{where} {100 * of['knn_z_acc1']['mean']:.1f} and {100 * of['linear']['mean']:.1f}"
        for where, of in (("of SimSiam", base), ("of untrained weights", start))
    ]
    rank = base["participation_ratio"]["mean"]
    return f"kNN and linear accuracy in %: {', '.join(known)}. PR of SimSiam's z: {rank:.1f}."


def simsiam(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(s for s in result["solvers"] if s["name"] == SIMSIAM and s["h"])


def table(result: Mapping[str, Any], h: bool, mine: str = "") -> str:
    """The solvers as a table; mine: a name that is shown in bold."""
    columns = ["η", "rank", "PR over SimSiam's", "lost at", "std of z"]
    columns += ["std of p", "PR of p"] if h else []
    columns += [f"{what}, over {base}" for what in ("kNN", "linear") for base in ("SimSiam", "untrained")]
    lines = [row(columns), row(["---"] * len(columns))]
    for s in of(result, h):
        cells = [shown(s, mine), s["rank"]]
        if s["rank"] != "diverged":
            cells += [span(s["rank_of_simsiam"], 2), lost(s), span(s["z_std_ratio"], 2)]
            cells += [span(s["p_std_ratio"], 2), span(s["p_participation_ratio"], 1)] if h else []
            cells += [points(s[base][n]) for n in ACCURACIES for base in ("against_simsiam", "against_untrained")]
        lines.append(row(cells + [""] * (len(columns) - len(cells))))
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(s: Mapping[str, Any], mine: str) -> str:
    return f"**{s['name']}**" if s["name"] == mine else f"`{s['name']}`"


COST = """\
*Lag*: mean age of η in steps, and *views*, the views whose mean would vary as much, by the solver's formulas, where it
has them. *Passes*: forward passes of F for each trained view beside the θ-step's. *Memory*: MiB beside the network.
*Time*: that of a step over SimSiam's, each measured alone, one after the other, in one thread, once: a difference
below about 0.2 says nothing."""


def costs(result: Mapping[str, Any], mine: str = "") -> str:
    """What each solver needs: the same with h and without, but for the time."""
    lines = [row(["η", "lag", "views", "passes", "memory", "time", "time without h"]), row(["---"] * 7)]
    found: dict[str, dict[bool, Any]] = {}
    for s in result["solvers"]:
        if "time_over_simsiam" in s:
            found.setdefault(s["name"], {})[s["h"]] = s
    for ways in found.values():
        s = next(iter(ways.values()))
        told = ["" if s.get(n) is None else f"{s[n]:.3g}" for n in ("lag", "views", "forwards")]
        memory = "" if s.get("memory") is None else f"{s['memory'] / 2**20:.1f}"
        times = [f"{ways[h]['time_over_simsiam']:.2f}" if h in ways else "" for h in (True, False)]
        lines.append(row([shown(s, mine), *told, memory, *times]))
    return "\n".join(lines)


def lost(s: Mapping[str, Any]) -> str:
    """When, in three clocks."""
    steps = s["lost_at_steps"]
    if s["lost_at_step"] is None:
        return f"in {s['lost_in']} seeds" if steps else ""
    lags = f", {s['lost_at_lags']:.1f} lags" if s["lost_at_lags"] else ""
    return f"step {s['lost_at_step']:.0f} ({min(steps):.0f} to {max(steps):.0f}){lags}, Σlr {s['lost_at_sum_lr']:.1f}"


def points(d: Mapping[str, Any]) -> str:
    """A difference of accuracies, in points."""
    if d["low"] is None or not math.isfinite(d["low"]):
        return f"{100 * d['mean']:+.1f}"
    return f"{100 * d['mean']:+.1f} ({100 * d['low']:+.1f} to {100 * d['high']:+.1f})"


def beside(made: Mapping[str, Any], others: Mapping[str, Any], mine: str) -> str:
    """A solver among the committed others, and what it costs."""
    parts = []
    for name, result in made.items():
        known = [s for s in others.get(name, {}).get("solvers", []) if s["name"] != mine]
        own = [s for s in result["solvers"] if s["name"] == mine]
        base = [] if known else [s for s in result["solvers"] if s["name"] == SIMSIAM]
        both = {**result, "solvers": [*known, *base, *own]}
        for h in (False, True):
            if any(s["h"] == h for s in own):
                parts.append(f"{name}, {'with' if h else 'without'} h. {anchors(result)}\n\n{table(both, h, mine)}")
        parts.append(costs({"solvers": [simsiam(result), *own]}, mine))
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
            axis.axvline(HALF, color="0.3", linestyle="--", linewidth=1, label="the rule's bound, one half")
            axis.set(title=name, xlabel="participation ratio of z over SimSiam's, at the end", xscale="log")
            axis.set_xticks(ticks := [0.1, 0.2, 0.5, 1, 2, 5, 10], map(str, ticks))
            axis.set_xticks([], minor=True)
            axis.set(yticks=range(len(names)), yticklabels=names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.legend(loc="lower right")
    return figure


def ordered(result: Mapping[str, Any]) -> Sequence[str]:
    """Names by the rank without h, then with it."""
    return list(dict.fromkeys(s["name"] for h in (False, True) for s in of(result, h)))
