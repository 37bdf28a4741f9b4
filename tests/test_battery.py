"""The battery: its rule, a solver of your own among the others, mistakes in one line, and the committed page."""

import json
import re
from pathlib import Path

import _warm
import numpy as np
import pytest
import submitit

from emsiam.data import idx
from emsiam.eta import SOLVERS
from emsiam.traits import of_solver
from experiments import _battery, battery, battery_page
from experiments._records import Record, Records

ROOT = Path(__file__).parents[1]


def record(ranks, verdict="healthy", seed=0):
    """A run whose PR of z was `ranks` at steps 0, 10, …"""
    steps = [10 * i for i in range(len(ranks))]
    curves = {"step": steps, "participation_ratio": ranks, "lr": [0.1] * len(ranks)}
    return Record("k", 1, {"seed": seed}, {"verdict": verdict, "loss": 0.0}, {}, curves, {}, "")


@pytest.mark.parametrize(
    ("ranks", "step"),
    [
        ([8, 8, 8, 8], None),
        ([8, 3, 8, 8], None),  # it came back
        ([8, 8, 3.9, 3], 20),
        ([8, 3, 8, 3], 30),
        ([3, 3, 3, 3], 0),
        ([8, 8, 8, 4], None),  # one half is not below it
    ],
)
def test_rank_is_lost_when_it_is_below_half_of_simsiam_s_from_then_on(ranks, step):
    assert _battery.lost_at(*_battery.rank_over(record(ranks), record([8, 8, 8, 8]))) == step


@pytest.mark.parametrize(
    ("ratios", "ranks", "said"),
    [
        ([0.8, 0.82, 0.84], [8, 8, 8, 8], "kept"),
        ([0.8, 0.82, 0.84], [8, 8, 8, 7], "falling"),
        ([0.2, 0.22, 0.24], [8, 8, 8, 8], "lost"),
        ([0.3, 0.5, 0.8], [8, 8, 8, 8], "undecided"),
    ],
)
def test_the_rule(ratios, ranks, said):
    interval = _battery.mean_interval(ratios)
    assert _battery.verdict(interval, [record(ranks)] * 3) == said
    assert _battery.verdict(interval, [record(ranks, "diverged")] * 3) == "diverged"


def test_every_solver_is_in_it_or_goes_with_another_loss_or_a_finite_t():
    known = {e.name for e in _battery.COMMITTED}
    left = SOLVERS.keys() - known
    assert left == {"sinkhorn_codes", "momentum_queue", "every_view", "predicted_every_view"}
    for name in known & SOLVERS.keys():
        ways = {e.h for e in _battery.COMMITTED if e.name == name}
        assert ways == ({True} if of_solver(SOLVERS[name]).needs_h else {True, False})


OWN = re.search(r"```python\n(.*?)```", (ROOT / "docs/your_own_solver.md").read_text(), re.DOTALL)


