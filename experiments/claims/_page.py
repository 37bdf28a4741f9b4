"""What do the claims say to a reader? docs/hypothesis.md in two pages, docs/claims.md with every cell and every row."""

import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from emsiam.config.options import of_role

from .._records import Record
from . import claims
from ._beside import ended, filled
from ._pictures import PICTURES
from ._rules import CONSTANT, LOST, RANK, READ, UNDECIDABLE

PROSE = Path(__file__).with_name("hypothesis.md")  # with a mark where the claims stand
REMARKS = Path(__file__).with_name("remarks.md")  # of all claims, then a section a claim
MARK = "<!-- claims -->"
DETAILS = f"""# The claims, cell by cell

Made by `python -m experiments.claims`; [hypothesis.md](hypothesis.md) says what they mean. Intervals are 95 % over
seeds: of differences by Welch's t, of single means by Student's, of counts by Clopper and Pearson. A bootstrap over
seeds and images stands beside where a run keeps what it needs, on digits in `one_loss` and `consistency`: other claims
compare looks whose single images were not kept. Images are *lost* where the accuracy of an output is
{100 * LOST:g} points or more below that of the same output of untrained weights; it is *constant* where its std·√d is
below {CONSTANT:g}; *rank falls* where the PR of z is below {RANK:g} of SimSiam's in the same setting after the same
steps. PR is left out where std·√d of z is below {READ:g}. A cell that counts runs passes by its count, not by its
interval."""


