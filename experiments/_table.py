"""How do runs become a table? Rows, intervals, differences of pairs, and where the paper says otherwise."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas

from emsiam.diagnostics.statistics import difference, mean_interval
from emsiam.diagnostics.verdict import BEFORE
from emsiam.files import plain
from emsiam.metrics import heading, shown_in

from ._jobs import NUMERICS, Job
from ._records import ENVIRONMENT, Records
from ._records import table as curves_of

METRICS = ("knn_acc1", *(m.name for m in shown_in("results") if m.name != "knn_acc1"))  # the outcome comes first


KINDS = {  # of failure, by the verdict that shows it
    "healthy": "",
    "dimensional collapse": "collapse",
    "complete collapse": "collapse",
    "not converging": "slow or stuck",
    "diverged": "diverges",
    "undecided": "undecided",
    "too early to say": "too early to say",
}
UNKNOWN = (KINDS["undecided"], KINDS["too early to say"])


NO_TABLE = "The paper has no such table."
ACCURACY_ALONE = "the paper reports an accuracy of this row, no rank"


class Row(NamedTuple):
    """One line of a table."""

    name: str
    options: Mapping[str, Any] = MappingProxyType({})  # of `emsiam.Config`, all others at their defaults
    paper: float | None = None  # its number, where it has this row
    fails: str | None = None  # how it fails there, as in KINDS; with a number and without this, it does not
    against: str = ""  # the row it is compared with, by default the first
    # after training: metric -> task of `emsiam.evaluate` and its options, whose top-1 it is
    evaluations: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType({})


def tabulate(
    text: str,
    rows: Sequence[Row],
    table: Sequence[Sequence[Job]],
    records: Records,
    metrics: Sequence[str] = METRICS,
    by: str = "knn_acc1",
    curve: str | None = None,
) -> dict[str, Any]:
    """The result of an experiment, as it is written; docs/tables.md has the fields."""
    runs = {row.name: [records.known[job.key] for job in line] for row, line in zip(rows, table, strict=True)}
    summaries = {
        row.name: [found.measured(job.asked) for found, job in zip(runs[row.name], line, strict=True)]
        for row, line in zip(rows, table, strict=True)
    }
    made = []
    for row, line in zip(rows, table, strict=True):
        ended, baseline = summaries[row.name], row.against or rows[0].name
        entry: dict[str, Any] = {"name": row.name, "config": {**row.options}, "paper": row.paper}
        entry["fails"] = "" if row.fails is None and row.paper is not None else row.fails
        entry |= {"baseline": baseline, "metrics": {}, "difference": {}}
        for metric in metrics:
            values, base = (_values(of, metric) for of in (ended, summaries[baseline]))
            if len(values) == len(ended):
                entry["metrics"][metric] = mean_interval(values)
                if row.name != baseline and len(base) == len(ended):
                    entry["difference"][metric] = difference(base, values, paired=True)._asdict()
        if curve and (lines := curves_of(runs[row.name], curve)):
            entry["curve"] = mean_curve(lines, curve)
        entry["verdicts"] = dict(Counter(s["verdict"] for s in ended))
        kinds = Counter(KINDS[s["verdict"]] for s in ended)
        entry["failed"] = max(kinds, key=lambda kind: (kinds[kind], kind))  # of as many a failure
        entry["runs"] = [
            {"seed": seed, "key": job.key, "summary": s} for seed, (job, s) in enumerate(zip(line, ended, strict=True))
        ]
        made.append(entry)
    claim = " ".join(text.partition("\n\n")[0].split())
    decides = " ".join(text.partition("What would settle it:")[2].partition("\nCommand:")[0].split())
    of_ours = " ".join(text.partition("Here:")[2].partition("\nWhat would settle it:")[0].split())
    environments = [found.environment for line in runs.values() for found in line]
    kept = {n: ", ".join(sorted({e[n] for e in environments})) for n in ENVIRONMENT}
    untrained = mean_interval([s["knn_acc1_init"] for s in summaries[rows[0].name]])
    head = {
        "claim": claim,
        "here": of_ours,
        "untrained_knn_acc1": untrained,
        "date": max(found.date for line in runs.values() for found in line),
        "numerics": NUMERICS,
        "verdict_rule": ", ".join(sorted({s.get("verdict_rule", BEFORE) for of in summaries.values() for s in of})),
        "by": by,
        "environment": kept,
    }
    has = any(row.paper is not None or row.fails is not None for row in rows)
    said = differs(made, by) if has else []
    agree = "Direction and kind of failure agree with the paper in every row."
    agrees = "\n".join(said) or (agree if has else NO_TABLE)
    return plain(head | {"rows": made, "agrees": agrees, "decides": decides if said or not has else ""})


def mean_curve(tables: Sequence[pandas.DataFrame], column: str) -> dict[str, Any]:
    """Over epochs: mean and interval of a column, runs being logged at the same epochs."""
    spans = [mean_interval(values) for values in zip(*(table[column] for table in tables), strict=False)]
    epochs = tables[0]["epoch"].tolist()[: len(spans)]
    return {"of": column, "epoch": epochs, **{n: [span[n] for span in spans] for n in ("mean", "low", "high")}}


def _values(summaries: Sequence[dict[str, Any]], metric: str) -> list[float]:
    """The values that there are: what a run had before it diverged is not its result."""
    return [s[metric] for s in summaries if s["verdict"] != "diverged" and s.get(metric) is not None]


def differs(rows: Sequence[dict[str, Any]], by: str = "knn_acc1") -> list[str]:
    """Where direction, by accuracy against the baseline, or kind of failure are not the paper's, or are not seen."""
    said = []
    papers = {row["name"]: row["paper"] for row in rows}
    for row in rows:
        seen = ", ".join(f"{verdict} {n}" for verdict, n in row["verdicts"].items())
        kinds = [kind or "no failure" for kind in (row["failed"], row["fails"])]
        if row["failed"] in UNKNOWN:
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}).")
        elif row["fails"] is None and row["failed"]:
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}); the paper does not have it.")
        elif row["fails"] == "" and row["failed"] == "collapse":
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}), by std and rank; {ACCURACY_ALONE}.")
        elif row["fails"] is not None and row["failed"] != row["fails"]:
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}), {kinds[1]} in the paper.")
        moved, base = row["difference"].get(by), papers[row["baseline"]]
        if moved is None or row["paper"] is None or base is None or math.isnan(moved["p"]):
            continue
        points = row["paper"] - base
        span = f"{moved['mean']:+.3f} ({moved['low']:+.3f} to {moved['high']:+.3f})"
        ours = f"{row['name']}: {heading(by)[0]} {span} here"
        theirs = f"accuracy {points:+.1f} points in the paper"
        none = moved["low"] <= 0 <= moved["high"]
        if points and none:
            half = (moved["high"] - moved["low"]) / 2
            said.append(f"{ours}: no significant difference (the interval is ±{half:.3f}); {theirs}.")
        elif not none and points * moved["mean"] <= 0:
            said.append(f"{ours}, {theirs}.")
    return said