def test_a_solver_of_one_s_own_stands_among_the_others(tmp_path, monkeypatch, capsys):
    """The page's, shortened, on digits; beside what is committed."""
    monkeypatch.setattr(submitit.local.local, "start_controller", _warm.start_controller)
    for module in (battery, _battery):
        monkeypatch.setattr(module, "SETS", {"digits": _battery.SETS["digits"]})
    (tmp_path / "mine.py").write_text(OWN[1])
    eta = f"{tmp_path / 'mine.py'}:agreeing"
    assert battery.main(["--eta", eta, "--smoke", "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert re.search(r"4 runs to do, about \d+ minutes with 2 at once", said.err)
    assert said.out.count(f"**{eta}**") == 3  # with h, without, and what it costs
    assert "`other_view`" in said.out
    found = Records(tmp_path / "out" / "smoke", "battery_own").known.values()
    assert {r.config.get("eta", "") for r in found} == {"", "other_view", eta}


MISTAKES = {
    "a shape": ("return F_t(batch.others)[0], state", "eta must have the shape [S, B, d]"),
    "a gradient": ("return F_t(batch.others).requires_grad_(), state", "eta must have no gradient"),
    "a state": (
        "return F_t(batch.others), {'f': open}",
        "state must hold tensors and plain values under names, but f is a",
    ),
    "no name": (
        "return F_t(batch.others), {1: batch.ids}",
        "state must hold tensors and plain values under names, but 1",
    ),
    "no state": (
        "return F_t(batch.others), None",
        "must return a pair (eta, state), a tensor and a dict, but returned T",
    ),
    "no pair": ("return F_t(batch.others)", "must return a pair (eta, state)"),
    "not finite": ("return F_t(batch.others) / 0 * 0, state", "eta must be finite"),
    "a name of its trait": (
        "from emsiam.eta import solver\n@solver(per_image=('rowz',))\ndef solve(state, F_t, batch):\n"
        "    return F_t(batch.others), {'rows': batch.ids}",
        "@solver says rowz, which state does not have; it has rows",
    ),
    "an option's name": (
        "def solve(state, F_t, batch, *, lr=0.1):\n    return F_t(batch.others), state",
        "its parameter lr is an option that is not a solver's; call it otherwise",
    ),
    "ids ignored": (
        "z = F_t(batch.others)\n    return z + state.get('rows', 0), {'rows': z.mean(0)}",
        "the target of an image must not depend on its place in the batch; rows belong to batch.ids",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_solver_is_one_line(tmp_path, mistake, capsys):
    body, said = MISTAKES[mistake]
    (tmp_path / "mine.py").write_text(body if "def " in body else f"def solve(state, F_t, batch):\n    {body}\n")
    eta = f"{tmp_path / 'mine.py'}:solve"
    assert battery.main(["--eta", eta, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"python -m experiments.battery: --eta {eta}: {said}")
    assert not (tmp_path / "out").exists()


RESULT = ROOT / "results/battery.json"


@pytest.mark.skipif(not RESULT.exists(), reason="the battery has not come to its end yet")
def test_the_page_is_made_of_the_committed_runs(monkeypatch):
    made = json.loads(RESULT.read_text())
    assert (ROOT / "docs/battery.md").read_text() == battery_page.text(made)
    records = Records(ROOT / "results", "battery")
    for name, (options, seeds) in _battery.SETS.items():
        if name != "digits" and not idx.FASHION_MNIST.is_dir():
            continue  # keys are of its files
        monkeypatch.setattr(_battery, "SETS", {name: (options, seeds)})
        table = _battery.wanted(_battery.COMMITTED, ROOT / "results", None)
        assert all(job.key in records.own for line in table[name].values() for job in line)
        assert {len(line) for line in table[name].values()} == {seeds}
        assert np.array_equal([s["name"] for s in made[name]["solvers"]], [e.name for e in _battery.COMMITTED])


@pytest.mark.parametrize(
    ("eta", "said"),
    [
        ("nothing", "--eta nothing: allowed is "),
        ("nowhere.py:solve", "--eta nowhere.py:solve: there is no file nowhere.py"),
        ("every_view", "--eta every_view: needs all of T, which has infinitely many draws here"),
    ],
)
def test_a_solver_that_does_not_go_with_it_is_one_line(tmp_path, capsys, eta, said):
    assert battery.main(["--eta", eta, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"python -m experiments.battery: {said}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_numbers_are_those_of_the_committed_runs():
    made = json.loads(RESULT.read_text())
    table = _battery.wanted(_battery.COMMITTED, ROOT / "results", None)
    again = _battery.tabulate(_battery.COMMITTED, table, Records(ROOT / "results", "battery"))
    for name, found in json.loads(json.dumps(again)).items():
        for e in made[name]["solvers"]:
            e.pop("time_over_simsiam")  # which is not of a run
        assert found == made[name]


def test_the_time_of_a_step_is_measured_anew_where_a_solver_was_edited(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(battery, "step_ms", lambda options: measured.append(options) or 1.0)
    monkeypatch.setattr(battery, "SETS", {"digits": _battery.SETS["digits"]})
    mine, file = tmp_path / "mine.py", tmp_path / "times.json"
    which = [_battery.Entry(f"{mine}:solve", False, {})]
    for code, number in (("one", 1), ("one", 1), ("two", 2)):
        mine.write_text(code)
        assert list(battery.times(which, file)) == ["digits"]
        assert len(measured) == number
