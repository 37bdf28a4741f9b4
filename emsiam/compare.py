"""python -m emsiam.compare: how do runs move, and where do they part? A table, comparison.json, .png and .html."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Parser, command
from .config.rules import PATH
from .errors import ConfigError, check_alone, printable, tell
from .files import replacing, write_json

if TYPE_CHECKING:
    from .runs.run import Run

SHOWN = 20  # pairs in the table


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
    when = f"{METRICS[collapsing].short} < {bound:g} at step"
    rows: list[tuple[str, ...]] = [("run", "verdict", "steps", *heads, when)]
    sets = list(dict.fromkeys(run["dataset"] for run in result["runs"]))
    for run in sorted(result["runs"], key=lambda run: sets.index(run["dataset"])):
        s, onset = run["summary"], run["steps_to_collapse"][criterion]
        cells = [m.written(s[n]) if s.get(n) is not None else "-" for n, m in metrics.items()]
        data = (run["dataset"],) if len(sets) > 1 else ()
        collapsed = "never" if onset is None else f"{onset:,}"
        rows.append((*data, run["name"], s["verdict"], f"{run['reached']:,}", *cells, collapsed))
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
    lines += ["", *_pairs(result)]
    if "updates" in result:
        updates = result["updates"]
        rows = [(f"updates from {updates['from']}, {updates['steps']:,} steps", "angle")]
        for one in updates["angles"]:
            moves = math.isfinite(one["angle"])
            rows.append((f"{one['a']} · {one['b']}", f"{one['angle']:.1f}°" if moves else "one does not move"))
        lines += [
            "",
            *_columns(rows),
            *(printable(f"{name}: not from there, {why}") for name, why in updates["refused"].items()),
        ]
    return "\n".join(lines)


def _pairs(result: dict[str, Any]) -> list[str]:
    """Every two runs on the same images in a line, and below them what holds for several pairs."""
    rows = [("pair", "CKA", "at step", "parts at step", "")]
    pairs = [pair for pair in result["pairs"] if pair["same_images"]]
    for pair in sorted(pairs, key=lambda pair: not pair["paired"])[:SHOWN]:
        last = max(pair["cka"], default=None)
        cka = ("-", "-") if last is None else (f"{pair['cka'][last]:.3f}", f"{last:,}")
        parts = f"{pair['parts_at']:,}" if pair["parts_at"] is not None else "-"
        rows.append((f"{pair['a']} · {pair['b']}", *cka, parts, "paired" if pair["paired"] else "not paired"))
    lines = _columns(rows) if pairs else []
    if len(pairs) > SHOWN:
        lines.append(f"… and {len(pairs) - SHOWN} more pairs in comparison.json")
    of = {run["name"]: run for run in result["runs"]}
    ends = [(of[pair["a"]], of[pair["b"]]) for pair in pairs]
    apart = [both for both in ends if both[0]["reached"] != both[1]["reached"]]
    if any(all(run["summary"]["verdict"] != "unfinished" for run in both) for both in apart):
        lines.append("runs of different length have different schedules of the learning rate, but for a constant one")
    if apart:
        lines.append(
            "z is compared at the snapshots that both runs of a pair have, and CKA is that of the last of them"
        )
    elsewhere: dict[str, list[str]] = {}
    for pair in pairs:
        if pair["unlike"]:
            elsewhere.setdefault(", ".join(pair["unlike"]), []).append(f"{pair['a']} · {pair['b']}")
    for unlike, found in elsewhere.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        lines.append(printable(f"other {unlike}: F begins elsewhere, in {found[0]}{more}"))
    if others := len(result["pairs"]) - len(pairs):
        lines.append(f"z is not compared in {others} pairs of runs that look at other images")
    return lines


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


def _found(given: Sequence[str]) -> list["Run"]:
    """The runs in directories, and for one that holds seed-0, seed-1 … these.

    A directory without a run is left out where two or more runs are left, and a line on stderr says so. Raises
    ConfigError where fewer are, for a path that is not there, and for a damaged run.
    """
    from .runs.run import load_run

    paths: list[str | Path] = []
    without: list[str] = []
    for path in given:
        at = Path(path).expanduser()
        seeds = sorted((file.parent for file in at.glob("seed-*/config.json")), key=lambda p: (len(p.name), p.name))
        if (at / "config.json").is_file() or not at.exists():
            paths.append(path)
        elif seeds:
            paths += seeds
        else:
            without.append(path)
    if without and len(paths) < 2:
        raise ConfigError(f"{without[0]}: holds no run (there is no config.json)")
    runs = [load_run(path) for path in paths]
    for path in without:
        print(printable(f"emsiam.compare: {path}: holds no run, and is left out"), file=sys.stderr)
    return runs


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(prog="python -m emsiam.compare", description="Compare the trajectories of runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, or DIR that holds seed-N")
    parser.add_argument(
        "--out", type=PATH.of_argument, default="comparison", help="directory for what is written. Default: comparison."
    )
    steps = "also compare the updates that each method makes from the first run's last checkpoint, in so many steps"
    parser.add_argument("--updates", type=_count, metavar="STEPS", help=steps)
    code = "a solver of your own in the runs, which --updates may run; once for each"
    parser.add_argument("--eta", action="append", default=[], metavar="FILE.py:FUNCTION", help=code)
    try:
        given = parser.parse_args(arguments)
        check_alone()
        from .comparison.compare import compare, updates
        from .comparison.page import page
        from .plots import comparison

        runs = _found(given.runs)
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
        tell("emsiam.compare", error)
        return 2
    print(report(result))
    print("", *(out / f"comparison.{kind}" for kind in ("json", "png", "html")), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
