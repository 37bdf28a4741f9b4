"""python -m experiments.claims [CLAIM …]: run what is not done, and decide.

Runs are recorded in results/claims.runs.jsonl as they end; what they decide is printed, and written to
results/claims.json.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from emsiam.config import command
from emsiam.diagnostics.statistics import holm
from emsiam.errors import ConfigError, nearest, one_line
from emsiam.files import write_json

from .._jobs import INTERRUPTED, anew, asked, at_work, recorded
from .._records import Record, Records
from . import NAMES, claims, predicts, rule_hash, title
from ._rules import Cell, primary, verdict
from ._runs import Task, code_commit

NAME = "claims"
SLOWER = 2.5  # than `Task.seconds` says: of 36 runs, two at once on two cores; there it would be part of the rules


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 1 runs failed, 2 wrong input, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m experiments.claims", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(NAMES)} (all)")
    given = asked(parser, arguments, smoke="a few steps of each kind of run; nothing is decided")
    try:
        for name in given.claims:
            if name not in NAMES:
                raise ConfigError(f"{name}: allowed is one of {', '.join(NAMES)}{nearest(name, NAMES)}")
        return decide(given.claims or NAMES, given.jobs, given.launcher, given.out, given.smoke)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except (ConfigError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2


def decide(names: Sequence[str], at_once: int, launcher: str, out: Path, smoke: bool) -> int:
    """Run what the claims of these names lack; then decide all that can be."""
    known = claims()
    table = {name: claim.wanted() for name, claim in known.items()}
    if smoke:
        table = {name: {group: [runs[0].shortened()] for group, runs in table[name].items()} for name in names}
        out = out / "smoke"
    rules = rules_by_run(table)
    records = Records(out, NAME)
    wanted = {task.key: task for name in names for runs in table[name].values() for task in runs}
    left = [task for key, task in wanted.items() if key not in records.own]
    if left:
        print(estimate(left, at_once), file=sys.stderr)
        if not smoke:
            check_committed()

    def perform(task: Task) -> Record:
        return task.perform(rules[task.key])

    failed = at_work(left, partial(anew, perform), partial(recorded, records), at_once, launcher, out, len(wanted))
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        return 130 if failed == [INTERRUPTED] else 1
    if smoke:
        print(*(f"{name}: {len(groups)} kinds of run, a few steps each" for name, groups in table.items()), sep="\n")
        return 0
    made = judgements(known, table, records)
    write_json(out / f"{NAME}.json", made, indent=1)
    publish(made, table, records, out)
    print(*(shown(name, made[name]) for name in names), sep="\n\n")
    return 0


def rules_by_run(table: Mapping[str, Mapping[str, Sequence[Task]]]) -> dict[str, dict[str, str]]:
    """{key of a run: {claim: hash of its rule}} of all claims that ask for it."""
    asked: dict[str, dict[str, str]] = {}
    for name, groups in table.items():
        rule = rule_hash(name)
        for runs in groups.values():
            for task in runs:
                asked.setdefault(task.key, {})[name] = rule
    return asked


def estimate(left: Sequence[Task], at_once: int) -> str:
    """How many runs there are to do, and about how long that takes."""
    seconds = SLOWER * sum(task.seconds for task in left) / at_once
    return f"{len(left)} runs to do, about {seconds / 60:.0f} minutes with {at_once} at once"


def check_committed() -> None:
    """Raises ConfigError where a rule differs from the commit that a run would name."""
    commit = code_commit()
    if commit is None:
        print("note: this is no git checkout, so that nothing shows that rules came before runs", file=sys.stderr)
    elif commit.endswith("+"):
        raise ConfigError("emsiam/ or experiments/ differs from the last commit: commit the rules before their runs")


def judgements(
    known: Mapping[str, ModuleType], table: Mapping[str, Mapping[str, Sequence[Task]]], records: Records
) -> dict[str, Any]:
    """{claim: verdict, p, cells and how many runs there are}; a claim that lacks runs says so."""
    made: dict[str, Any] = {}
    for name, claim in known.items():
        tasks = [task for runs in table[name].values() for task in runs]
        runs = [records.own[task.key] for task in tasks if task.key in records.own]
        entry = {"title": title(claim), "rule": rule_hash(name), "runs": len(runs), "wanted": len(tasks)}
        entry["diverged"] = sum(r.summary["verdict"] == "diverged" for r in runs)
        entry["other_rules"] = sum(r.environment.get(f"rule_{name}") != entry["rule"] for r in runs)
        entry["cells"] = []
        if len(runs) == len(tasks):
            groups = {group: [records.own[task.key] for task in of] for group, of in table[name].items()}
            going = {group: [r for r in of if r.summary["verdict"] != "diverged"] for group, of in groups.items()}
            if not predicts(claim) or min(len(of) for of in going.values()) >= 2:
                entry["cells"] = [cell._asdict() for cell in claim.judge(going)]
        made[name] = entry
    decided = {name: [Cell(**cell) for cell in entry["cells"]] for name, entry in made.items()}
    worst = {n: 1.0 if made[n]["diverged"] else primary(cells) for n, cells in decided.items() if predicts(known[n])}
    corrected = holm(worst)
    for name, entry in made.items():
        entry |= {"p": worst.get(name), "holm": corrected.get(name)}
        if entry["runs"] < entry["wanted"]:
            entry["verdict"] = f"not finished: {entry['runs']} of {entry['wanted']} runs"
        elif not predicts(known[name]):
            entry["verdict"] = "shown"
        elif entry["diverged"]:
            entry["verdict"] = f"undecided: {entry['diverged']} runs diverged"
        else:
            entry["verdict"] = verdict(decided[name], corrected[name])
    return made


def grouped(table: Mapping[str, Mapping[str, Sequence[Task]]], records: Records) -> dict[str, dict[str, list[Record]]]:
    """{claim: {group: its runs, as far as there are any}}."""
    return {
        name: {group: [records.own[t.key] for t in tasks if t.key in records.own] for group, tasks in of.items()}
        for name, of in table.items()
    }


def publish(
    made: Mapping[str, Any], table: Mapping[str, Mapping[str, Sequence[Task]]], records: Records, out: Path
) -> None:
    """The pages, under docs/, README's part, and the pictures; pages go beside runs that are not in results/."""
    from . import _beside, _page, _pictures

    groups = grouped(table, records)
    found = _beside.numbers(made, groups)
    ours = out == Path("results")
    pages = Path("docs") if ours else out
    text = _page.hypothesis(made, found)
    (pages / "hypothesis.md").write_text(text if ours else text.replace("](../results/", "]("))  # drawn beside it
    (pages / "claims.md").write_text(_page.details(made, groups, found))
    if ours:
        readme = Path("README.md")
        readme.write_text(_page.readme(readme.read_text(), made, found))
    for picture, (draw, _) in _pictures.PICTURES.items():
        if _page.drawn(picture, made):
            draw(groups).savefig(out / f"{NAME}_{picture}.png", dpi=110)


def shown(name: str, entry: Mapping[str, Any]) -> str:
    """A claim, its verdict and its cells, for the terminal."""
    p = f", p = {entry['holm']:.2g} after Holm" if entry["holm"] is not None and entry["cells"] else ""
    lines = [f"{name}: {entry['verdict']}{p}", f"  {entry['title']}"]
    for cell in entry["cells"]:
        span = f"{cell['mean']:+.3f} ({cell['low']:+.3f} to {cell['high']:+.3f})"
        predicted = f", predicted {cell['predicted']}: {cell['verdict']}" if cell["predicted"] else ""
        lines.append(f"    {cell['name']}: {span}{predicted}")
        if cell["note"]:
            lines.append(f"        {cell['note']}")
    if entry["diverged"]:
        lines.append(f"    {entry['diverged']} runs diverged; numbers are of the others")
    if entry["other_rules"]:
        lines.append(f"    {entry['other_rules']} runs were made before the rule as it is now; see Changes in its file")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
