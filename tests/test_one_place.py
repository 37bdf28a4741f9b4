"""A new solver, metric, method, data set, option, experiment is written in one place, and all else follows.

One of each is added to a copy of the project. Then one process runs docs/generate.py and looks for them everywhere.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import emsiam

ROOT = Path(__file__).parents[1]
# In which file of the copy, before which line, what is written.
ADDED = {
    "solver": (
        "emsiam/eta/fresh.py",
        None,
        '''

@solver(per_image=(), then="median of n views", averaged="n views")
def middle(state, F_t, batch, *, n: int = 7):
    """The median of n further views."""
    eta = F_t(batch.draw(n)).median(0).values
    return eta.expand(len(batch.trained), *eta.shape), state
''',
    ),
    "method": (
        "emsiam/methods.py",
        '    "swav": Method(',
        '    "medians": Method(SOLVERS["middle"], predictor="linear"),\n',
    ),
    "metric": (
        "emsiam/metrics.py",
        '        Metric("r_h",',
        """        Metric(
            "centre_norm",
            "centre",
            "share of ẑ that all images have in common",
            3,
            "m_o = ‖o‖, o = E ẑ",
            collapse.centre_norm,
            healthy="0.1",
            collapsed="1",
            said="centre {}",
            below=(0.05,),
            places=tuple(PLACES),
        ),
""",
    ),
    "data set": (
        "emsiam/data/sets.py",
        "CIFAR = PAPER._replace(blur=0.0)",
        '''@data_set(epochs=7)
def halves() -> ImageSet:
    """Every other one of the digits."""
    whole = digits()
    return whole._replace(name="halves", images=whole.images[::2], labelled=whole.images[::2], labels=whole.labels[::2])


''',
    ),
    "option": (
        "emsiam/config/options.py",
        "    fix_pred_lr: bool",
        '    nesterov: bool | None = option(None, SWITCH, "momentum of Nesterov\'s kind", "training", unset="off")\n',
    ),
    "experiment": (
        "experiments/medians.py",
        None,
        '''"""A median of views serves as well as their mean.

