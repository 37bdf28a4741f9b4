"""python -m experiments.report [--results DIR] [--out FILE]: RESULTS.md and pictures from the results there."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = {  # metric: heading, digits
    "knn_acc1": ("kNN", 3),
    "z_std_ratio": ("std·√d", 3),
    "participation_ratio": ("PR", 1),
    "loss": ("loss", 3),
    "r_h": ("R of h", 2),
}
HEAD = """# Results

Made by `python -m experiments.report` from results/*.json; nothing here is typed by hand. Mean (95 % interval, t) over
seeds; the difference in kNN to the first row is that of pairs of the same seed, with its interval and p. Paper:
ImageNet, linear top-1 after 100 epochs.
"""


def span(found: dict[str, Any] | None, digits: int) -> str:
    """Mean and interval in text."""
    if not found:
        return ""
    if found["low"] is None:
        return f"{found['mean']:.{digits}f}"
    return f"{found['mean']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def table_of(result: dict[str, Any]) -> str:
    """One experiment as a table in Markdown."""
    used = [m for m in COLUMNS if any(m in row["metrics"] for row in result["rows"])]
    lines = ["| | paper | " + " | ".join(COLUMNS[m][0] for m in used) + " | kNN − first row | p | verdicts |"]
    lines.append("|" + "---|" * (len(used) + 5))
    for row in result["rows"]:
        cells = [row["name"], "" if row["paper"] is None else f"{row['paper']:g}"]
        cells += [span(row["metrics"].get(m), COLUMNS[m][1]) for m in used]
        moved = row["difference"].get("knn_acc1")
        cells += [span(moved, 3), f"{moved['p']:.2g}" if moved and moved["p"] is not None else ""]
        cells.append(", ".join(f"{verdict} {n}" for verdict, n in row["verdicts"].items()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def section(name: str, result: dict[str, Any]) -> str:
    """One experiment in RESULTS.md."""
    e = result["environment"]
    seeds = len(result["rows"][0]["runs"])
    ran = f"{seeds} seeds, {e['device']}, torch {e['torch']}, commit {e['commit']}, {result['date']}"
    return "\n\n".join(
        (
            f"## `python -m experiments.{name}`",
            result["claim"],
            table_of(result),
            f"Against the paper: {result['agrees']}",
            f"![{name}](results/{name}.png)",
            f"*{ran}.*",
        )
    )


def picture(result: dict[str, Any]) -> "Figure":
    """A row a line: each run a dot, mean and interval a bar."""
    import seaborn as sns
    from matplotlib.figure import Figure

    rows = result["rows"]
    shown = ("knn_acc1", "z_std_ratio", "participation_ratio")
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9):
        figure = Figure(figsize=(13, 1.1 + 0.45 * len(rows)), layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(shown), sharey=True), shown, strict=True):
            for y, row in enumerate(rows):
                values = [run["summary"][metric] for run in row["runs"] if run["summary"][metric] is not None]
                axes.plot(values, [y] * len(values), "o", color="0.6", markersize=4)
                found = row["metrics"].get(metric)
                if found:
                    low, high = (found[end] if found[end] is not None else found["mean"] for end in ("low", "high"))
                    axes.plot([low, high], [y, y], color="C0", linewidth=2)
                    axes.plot(found["mean"], y, "|", color="C0", markersize=14, markeredgewidth=2)
            axes.set(title=COLUMNS[metric][0], yticks=range(len(rows)), yticklabels=[row["name"] for row in rows])
            axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def report(results: Path) -> str:
    """The text of RESULTS.md."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(results.glob("*.json"))}
    return "\n\n".join([HEAD.rstrip(), *(section(name, result) for name, result in found.items())]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("RESULTS.md"))
    given = parser.parse_args()
    for file in sorted(given.results.glob("*.json")):
        picture(json.loads(file.read_text())).savefig(file.with_suffix(".png"), dpi=110)
    given.out.write_text(report(given.results))
    print(given.out)
