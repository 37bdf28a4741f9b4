"""The sweep engine: keys, real runs in real processes, what is not run again, intervals; RESULTS.md is made."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from experiments import _sweep, report
from experiments._sweep import Row

ROOT = Path(__file__).parents[1]
SHORT = {"epochs": 1, "batch_size": 479, "dim": 8, "hidden_dim": 8, "diagnose_every": 9}
TEXT = "A claim,\nin two lines.\n\nMore."


def key(tmp_path, **options):
    return _sweep.jobs(SHORT | options, 1, tmp_path)[0].key


def test_a_key_is_of_what_decides_the_numbers(tmp_path, monkeypatch):
    base = key(tmp_path)
    assert key(tmp_path / "elsewhere") == base
    assert key(tmp_path, mode="onestep", lr=0.1) == base  # the defaults
    assert key(tmp_path, k=10) == base  # which onestep does not read
    assert key(tmp_path, mode="multistep", k=10) == key(tmp_path, mode="multistep")
    others = [key(tmp_path, lr=0.2), key(tmp_path, mode="multistep"), _sweep.jobs(SHORT, 2, tmp_path)[1].key]
    monkeypatch.setattr(_sweep, "NUMERICS", _sweep.NUMERICS + 1)
    assert len({base, key(tmp_path), *others}) == 5


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two tables that share their baseline, run one after the other, and the runs after the first."""
    out = tmp_path_factory.mktemp("results")
    rows = (Row("base", SHORT, 67.7), Row("without h", SHORT | {"predictor": "none"}, 0.1, "collapse"))
    arguments = ["--seeds", "2", "--jobs", "2", "--out", str(out)]
    assert _sweep.main("experiments.first", TEXT, rows, arguments) == 0
    before = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in (out / "runs").iterdir()}
    rows = (rows[0]._replace(paper=None), Row("wild", SHORT | {"lr": 1e6, "bn": "none"}, None, "diverges"))
    assert _sweep.main("experiments.second", TEXT, rows, arguments) == 0
    return out, before


def test_a_result_has_what_is_promised(results):
    out, _ = results
    result = json.loads((out / "first.json").read_text())
    assert result["claim"] == "A claim, in two lines."
    base, other = result["rows"]
    assert base["config"] == SHORT
    assert (base["paper"], other["fails"]) == (67.7, "collapse")
    values = [[run["summary"]["knn_acc1"] for run in row["runs"]] for row in (base, other)]
    x = np.array(values[0])
    low, high = scipy.stats.t.interval(0.95, 1, x.mean(), scipy.stats.sem(x))
    assert base["metrics"]["knn_acc1"] == pytest.approx({"mean": x.mean(), "low": low, "high": high, "n": 2})
    p = scipy.stats.ttest_rel(values[1], values[0]).pvalue
    assert other["difference"]["knn_acc1"]["p"] == pytest.approx(p)
    assert [run["seed"] for run in base["runs"]] == [0, 1]
    assert (out / "runs" / base["runs"][0]["key"] / "summary.json").exists()
    assert (out / "first.png").stat().st_size > 5_000
    assert set(result["environment"]) >= {"torch", "device", "commit"}


def test_seeds_are_pairs(results):
    from emsiam import load_run
    from emsiam.compare import paired

    rows = json.loads((results[0] / "first.json").read_text())["rows"]
    runs = [[load_run(results[0] / "runs" / run["key"]) for run in row["runs"]] for row in rows]
    assert all(paired(a, b) for a, b in zip(*runs, strict=True))
    assert not paired(runs[0][0], runs[1][1])
    assert np.array_equal(*(run[0].snapshots()[0] for run in runs))  # one initialisation of F


def test_a_table_takes_the_runs_of_another(results):
    out, before = results
    assert len(before) == 4
    assert all((folder / "summary.json").stat().st_mtime_ns == then for folder, then in before.items())
    assert len(list((out / "runs").iterdir())) == 6


def test_a_run_that_diverges_is_a_result(results):
    second = json.loads((results[0] / "second.json").read_text())
    assert second["rows"][1]["verdicts"] == {"diverged": 2}
    assert second["rows"][1]["failed"] == "diverges"
    assert "wild" not in second["agrees"]


