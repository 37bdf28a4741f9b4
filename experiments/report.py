"""python -m experiments.report: RESULTS.md and the pictures, from results/*.json."""

import argparse
import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emsiam.diagnostics.statistics import holm, spelled
from emsiam.metrics import heading, shown_in

from ._table import METRICS, NO_TABLE, UNKNOWN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = [m for m in METRICS if m in {dot.name for dot in shown_in("dots")}]  # in pictures
LEVEL = 0.05
NOT_SIGNIFICANT = "no significant difference"
PAPER = ("Fig. 2", "Table 1", "Table 2", "Table 3", "§4.5", "§4.6", "§5.2", "Table 4", "§6.2", "Appendix B", "Fig. D.1")
AGREES, DIFFERS, TOO_SMALL, NO_RANK, NO_VERDICT = OUTCOMES = (
    *("agree", "differ", "too small to see", "collapse here by rank", "undecided here"),
)
HEAD = """# Results

{summary}

*Each line: the row in which the paper's table has a failure, or else its largest difference to the baseline; the same
row here; how many rows agree with the paper (in the kind of failure, else in the sign of the difference in accuracy
to the baseline), how many differ, how many differences are too small to see at this size, and how many rows collapse
here by std and rank, of which the paper reports an accuracy alone ("collapse here by rank"). Whether SimSiam is
expectation-maximisation: [docs/hypothesis.md](docs/hypothesis.md).*

Made by `python -m experiments.report` from results/*.json; nothing here is typed by hand. Mean (95 % interval, t) over
seeds; the difference in kNN to the baseline, the first row unless another is named, is that of pairs of the same seed,
with its interval and p, which is not corrected for multiple tests. A difference that is not significant is not
equality: its interval says how large it may be. Rows of different tables are not compared, as the same options end in
other numbers on another processor. Paper: ImageNet, linear top-1 after 100 epochs, whose points are
no measure for differences here; [docs/paper_scale.md](docs/paper_scale.md) has the commands at its scale.
Here: scikit-learn's digits or generated images, also where the paper has CIFAR-10; each table says which. Verdicts are
by an [earlier rule](docs/numbers.md#the-earlier-rule-few-directions), by which a participation ratio below 4 is a
collapse, whether or not images are lost: that bound alone decides for SimSiam itself on generated images, for BYOL
without h and for the slowest moving average.
"""


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Results by experiment. Raises ValueError where there are none."""
    results = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    results = {name: result for name, result in results.items() if "rows" in result}
    if not results:
        raise ValueError(f"{folder} holds no results; python -m experiments.NAME makes them")
    return results


def span(interval: dict[str, Any] | None, digits: int) -> str:
    """Mean and interval in text; nothing where there is none."""
    return spelled(interval, digits) if interval else ""


def verdicts(row: dict[str, Any]) -> str:
    """How often each was given."""
    return ", ".join(f"{verdict} {n}" for verdict, n in row["verdicts"].items())


def spent(results: Iterable[dict[str, Any]]) -> str:
    """How many runs, and their time."""
    rows = [row for result in results for row in result["rows"]]
    seconds = {run["key"]: run["summary"]["seconds"] for row in rows for run in row["runs"]}
    return f"{len(seconds)} runs, {sum(seconds.values()) / 60:.0f} minutes of one thread"


def columns(result: dict[str, Any]) -> list[str]:
    """Metrics of a table, those that only it has first."""
    metrics = {m: None for row in result["rows"] for m in row["metrics"]}
    return [*(m for m in metrics if m not in METRICS), *(m for m in METRICS if m in metrics)]


def table_of(result: dict[str, Any]) -> str:
    """One experiment as a table in Markdown."""
    used = columns(result)
    judged = accuracies(result)
    heads = [heading(m)[0] for m in used] + [h for m in judged for h in (f"{heading(m)[0]} − baseline", "p")]
    lines = [f"| | paper | {' | '.join(heads)} | verdicts |", "|" + "---|" * (len(heads) + 3)]
    for row in result["rows"]:
        cells = [row["name"], "" if row["paper"] is None else f"{row['paper']:g}"]
        cells += [span(row["metrics"].get(m), heading(m)[1]) for m in used]
        for moved in map(row["difference"].get, judged):
            other = "" if not moved or row["baseline"] == result["rows"][0]["name"] else f", to {row['baseline']}"
            cells += [span(moved, 3) + other, f"{moved['p']:.2g}" if moved and moved["p"] is not None else ""]
        cells.append(verdicts(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def against(result: dict[str, Any]) -> str:
    """Where an experiment and the paper differ, what is seen where the paper has no number, what would decide it."""
    lines = result["agrees"].splitlines()
    listed = "\n".join(
        ["Where this differs from the paper, or cannot show what it has:\n", *(f"- {line}" for line in lines)]
    )
    parts = [listed if result["decides"] and lines != [NO_TABLE] else result["agrees"]]
    if apart := told_apart(result):
        parts.append(apart)
    if result["decides"]:
        parts.append(f"What would settle it: {result['decides']}")
    return "\n\n".join(parts)


def told_apart(result: dict[str, Any]) -> str:
    """Which rows without a number of the paper differ from those they are compared with, by each accuracy."""
    sentences = []
    for metric in accuracies(result):
        rows: dict[str, list[str]] = {"higher": [], "lower": [], NOT_SIGNIFICANT: []}
        for row in result["rows"]:
            if row["paper"] is None and (moved := row["difference"].get(metric)):
                low, high = (0 if moved[end] is None else moved[end] for end in ("low", "high"))  # None: of one seed
                rows["higher" if low > 0 else "lower" if high < 0 else NOT_SIGNIFICANT].append(f'"{row["name"]}"')
        ways = [f"{way} {', '.join(names)}" for way, names in rows.items() if names]
        if ways:
            sentences.append(f"{heading(metric)[0]}: {'; '.join(ways)}.")
    return (
        " ".join(["Rows without a number of the paper, against those they are compared with.", *sentences])
        if sentences
        else ""
    )


def accuracies(result: dict[str, Any]) -> list[str]:
    """The metrics whose differences are shown."""
    by = result.get("by", "knn_acc1")
    return [by, *(m for m in columns(result) if m not in METRICS and m != by)]


def section(name: str, result: dict[str, Any]) -> str:
    """One experiment in RESULTS.md."""
    e, seeds = result["environment"], len(result["rows"][0]["runs"])
    made = f"{e['device']}, torch {e['torch']}, commit {e['commit']}, numerics {result['numerics']}, {result['date']}"
    made += f', verdicts by the rule "{result["verdict_rule"]}"'
    untrained = f" Untrained weights have a kNN of {span(result['untrained_knn_acc1'], 3)}."
    return "\n\n".join(
        (
            f"## {title(result)}",
            f"The claim: {result['claim']}",
            f"`python -m experiments.{name}`",
            f"Here: {result['here']}{untrained if 'knn_acc1' in columns(result) else ''}",
            table_of(result),
            against(result),
            f"![{name}](results/{name}.png)",
            f"*{seeds} seeds, {spent([result])}; {made}.*",
        )
    )


def picture(result: dict[str, Any]) -> "Figure":
    """A row a line: each run a dot, mean and interval a bar."""
    import seaborn as sns
    from matplotlib.figure import Figure

    rows = result["rows"]
    shown = [m for m in columns(result) if m in SHOWN or m not in METRICS]
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9):
        heights = [3.5] * ("curve" in rows[0]) + [1.1 + 0.45 * len(rows)]
        whole = Figure(figsize=(13, sum(heights)), layout="constrained")
        parts = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        if len(heights) > 1:
            _curves(parts[0].subplots(), rows)
        for axes, metric in zip(parts[-1].subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
            for y, row in enumerate(rows):
                ended = [run["summary"] for run in row["runs"] if run["summary"]["verdict"] != "diverged"]
                values = [summary[metric] for summary in ended if summary[metric] is not None]
                axes.plot(values, [y] * len(values), "o", color="0.6", markersize=4)
                interval = row["metrics"].get(metric)
                if interval:
                    low, high = (
                        interval[end] if interval[end] is not None else interval["mean"] for end in ("low", "high")
                    )
                    axes.plot([low, high], [y, y], color="C0", linewidth=2)
                    axes.plot(interval["mean"], y, "|", color="C0", markersize=14, markeredgewidth=2)
            axes.set(
                title=heading(metric)[0],
                yticks=range(len(rows)),
                yticklabels=[row["name"] for row in rows],
            )
            axes.set_ylim(len(rows) - 0.5, -0.5)
    return whole


def _curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Mean and interval over training, a line a row."""
    for row in rows:
        curve = row["curve"]
        axes.plot(curve["epoch"], curve["mean"], label=row["name"])
        if curve["low"][0] is not None:
            axes.fill_between(curve["epoch"], curve["low"], curve["high"], alpha=0.2, linewidth=0)
    of = rows[0]["curve"]["of"]
    axes.set(title=f"{heading(of)[0]} during training", xlabel="epoch", xlim=(0, None))
    axes.legend()


