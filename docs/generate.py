"""python docs/generate.py [--check]: make what follows from the code itself: emsiam/names.py, and tables of the docs.

With --check nothing is written: it fails where a file is not as it would be made.
"""

import argparse
import inspect
import os
import pprint
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import architecture  # beside this file
import methods
import scaling
import solvers

import experiments
from emsiam import data, networks, objective, optim
from emsiam.config import DEFAULTS, HYPERPARAMETERS, Config
from emsiam.config.declared import ROLES
from emsiam.config.rules import SWITCH
from emsiam.config.words import described, unset
from emsiam.diagnostics import verdict
from emsiam.errors import flag
from emsiam.eta import SOLVERS, bank
from emsiam.evaluation import backbones, classifiers, tasks
from emsiam.methods import METHODS
from emsiam.metrics import METRICS
from emsiam.traits import hyperparameters, of_data_set

NAMES = '''"""Names and defaults that modules with PyTorch in them hold, for a command line that answers without it.

Made by `python docs/generate.py`; a test holds it to what it is made from.
"""

from typing import Any

# fmt: off
'''


def read(function: Callable) -> dict[str, Any]:
    """The hyper-parameters of a solver or an objective that are options, and their defaults."""
    return {n: v for n, v in hyperparameters(function).items() if n in HYPERPARAMETERS}


def names(_: str) -> str:
    """The text of emsiam/names.py."""
    rows = {
        name: {
            "predictor": row.predictor,
            "stop_grad": row.stop_grad,
            "bn": row.bn,
            "k": row.k,
            "reads": read(row.solve) | read(row.objective),
        }
        for name, row in METHODS.items()
    }
    held: dict[str, Any] = {
        "METHODS: dict[str, dict[str, Any]]": rows,
        "SOLVERS: dict[str, dict[str, Any]]": {name: read(solve) for name, solve in SOLVERS.items()},
        "DATASETS: dict[str, dict[str, Any]]": {
            name: {"defaults": of_data_set(load).defaults, "reads": tuple(hyperparameters(load))}
            for name, load in data.sets.DATASETS.items()
        },
        "SIMILARITIES": tuple(objective.SIMILARITIES),
        "SYMMETRIES": tuple(data.batches.SYMMETRY),
        "BANK_DTYPES": tuple(bank.DTYPES),
        "SCHEDULES": optim.SCHEDULES,
        "STEMS": networks.STEMS,
        "PREDICTORS": networks.PREDICTORS,
        "BN": networks.BN,
        "TASKS: dict[str, dict[str, Any]]": {
            name: {"does": methods.first_line(task).split(".")[0], "reads": hyperparameters(task)}
            for name, task in tasks.TASKS.items()
        },
        "PROTOCOLS": (*tasks.CLOSED, *classifiers.PROTOCOLS),
        "EPOCHS": tuple(classifiers.PROTOCOLS),
        "FEATURES": tuple(backbones.LAYERS),
    }
    lines = [f"{name} = {pprint.pformat(value, width=80, sort_dicts=False)}" for name, value in held.items()]
    return NAMES + "\n".join(lines) + "\n"


def options() -> str:
    """The options as tables, a table a role."""
    parts = []
    for role, title in ROLES.items():
        rows = [f for f in fields(Config) if f.metadata["role"] == role]
        lines = [f"**{title[0].upper()}{title[1:]}**", "", "| flag | meaning | default |", "|---|---|---|"]
        for f in rows:
            both = f.metadata["rule"] is SWITCH and f.default is None
            flags = f"`{flag(f.name)}`" + (f" `{flag('no_' + f.name)}`" if both else "")
            lines.append(f"| {flags} | {described(f)} | {unset(f.name)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def data_sets() -> str:
    """The data sets as a table: their docstrings' first sentences, and the defaults that they change."""
    lines = ["| `--dataset` | images | reads | defaults of its own |", "|---|---|---|---|"]
    for name, load in data.sets.DATASETS.items():
        read = ", ".join(f"`{flag(n)}`" for n in hyperparameters(load))
        changed = ", ".join(f"`{flag(n)} {v}`" for n, v in of_data_set(load).defaults.items() if v != DEFAULTS[n])
        lines.append(f"| `{name}` | {methods.first_line(load)} | {read} | {changed} |")
    return "\n".join(lines)


def metrics() -> str:
    """The numbers of a run as a table."""
    lines = ["| name | healthy | collapsed | what it is |", "|---|---|---|---|"]
    lines += [f"| `{m.name}` | {m.healthy} | {m.collapsed} | {m.meaning} |" for m in METRICS.values()]
    return "\n".join(lines)


def rule() -> str:
    """The rule of the verdict as a table: the lines of its docstring, with the values of its bounds."""
    values = {name: f"{x:g}" for name, x in vars(verdict).items() if name.isupper() and isinstance(x, int | float)}
    lines = ["| what holds, the first line decides | verdict |", "|---|---|"]
    for line in (inspect.getdoc(verdict.judge) or "").splitlines():
        if row := re.fullmatch(r"(\S.*?) {2,}(.+)", line):
            said = re.sub(r"\b[A-Z_]{4,}\b", lambda name: values[name[0]], row[1])
            lines.append(f"| {said} | `{row[2]}` |")
    return "\n".join(lines)


def tables() -> str:
    """The experiments, a table a group."""
    parts = []
    for group, what in experiments.GROUPS.items():
        lines = [f"| `make {group}`: {what} | claim |", "|---|---|"]
        lines += [f"| `{name}` | {experiments.claim(m)} |" for name, m in experiments.tables(group).items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def between(marks: Iterable[tuple[str, Callable[[], str]]]) -> Callable[[str], str]:
    """A text with what stands between <!-- NAME --> and <!-- /NAME --> made anew."""

    def made(text: str) -> str:
        for name, make in marks:
            head, table = text.split(f"<!-- {name} -->\n")
            _, tail = table.split(f"<!-- /{name} -->")
            text = f"{head}<!-- {name} -->\n{make()}\n<!-- /{name} -->{tail}"
        return text

    return made


FILES: dict[str, Callable[[str], str]] = {
    "emsiam/names.py": names,
    "docs/architecture.md": between((("rooms", architecture.drawing),)),
    "docs/methods.md": lambda _: methods.text(),
    "docs/scaling.md": lambda _: scaling.text(),
    "docs/solvers.md": lambda _: solvers.text(),
    "docs/numbers.md": between((("metrics", metrics), ("rule", rule))),
    "docs/tables.md": between((("tables", tables),)),
    "docs/training.md": between((("options", options), ("data sets", data_sets))),
}


def stale() -> dict[Path, str]:
    """The files that are not as they would be made, and how they would be. emsiam/names.py is first: where it is not,
    it is alone, for the others are made from what it says.
    """
    found: dict[Path, str] = {}
    for name, make in FILES.items():
        file, now = ROOT / name, (ROOT / name).read_text()
        if (text := make(now)) != now:
            found[file] = text
            if make is names:
                break
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python docs/generate.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where something would change")
    check = parser.parse_args().check
    changed = stale()
    for file, text in changed.items():
        if not check:
            file.write_text(text)
        print(
            f"{file.relative_to(ROOT)} {'is not as python docs/generate.py makes it' if check else 'made'}", flush=True
        )
    if ROOT / "emsiam/names.py" in changed and not check:  # now the others
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(bool(changed) and check)