def said(claim: ModuleType, key: str) -> str:
    """What a claim's docstring has under a key, in one line."""
    text = inspect.getdoc(claim) or ""
    found = re.search(rf"^{key}: (.*?)(?=^[A-Z][\w ]*(?:\([^)]*\))?: |\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def number(x: float) -> str:
    return "" if math.isnan(x) else f"{x:+.3f}" if abs(x) < 10 else f"{x:.1f}"


def span(cell: Mapping[str, Any]) -> str:
    return f"{number(cell['mean'])} ({number(cell['low'])} to {number(cell['high'])})"


def worst(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The cell that decides: of those that fail, else are undecided, else pass, the one with the largest p."""
    for kind in ("fails", "undecided", "passes"):
        if cells := [cell for cell in entry["cells"] if cell["verdict"] == kind]:
            return max(cells, key=lambda cell: cell["p"])
    return None


def verdict(entry: Mapping[str, Any]) -> str:
    """In a word; where it is undecided, with how many cells pass."""
    if entry["verdict"] != "undecided":
        return entry["verdict"]
    counts = Counter(cell["verdict"] for cell in entry["cells"])
    rest = f", {n} {UNDECIDABLE}" if (n := counts[UNDECIDABLE]) else ""
    return f"undecided: {counts['passes']} of {counts.total()} cells pass, none fails{rest}"


def hypothesis(made: Mapping[str, Any], found: Mapping[str, str]) -> str:
    """The text of docs/hypothesis.md. found: the numbers of `_beside`."""
    lines = ["| claim | verdict | decided by | p (Holm) |", "|---|---|---|---|"]
    for name, entry in made.items():
        cell = worst(entry)
        if entry["p"] is None:
            continue
        decided = f"{cell['name']}: {span(cell)}, predicted {cell['predicted']}" if cell else ""
        p = f"{entry['holm']:.2g}" if cell else ""
        title = f"{entry['title'].rstrip('.')} ([`{name}`](claims.md#{name}))"
        lines.append(f"| {title} | {verdict(entry)} | {decided} | {p} |")
    meant = {name: meaning(claims()[name], entry) for name, entry in made.items()}
    lines += ["", *(f"- `{name}` {made[name]['verdict']}: {text}" for name, text in meant.items() if text)]
    text = PROSE.read_text().replace(MARK, "\n".join(lines).rstrip())

    def pictured(block: re.Match) -> str:
        return (
            block[2].strip()
            if drawn(block[1], made)
            else f"The picture `{block[1]}` is drawn once its claims are decided."
        )

    return filled(re.sub(r"<!-- picture (\w+) -->(.*?)<!-- /picture -->", pictured, text, flags=re.DOTALL), found)


def remarks() -> tuple[str, dict[str, str]]:
    """What is to be said of all rules, and {claim: what is to be said beside its rule}."""
    first, *parts = map(str.strip, re.split(r"^## (\w+)\n", REMARKS.read_text(), flags=re.MULTILINE))
    return first, dict(zip(parts[::2], parts[1::2], strict=True))


def readme(text: str, made: Mapping[str, Any], numbers: Mapping[str, str]) -> str:
    """The README with the table of claims, and the numbers in its sentences, of a claim or of `_beside`, made anew."""
    cells = {name: worst(entry) for name, entry in made.items()}
    found = {**numbers} | {
        name: span(cell).replace("+", "").replace("-", "−") if cell else made[name]["verdict"]
        for name, cell in cells.items()
    }
    rows = [
        f"| [{entry['title'].rstrip('.')}](docs/claims.md#{name}) | {verdict(entry)} |"
        for name, entry in made.items()
        if entry["p"] is not None
    ]
    found["claims"] = "\n".join(["", "| claim | verdict |", "|---|---|", *rows, ""])
    marked = r"<!-- (\w+) -->.*?<!-- /\1 -->"
    return re.sub(marked, lambda m: f"<!-- {m[1]} -->{found.get(m[1], '…')}<!-- /{m[1]} -->", text, flags=re.DOTALL)


def drawn(picture: str, made: Mapping[str, Any]) -> bool:
    """Whether all claims that a picture is of are decided."""
    return all(name in made and made[name]["cells"] for name in PICTURES[picture][1])


def meaning(claim: ModuleType, entry: Mapping[str, Any]) -> str:
    """What the verdict means, as it was written before the runs."""
    return (
        said(claim, f"{entry['verdict'].capitalize()} means")
        if entry["verdict"] in ("supported", "contradicted")
        else ""
    )


def details(
    made: Mapping[str, Any], groups: Mapping[str, Mapping[str, Sequence[Record]]], found: Mapping[str, str]
) -> str:
    """The text of docs/claims.md. found: the numbers of `_beside`."""
    of_all, beside = remarks()
    parts = [DETAILS, of_all]
    every = [run for of in groups.values() for runs in of.values() for run in ended(runs)]
    began = beginnings(every)
    for name, entry in made.items():
        claim = claims()[name]
        p = f", p = {entry['holm']:.2g} after Holm" if entry["holm"] is not None and entry["cells"] else ""
        parts.append(f"## `{name}`\n\n{entry['title']}\n\n*Verdict.* {entry['verdict'].capitalize()}{p}.")
        parts += [
            f"*{key}.* {text}" for key in ("Setting", "Outcome", "Cells", "Margins") if (text := said(claim, key))
        ]
        if not (changes := said(claim, "Changes")).startswith("none"):
            parts.append(f"*Changes.* {changes}")
        if entry["cells"]:
            parts.append(cells(entry["cells"]))
            if name in beside:
                parts.append(f"*Beside the rule.* {filled(beside[name], found)}")
        left = {group: ended(of) for group, of in groups[name].items()}
        shown = {group: runs for group, runs in left.items() if runs and "knn_z" in runs[0].summary}
        if rows := [row(group, runs, began, reference(runs, every)) for group, runs in shown.items()]:
            heads = [
                "steps",
                "A_z",
                "A_p",
                "A of the backbone",
                "linear",
                "std·√d of z",
                "of p",
                "PR of z",
                "what is lost",
            ]
            parts.append("\n".join([f"| runs | n | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 2), *rows]))
        left = [f"{entry['diverged']} runs diverged"] * bool(entry["diverged"])
        left += [f"{entry['other_rules']} runs were made before the rule as it is now"] * bool(entry["other_rules"])
        parts += [f"*{'; '.join(left)}.*"] * bool(left)
    return "\n\n".join(parts) + "\n"


def cells(found: Sequence[Mapping[str, Any]]) -> str:
    """Cells as a table."""
    lines = ["| cell | found | predicted | | bootstrap | |", "|---|---|---|---|---|---|"]
    for cell in found:
        note = re.sub(r"\binf\b", "not reached", cell["note"])
        both = f"{number(cell['bootstrap'][0])} to {number(cell['bootstrap'][1])}" if cell["bootstrap"] else ""
        lines.append(f"| {cell['name']} | {span(cell)} | {cell['predicted']} | {cell['verdict']} | {both} | {note} |")
    return "\n".join(lines)


def beginnings(runs: Sequence[Record]) -> dict[str, Mapping[str, float]]:
    """{what untrained weights follow from: kNN accuracies of their z and p}, of the runs that begin with these."""
    begun = [run for run in runs if "knn_z" in run.curves and run.curves["step"][0] == 0]
    return {weights(run): {of: run.curves[f"knn_{of}"][0] for of in ("z", "p")} for run in begun}


def weights(run: Record) -> str:
    """What the untrained weights of a run, and their accuracy, follow from."""
    names = *of_role("data"), *of_role("network"), "seed"
    return json.dumps([run.config["spec"]["change"], *map(run.config.get, names)])


def reference(runs: Sequence[Record], every: Sequence[Record]) -> float:
    """The mean PR of SimSiam in the same setting after the same steps; NaN where no claim has that."""

    def setting(run: Record) -> tuple[Any, ...]:
        options = (*of_role("data"), "lr", "schedule", "wd", "bn", "similarity", "symmetry", "batch_size")
        return run.config["spec"]["change"], run.summary["steps"], *map(run.config.get, options)

    def is_simsiam(run: Record) -> bool:
        return "pr_z" in run.summary and not {"eta", "m", "predictor"} & run.config["spec"]["options"].keys()

    found = {run.key: run.summary["pr_z"] for run in every if is_simsiam(run) and setting(run) == setting(runs[0])}
    return float(np.mean([*found.values()])) if found else math.nan


def row(group: str, runs: Sequence[Record], began: Mapping[str, Mapping[str, float]], simsiam: float) -> str:
    """Means of the last look of a group of runs. simsiam: see `reference`."""
    names = ("knn_z", "knn_p", "knn_backbone", "linear", "std_z", "std_p", "pr_z")
    values = {n: float(np.mean([r.summary[n] for r in runs])) for n in names}
    shown = [f"{values[n]:.3f}" for n in names[:4]] + [f"{values[n]:.2f}" for n in names[4:6]]
    shown.append(f"{values['pr_z']:.1f}" if values["std_z"] >= READ else "")
    words = fate(runs, values, began)
    if values["std_z"] >= READ and values["pr_z"] < RANK * simsiam:
        words.append("rank falls")
    steps = f"{np.mean([r.summary['steps'] for r in runs]):,.0f}"
    return f"| {group} | {len(runs)} | {steps} | {' | '.join([*shown, ', '.join(words)])} |"


def fate(runs: Sequence[Record], values: Mapping[str, float], began: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is lost, and what constant, of z and p at the end. began: see `beginnings`."""
    words = []
    for of in ("z", "p"):
        first = [began[weights(r)][of] for r in runs if weights(r) in began]
        if first and values[f"knn_{of}"] <= np.mean(first) - LOST:
            words.append(f"images of {of} lost")
        if values[f"std_{of}"] < CONSTANT:
            words.append(f"{of} constant")
    return words