def report(results: dict[str, dict[str, Any]]) -> str:
    """The text of RESULTS.md."""
    counted = f"All tables: {spent(results.values())}; tables share runs. {multiplicity(results)}"
    head = HEAD.format(summary=summary(results)) + textwrap.fill(counted, 118)
    return "\n\n".join([head, *(section(name, results[name]) for name in in_order(results))]) + "\n"


def place(result: dict[str, Any]) -> str:
    """Where the paper has a claim; nothing for what it does not have."""
    found = re.search(rf"\(({'|'.join(map(re.escape, PAPER))})\)", result["claim"])
    return found[1] if found else ""


def in_order(results: dict[str, dict[str, Any]]) -> list[str]:
    """The experiments in the paper's order, what it does not have at the end."""
    return sorted(results, key=lambda name: (PAPER.index(at) if (at := place(results[name])) else len(PAPER), name))


def title(result: dict[str, Any]) -> str:
    """The claim as a heading."""
    sentence = re.split(r": | \(|; ", result["claim"])[0].rstrip(".")
    return ": ".join(filter(None, (place(result), sentence)))


def anchor(heading: str) -> str:
    """As GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def outcome(row: dict[str, Any], base: dict[str, Any], by: str) -> str:
    """Whether a row agrees with the paper: in its failure, else in which way it differs from its baseline."""
    if row["failed"] in UNKNOWN:
        return NO_VERDICT
    if row["fails"] == "" and row["failed"] == "collapse":
        return NO_RANK
    if row["fails"] or (row["fails"] is not None and row["failed"] in ("diverges", "slow or stuck")):
        return AGREES if row["fails"] == row["failed"] else DIFFERS
    moved = row["difference"].get(by)
    if row["paper"] is None or base["paper"] is None or not moved or moved["p"] is None:
        return ""
    points = row["paper"] - base["paper"]
    if moved["low"] <= 0 <= moved["high"]:
        return TOO_SMALL if points else AGREES
    return AGREES if points * moved["mean"] > 0 else DIFFERS


def summary(results: dict[str, dict[str, Any]]) -> str:
    """A line for each table: the paper's largest difference, what it is here, and how many rows agree."""
    lines = [
        "| the paper says | its difference to the baseline | the same here | rows that agree or differ | |",
        "|---|---|---|---|---|",
    ]
    for name in in_order(results):
        result, by = results[name], results[name].get("by", "knn_acc1")
        rows = {row["name"]: row for row in result["rows"]}
        said = {row["name"]: outcome(row, rows[row["baseline"]], by) for row in result["rows"]}
        known = [rows[n] for n, what in said.items() if what]
        counts = ", ".join(f"{what} {n}" for what in OUTCOMES if (n := list(said.values()).count(what)))
        theirs = ours = "no such table" if not known else ""
        if known:
            most = max(known, key=lambda row: (bool(row["fails"]), abs(_points(row, rows))))
            points = f"{x:+.1f} points" if (x := _points(most, rows)) else ""
            theirs = f"{most['name']}: {', '.join(filter(None, (most['fails'], points)))}"
            moved = most["difference"].get(by)
            ours = ", ".join(filter(None, (most["failed"], f"{heading(by)[0]} {span(moved, 3)}" if moved else "")))
        text = title(result)
        cells = [text, theirs, ours, counts or "not compared", f"[table](#{anchor(text)})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _points(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> float:
    """The paper's difference in accuracy to the baseline."""
    base = rows[row["baseline"]]["paper"]
    return 0.0 if row["paper"] is None or base is None else row["paper"] - base


def multiplicity(results: dict[str, dict[str, Any]]) -> str:
    """How many differences are significant, and how many would be after Holm's correction over all tables."""
    p = {
        (name, row["name"], metric): moved["p"]
        for name, result in results.items()
        for row in result["rows"]
        for metric in accuracies(result)
        if (moved := row["difference"].get(metric)) and moved["p"] is not None
    }
    kept = sorted({f"{name}, {row}" for (name, row, _), x in holm(p).items() if x < LEVEL})
    few = sum(x < LEVEL for x in p.values())
    listed = "; ".join(kept) or "none"
    return f"Of {len(p)} differences {few} have p < {LEVEL:g}; after Holm's correction these remain: {listed}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("RESULTS.md"))
    given = parser.parse_args()
    try:
        results = load(given.results)
        text = report(results)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    for name, result in results.items():
        picture(result).savefig(given.results / f"{name}.png", dpi=110)
    given.out.write_text(text)
    print(given.out)