Paper: it has no such table.
Here: digits.
What would settle it: more seeds.
Command: python -m experiments.medians
"""

import sys

from ._sweep import Row, main

GROUP = "systems"
ROWS = (Row("mean", {"mode": "expectation"}), Row("median", {"mode": "medians"}))

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
''',
    ),
}
# What the process in the copy says of each: one dictionary, as JSON. docs/generate.py starts it anew after new names.
LOOK = """
import json, runpy, sys
from pathlib import Path
sys.path.append("docs")
try:
    runpy.run_module("generate", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
import emsiam, emsiam.compare, emsiam.train, emsiam.comparison.page, emsiam.plots, experiments
from emsiam import comparison, metrics
from emsiam.config import load_images, parse, parser, resolve, having
from experiments import _jobs, _table

runs = [emsiam.load_run(path) for path in ("runs/a", "runs/b")]
result = comparison.compare.compare(runs)
config, given = parse("--mode medians --dataset halves --nesterov --eta middle --n 3".split())
config, data, _ = load_images(config)
resolved, notes = resolve(config, len(data.images), data.shape)
job, = _jobs.jobs({"mode": "medians", "nesterov": True}, 1, Path("results"))
print(json.dumps({
    "help": parser().format_help(),
    "resolved": resolved.to_dict(),
    "notes": notes,
    "line": [m.name for m in metrics.MEASURED],
    "table": emsiam.compare.report(result),
    "groups": [group["name"] for group in result["groups"]],
    "compared": result["groups"][0]["metrics"]["centre_norm"],
    "onset": [run["steps_to_collapse"]["centre_norm < 0.05"] for run in result["runs"]],
    "ends": [emsiam.train.report(run) for run in runs],
    "panels": [a.get_title() for a in emsiam.plots.trajectory(runs).axes],
    "curves": [a.get_title() for a in emsiam.plots.comparison(runs, result).axes],
    "page": emsiam.comparison.page.gathered(runs, result)["panels"][-2]["title"],  # the last is the spectrum
    "results": list(_table.METRICS),
    "tables": [*experiments.tables("systems")],
    "arguments": job.arguments,
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory, no_pictures):
    """The project with one of each added. In it, two runs that were trained before that, and given a number and options
    of after.
    """
    folder = tmp_path_factory.mktemp("copy")
    for name in ("emsiam", "experiments", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "examples").mkdir()
    for name in ("BENCHMARKS.md", "examples/slurm.sh"):  # parts of a page of docs/
        shutil.copy(ROOT / name, folder / name)
    for file, before, text in ADDED.values():
        target = folder / file
        old = target.read_text() if target.exists() else ""
        assert before is None or old.count(before) == 1, (file, before)
        target.write_text(old + text if before is None else old.replace(before, text + before))
    small = {"epochs": 1, "batch_size": 479, "dim": 16, "hidden_dim": 16, "quiet": True, "threads": 1}
    for seed, (name, changes) in enumerate({"a": {}, "b": {"nesterov": True}}.items()):
        out = folder / "runs" / name
        emsiam.fit(emsiam.Config(**small, seed=seed, out=str(out)))
        number = {"centre_norm": 0.01} if name == "a" else {}  # b is older than the metric
        for file, values in (("config.json", {"mode": "medians", "n": 7} | changes), ("summary.json", number)):
            content = json.loads((out / file).read_text())
            (out / file).write_text(json.dumps(content | values))
        lines = [json.loads(line) | number for line in (out / "metrics.jsonl").read_text().splitlines()]
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (out / "SHA256SUMS").unlink()  # which older runs do not have
    (folder / "look.py").write_text(LOOK)
    return folder


@pytest.fixture(scope="module")
def seen(copy):
    """What LOOK says, after docs/generate.py has made the files of the copy."""
    env = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "look.py"], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *made, found = done.stdout.splitlines()
    assert "emsiam/names.py made" in made
    return json.loads(found)


def test_a_solver(copy, seen):
    assert seen["resolved"]["eta"] == "middle"
    assert seen["resolved"]["n"] == 3
    assert "middle" in seen["help"]
    assert "eta.middle" in (copy / "docs/methods.md").read_text()
    assert "T′(x) → F → median of n views → ║ → η" in (copy / "docs/methods.md").read_text()


def test_a_method(copy, seen):
    assert seen["resolved"]["mode"] == "medians"
    assert seen["resolved"]["predictor"] == "linear"
    assert "linear for medians" in " ".join(seen["help"].split())
    assert "## `medians`" in (copy / "docs/methods.md").read_text()
    assert seen["groups"][0] == "medians n=7"


def test_a_metric(copy, seen):
    assert "centre_norm" in seen["line"]
    assert "| `centre_norm` | 0.1 | 1 | m_o" in (copy / "docs/numbers.md").read_text()
    first, *_ = seen["table"].splitlines()
    assert "centre" in first
    assert seen["compared"]["mean"] == pytest.approx(0.01)
    assert seen["onset"] == [0, None]
    assert ["centre 0.010" in end for end in seen["ends"]] == [True, False]
    title = "share of ẑ that all images have in common"
    assert title in seen["panels"]
    assert title in seen["curves"]
    assert seen["page"] == title
    assert "centre_norm" in seen["results"]


def test_a_data_set(copy, seen):
    assert seen["resolved"]["dataset"] == "halves"
    assert seen["resolved"]["epochs"] == 7
    assert "| `halves` | Every other one of the digits |  | `--epochs 7` |" in (copy / "docs/training.md").read_text()


def test_an_option(copy, seen):
    assert seen["resolved"]["nesterov"] is True
    assert "--nesterov" in seen["arguments"]
    assert (
        "| `--nesterov` `--no-nesterov` | momentum of Nesterov's kind | off |"
        in (copy / "docs/training.md").read_text()
    )
    assert seen["groups"] == ["medians n=7", "medians n=7 nesterov=True"]


def test_an_experiment(copy, seen):
    assert "medians" in seen["tables"]
    assert "| `medians` | A median of views serves as well as their mean. |" in (copy / "docs/tables.md").read_text()