def test_a_damaged_result_is_run_again(results, capsys):
    out, _ = results
    job = _sweep.jobs(SHORT, 1, out)[0]
    assert _sweep.done(job)
    good = (job.folder / "summary.json").read_text()
    (job.folder / "summary.json").write_text(good.replace('"knn_acc1": 0.', '"knn_acc1": 0.1'))
    assert not _sweep.done(job)
    assert "is damaged and is run again" in capsys.readouterr().err
    assert _sweep.run([job], 1, "local", out) == []
    again = json.loads((job.folder / "summary.json").read_text())
    assert again["knn_acc1"] == json.loads(good)["knn_acc1"]
    assert _sweep.done(job)


def test_a_run_that_fails_is_named(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    job = _sweep.jobs(SHORT, 1, tmp_path)[0]
    job.folder.write_text("a file where the run's directory should be")
    (said,) = _sweep.run([job], 1, "local", tmp_path)
    assert said.startswith("python -m emsiam.train --threads 1")
    assert "status 2" in said


def test_an_interrupted_sweep_goes_on(tmp_path):
    script = tmp_path / "long.py"
    long = {"epochs": 30, "save_every": 1, "eval_every": 30}
    script.write_text(
        "import sys\nfrom experiments._sweep import Row, main\n"
        f"rows = [Row('short', {SHORT}), Row('long', {SHORT | long})]\n"
        "sys.exit(main('long', 'Claim.', rows, sys.argv[1:]))\n"
    )
    command = [sys.executable, str(script), "--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.PIPE, text=True)
    short, long_one = (_sweep.jobs(o, 1, tmp_path / "out")[0].folder for o in (SHORT, SHORT | long))
    deadline = time.monotonic() + 90
    while not (long_one / "checkpoints" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.endswith("interrupted; the same command goes on\n")
    assert "Traceback" not in said
    assert (short / "seal").exists()
    assert not (long_one / "summary.json").exists()
    finished = (short / "summary.json").stat().st_mtime_ns
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=90)
    assert (short / "summary.json").stat().st_mtime_ns == finished
    steps = [json.loads(line)["step"] for line in (long_one / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert json.loads((tmp_path / "out" / "long.json").read_text())["rows"][1]["metrics"]["loss"]["n"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--seeds", "0"], "allowed is a number from 1"), (["--launcher", "pbs"], "slurm")]
)
def test_wrong_input(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        _sweep.main("experiments.x", TEXT, [Row("base")], arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_row_that_cannot_be_is_refused_before_anything_runs(tmp_path, capsys):
    rows = [Row("base", SHORT), Row("odd", {"batch_size": 5000})]
    assert _sweep.main("experiments.x", TEXT, rows, ["--out", str(tmp_path / "out")]) == 2
    assert "--batch-size 5000: allowed is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_agreement_is_said_in_words():
    def row(name, paper, fails, failed, moved, p):
        found = {"knn_acc1": {"mean": moved, "p": p}}
        return {"name": name, "paper": paper, "fails": fails, "failed": failed, "difference": found}

    base = row("base", 68.0, "", "", 0.0, 1.0) | {"difference": {}}
    assert _sweep.agreement([base, row("a", 60.0, "", "", -0.1, 0.01)]).startswith("Direction and kind")
    assert _sweep.agreement([base, row("a", 60.0, "", "", 0.1, 0.01)]) == (
        "a: kNN +0.100 here, accuracy -8.0 points in the paper."
    )
    assert "not told apart from base (p = 0.3)" in _sweep.agreement([base, row("a", 60.0, "", "", 0.1, 0.3)])
    assert _sweep.agreement([base, row("a", None, "collapse", "", 0.1, 0.3)]) == (
        "a: healthy here, collapse in the paper."
    )


def test_results_are_made_from_what_was_measured(results):
    text = report.report(results[0])
    first = json.loads((results[0] / "first.json").read_text())
    mean = first["rows"][1]["metrics"]["knn_acc1"]["mean"]
    assert f"| without h | 0.1 | {mean:.3f} (" in text
    assert text.index("experiments.first") < text.index("experiments.second")
    assert first["agrees"] in text


def test_results_md_is_the_report_of_results():
    assert (ROOT / "RESULTS.md").read_text() == report.report(ROOT / "results")
    for file in (ROOT / "results").glob("*.json"):
        assert file.with_suffix(".png").exists()
        assert (ROOT / "experiments" / f"{file.stem}.py").exists()
