"""python -m emsiam.compare: how do runs move, and where do they part? A table, comparison.json, .png and .html."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Parser, command
from .config.rules import PATH
from .errors import ConfigError, one_line, printable
from .files import replacing, write_json

if TYPE_CHECKING:
    from .runs.run import Run


def compare(runs: "Sequence[Run]") -> dict[str, Any]:
    """What can be said of two or more runs, see `emsiam.comparison.compare.compare`. Raises ConfigError."""
    from .comparison import compare as module

    return module.compare(runs)


def report(result: dict[str, Any]) -> str:
    """The comparison in a screen of text."""
    from .diagnostics.statistics import spelled
    from .metrics import CRITERIA, METRICS, shown_in

    criterion, (collapsing, bound) = next(iter(CRITERIA.items()))
    metrics = {m.name: m for m in shown_in("table")}
    heads = [m.short for m in metrics.values()]
    rows: list[tuple[str, ...]] = [("run", "verdict", *heads, f"{METRICS[collapsing].short} < {bound:g} at step")]
    sets = list(dict.fromkeys(run["dataset"] for run in result["runs"]))
    for run in sorted(result["runs"], key=lambda run: sets.index(run["dataset"])):
        s, onset = run["summary"], run["steps_to_collapse"][criterion]
        cells = [m.written(s[n]) if s.get(n) is not None else "-" for n, m in metrics.items()]
        data = (run["dataset"],) if len(sets) > 1 else ()
        rows.append((*data, run["name"], s["verdict"], *cells, "never" if onset is None else f"{onset:,}"))
    if len(sets) > 1:
        rows[0] = ("data set", *rows[0])
    lines = _columns(rows)
    lines += _rules(result["runs"])
    if unlabelled := [run["name"] for run in result["runs"] if "knn_acc1" not in run["summary"]]:
        lines.append(f"accuracies are left out of {', '.join(map(printable, unlabelled))}: there are no labels")
    if any(len(group["runs"]) > 1 for group in result["groups"]):
        rows = [("group", "n", *heads)]
        for group in (group for group in result["groups"] if len(group["runs"]) > 1):
            spans = (spelled(group["metrics"][n], m.digits) for n, m in metrics.items())
            rows.append((group["name"], str(len(group["runs"])), *spans))
        lines += ["", *_columns(rows)]
    if result["differences"] and any(math.isfinite(d["p"]) for d in result["differences"]):
        rows = [("difference", "metric", "mean and 95 % interval", "p", "could have shown")]
        set_of = {run["group"]: run["dataset"] for run in result["runs"]}
        first = {set_of[group["name"]]: group["name"] for group in reversed(result["groups"])}
        for d in result["differences"]:
            if d["a"] == first[set_of[d["a"]]] and d["metric"] in metrics and math.isfinite(d["p"]):
                design = "pairs" if d["paired"] else "groups"
                span = f"{d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}), {design}"
                rows.append((f"{d['b']} − {d['a']}", d["metric"], span, f"{d['p']:.3g}", f"{d['detectable']:.3f}"))
        lines += ["", *_columns(rows)]
    rows = [("pair", "CKA at the end", "parts at step", "")]
    pairs = [pair for pair in result["pairs"] if pair["same_images"]]
    for pair in sorted(pairs, key=lambda pair: not pair["paired"])[:20]:
        last = pair["cka"][max(pair["cka"])] if pair["cka"] else None
        kind = "paired" if pair["paired"] else "not paired"
        at = f"{pair['parts_at']:,}" if pair["parts_at"] is not None else "-"
        note = "; ".join(filter(None, (kind, pair["note"])))
        rows.append((f"{pair['a']} · {pair['b']}", f"{last:.3f}" if last is not None else "-", at, note))
    lines += ["", *_columns(rows)] if pairs else [""]
    if len(pairs) > 20:
        lines.append(f"… and {len(pairs) - 20} more pairs in comparison.json")
    if apart := len(result["pairs"]) - len(pairs):
        lines.append(f"z is not compared in {apart} pairs of runs that look at other images")
    if "updates" in result:
        updates = result["updates"]
        rows = [(f"updates from {updates['from']}, {updates['steps']:,} steps", "angle")]
        for one in updates["angles"]:
            moves = math.isfinite(one["angle"])
            rows.append((f"{one['a']} · {one['b']}", f"{one['angle']:.1f}°" if moves else "one does not move"))
        lines += ["", *_columns(rows), *(f"{name}: not from there, {why}" for name, why in updates["refused"].items())]
    return "\n".join(lines)


def _rules(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A line where verdicts are not by one rule."""
    from .diagnostics.verdict import BEFORE

    ended = {run["name"]: run["summary"] for run in runs if run["summary"]["verdict"] != "unfinished"}
    rules = {name: s.get("verdict_rule", BEFORE) for name, s in ended.items()}
    if len(known := sorted(set(rules.values()))) < 2:
        return []
    named = "; ".join(f"{rule}: {', '.join(n for n in rules if rules[n] == rule)}" for rule in known)
    return [f"verdicts are not by one rule, so do not compare them ({printable(named)}); emsiam.diagnose judges anew"]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}; allowed is a number of steps from 1")
    return int(text)


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(prog="python -m emsiam.compare", description="Compare the trajectories of runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    parser.add_argument(
        "--out", type=PATH.of_argument, default="comparison", help="directory for what is written. Default: comparison."
    )
    steps = "also compare the updates that each method makes from the first run's last checkpoint, in so many steps"
    parser.add_argument("--updates", type=_count, metavar="STEPS", help=steps)
    code = "a solver of your own in the runs, which --updates may run; once for each"
    parser.add_argument("--eta", action="append", default=[], metavar="FILE.py:FUNCTION", help=code)
    try:
        given = parser.parse_args(arguments)
        from .comparison.compare import compare, updates
        from .comparison.page import page
        from .plots import comparison
        from .runs.run import load_run

        runs = [load_run(path) for path in given.runs]
        result = compare(runs)
        if given.updates:
            groups = {group["name"]: group["runs"] for group in result["groups"]}
            names = [run["name"] for run in result["runs"]]
            result["updates"] = updates(runs, groups, names, given.updates, given.eta)
        out = Path(given.out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / "comparison.json", result, indent=1)
            with replacing(out / "comparison.png") as new:
                comparison(runs, result).savefig(new, dpi=120, format="png")
            with replacing(out / "comparison.html") as new:
                new.write_text(page(runs, result))
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from error
    except ConfigError as error:
        print(f"emsiam.compare: {one_line(error)}", file=sys.stderr)
        return 2
    print(report(result))
    print("", *(out / f"comparison.{kind}" for kind in ("json", "png", "html")), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
