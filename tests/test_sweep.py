"""The sweep engine: keys, real runs in processes, what is not run again, intervals; RESULTS.md is made."""

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
from pathlib import Path

import _warm
import numpy as np
import pandas
import pytest
import scipy.stats
import submitit
import torchvision

import emsiam
import experiments
from emsiam.config import ConfigError, parse, preset, resolve
from emsiam.diagnostics.verdict import VERDICTS
from emsiam.evaluate import evaluate
from experiments import _jobs, _records, _sweep, _table, paper_scale, report
from experiments._records import Record, Records
from experiments._table import Row

ROOT = Path(__file__).parents[1]
PINNED = 0.1109  # loss of SHORT, seed 0
SHORT = {"epochs": 1, "batch_size": 479, "dim": 8, "hidden_dim": 8, "diagnose_every": 9}
TEXT = "A claim,\nin two lines.\n\nMore.\nWhat would settle it: more\nseeds.\nCommand: this"


@pytest.fixture(scope="module", autouse=True)
def forked_jobs():
    """submitit's jobs are forked from a warm process, but for those of the sweep that is interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submitit.local.local, "start_controller", _warm.start_controller)
        yield


def key(tmp_path, **options):
    return _jobs.jobs(SHORT | options, 1, tmp_path)[0].key


def test_a_key_is_of_what_decides_the_numbers(tmp_path, monkeypatch):
    base = key(tmp_path)
    assert key(tmp_path / "elsewhere") == base
    assert key(tmp_path, mode="onestep", lr=0.1) == base  # the defaults
    assert key(tmp_path, k=10) == base  # which onestep does not read
    assert key(tmp_path, mode="multistep", k=10) == key(tmp_path, mode="multistep")
    others = [key(tmp_path, lr=0.2), key(tmp_path, mode="multistep"), _jobs.jobs(SHORT, 2, tmp_path)[1].key]
    mine = tmp_path / "mine.py"
    for text in ("", "# changed\n"):  # a solver of one's own is known by its text
        mine.write_text(text + "def solve(state, F_t, batch):\n    return F_t(batch.others), state\n")
        others.append(key(tmp_path, eta=f"{mine}:solve"))
    monkeypatch.setattr(_jobs, "NUMERICS", _jobs.NUMERICS + 1)
    assert len({base, key(tmp_path), *others}) == 7


def test_numbers_have_not_moved_under_this_numerics_version(tmp_path):
    """Where this changes on purpose, raise `_jobs.NUMERICS` and make the tables anew."""
    run = emsiam.fit(emsiam.Config(**SHORT, threads=1, quiet=True, out=str(tmp_path / "run")))
    assert (_jobs.NUMERICS, run.summary["loss"]) == (1, pytest.approx(PINNED, abs=2e-3))


QUICK = {"protocol": "sgd", "epochs": 1}
EVALUATED = {"linear": ("linear", QUICK), "there": ("knn", {"eval_dataset": "mnist5k"})}


THIRD = {"metrics": ("linear", "there"), "by": "there", "curve": "loss"}


def three_tables_rows():
    """The rows of the first and of the third table."""
    wild = Row("wild", SHORT | {"lr": 1e6, "bn": "none"}, None, "diverges", evaluations=EVALUATED)
    return (
        (Row("base", SHORT, 67.7), Row("without h", SHORT | {"predictor": "none"}, 0.1, "collapse")),
        (Row("base", SHORT, 67.7, evaluations=EVALUATED), wild),
    )


def three_tables(out):
    """Three tables that share their baseline, one after the other; before.json: the runs after the first."""
    rows, more = three_tables_rows()
    arguments = ["--seeds", "2", "--jobs", "2", "--out", str(out)]
    assert _sweep.main("experiments.first", TEXT, rows, arguments) == 0
    before = {folder.name: (folder / "summary.json").stat().st_mtime_ns for folder in (out / "runs").iterdir()}
    rows = (rows[0]._replace(paper=None), Row("wild", SHORT | {"lr": 1e6, "bn": "none"}, None, "diverges"))
    assert _sweep.main("experiments.second", TEXT, rows, arguments) == 0
    (out / "runs" / "before").write_text(json.dumps(before))
    assert _sweep.main("experiments.third", TEXT, more, arguments, **THIRD) == 0


@pytest.fixture(scope="module")
def results(once):
    return once("results", three_tables)


def test_a_result_has_what_is_promised(results):
    result = json.loads((results / "first.json").read_text())
    assert result["claim"] == "A claim, in two lines."
    assert result["decides"] == "more seeds."  # as two seeds of one epoch do not tell
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
    assert (results / "runs" / base["runs"][0]["key"] / "summary.json").exists()
    lines = [json.loads(line) for line in (results / "first.runs.jsonl").read_text().splitlines()]
    assert {line["key"]: line["summary"]["loss"] for line in lines} == {
        run["key"]: run["summary"]["loss"] for row in (base, other) for run in row["runs"]
    }
    assert (results / "first.png").stat().st_size > 5_000
    assert set(result["environment"]) >= {"torch", "device", "commit"}


def test_seeds_are_pairs(results):
    from emsiam import load_run
    from emsiam.comparison.pairing import paired

    rows = json.loads((results / "first.json").read_text())["rows"]
    runs = [[load_run(results / "runs" / run["key"]) for run in row["runs"]] for row in rows]
    assert all(paired(a, b) for a, b in zip(*runs, strict=True))
    assert not paired(runs[0][0], runs[1][1])
    assert np.array_equal(*(run[0].snapshots()[0] for run in runs))  # one initialisation of F


def test_a_table_takes_the_runs_of_another(results):
    before = json.loads((results / "runs" / "before").read_text())
    assert len(before) == 4
    for name, then in before.items():
        assert (results / "runs" / name / "summary.json").stat().st_mtime_ns == then
    assert len([folder for folder in (results / "runs").iterdir() if folder.is_dir()]) == 6


def test_a_run_that_diverges_is_a_result(results):
    second = json.loads((results / "second.json").read_text())
    assert second["rows"][1]["verdicts"] == {"diverged": 2}
    assert second["rows"][1]["failed"] == "diverges"
    assert second["rows"][1]["metrics"] == second["rows"][1]["difference"] == {}  # those before it diverged are not its
    assert "wild" not in second["agrees"]


def test_evaluations_of_runs_that_were_there_already(results, tmp_path, capsys):
    third = json.loads((results / "third.json").read_text())
    base, wild = third["rows"]
    for run in base["runs"]:
        folder = results / "runs" / run["key"]
        assert run["summary"]["linear"] == evaluate("linear", str(folder), **QUICK)["acc1"]
        assert run["summary"]["there"] == evaluate("knn", str(folder), eval_dataset="mnist5k")["acc1"]
        line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert base["curve"]["epoch"][-1] == line["epoch"] == 1
    assert base["metrics"]["there"]["mean"] == pytest.approx(np.mean([run["summary"]["there"] for run in base["runs"]]))
    assert set(base["metrics"]) == {"linear", "there"}
    assert wild["metrics"] == {}  # diverged, so not evaluated, and done all the same
    assert "| | paper | linear | there | there − baseline |" in report.table_of(third)
    report.picture(third)

    out = shutil.copytree(results, tmp_path / "out")
    job = _jobs.jobs(SHORT, 1, out, EVALUATED)[0]
    (out / "third.runs.jsonl").unlink()  # the first table has the run, but not the evaluations
    job.evaluated("there").write_text("{")
    records = Records(out, "third")
    assert records.find(job.key, [])
    assert not records.find(job.key, job.asked.values())
    assert _jobs.run([job], 1, "local", records) == []
    again = Records(out, "third").find(job.key, job.asked.values())
    assert again.measured(job.asked)["there"] == base["runs"][0]["summary"]["there"]


def test_tables_are_made_of_the_recorded_runs_alone(results, tmp_path, monkeypatch):
    """On a machine that has no run's directory: nothing is trained, and the table is the same."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("first", "third"):
        shutil.copy(results / f"{name}.runs.jsonl", out)
    monkeypatch.setattr(submitit, "AutoExecutor", None)  # which running needs
    rows, more = three_tables_rows()
    assert _sweep.main("experiments.first", TEXT, rows, ["--seeds", "2", "--out", str(out)]) == 0
    assert _sweep.main("experiments.third", TEXT, more, ["--seeds", "2", "--out", str(out)], **THIRD) == 0
    assert not (out / "runs").exists()
    for name in ("first", "third"):
        assert json.loads((out / f"{name}.json").read_text()) == json.loads((results / f"{name}.json").read_text())


def test_a_table_takes_the_lines_of_another_into_its_own(results, tmp_path):
    keys = [job.key for job in _jobs.jobs(SHORT, 2, tmp_path)]
    own = [json.loads(line)["key"] for line in (results / "second.runs.jsonl").read_text().splitlines()]
    assert own[:2] == keys
    assert len(own) == 4


def test_a_line_that_was_cut_off_is_run_again_and_a_wrong_one_is_named(results, tmp_path):
    file = Path(shutil.copy(results / "first.runs.jsonl", tmp_path))
    content = file.read_text()
    file.write_text(content[:-40])
    records = Records(tmp_path, "first")
    assert len(records.known) == 3
    last = json.loads(content.splitlines()[-1])
    records.add(Record(**last))
    assert file.read_text() == content
    assert Records(tmp_path, "first").known.keys() == {json.loads(line)["key"] for line in content.splitlines()}
    for wrong in ("nonsense", "{}", "[]", '{"key": 1}'):
        file.write_text(f"{content}{wrong}\n")
        with pytest.raises(ConfigError, match=f"^{file}: line 5 is not a run's"):
            Records(tmp_path, "first")


def test_curves_are_thinned_and_keep_their_evaluations():
    steps = np.arange(1000)
    knn = np.where(steps % 300 == 7, 0.5, np.nan)
    lines = pandas.DataFrame({"step": steps, "loss": -1 / 3 - steps, "knn_acc1": knn, "seconds": 1.0, "r_h": np.inf})
    kept = _records.curves(lines)
    assert set(kept) == {"step", "loss", "knn_acc1", "r_h"}
    assert {0, 7, 307, 607, 907, 999} <= set(kept["step"])
    assert len(kept["step"]) <= _records.POINTS + 4
    assert [x for x in kept["knn_acc1"] if x is not None] == [0.5] * 4
    assert kept["loss"][0] == -0.333333
    assert set(kept["r_h"]) == {None}


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_a_run_that_cannot_be_gone_on_with_is_begun_anew(results, tmp_path, capsys, file):
    out = shutil.copytree(results, tmp_path / "out")
    job = _jobs.jobs(SHORT, 1, out)[0]
    for lines in out.glob("*.runs.jsonl"):
        lines.unlink()
    (job.folder / file).write_bytes(b"\xff\xfe{")
    _jobs.clear_if_damaged(job)
    assert "is damaged and is run again" in capsys.readouterr().err
    assert not job.folder.exists()


def test_two_sweeps_do_not_share_a_directory(tmp_path, capsys):
    with (tmp_path / ".sweep").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert _sweep.main("experiments.x", TEXT, [Row("base", SHORT)], ["--seeds", "1", "--out", str(tmp_path)]) == 2
    assert "another sweep is at work there" in capsys.readouterr().err


def test_out_that_cannot_be_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    rows = [Row("base", SHORT)]
    assert _sweep.main("experiments.x", TEXT, rows, ["--seeds", "1", "--out", str(tmp_path / "file")]) == 2
    assert _sweep.main("experiments.x", TEXT, [Row("odd", {"nosuch": 1})], ["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "nosuch" in said[1]


def test_a_recipe_is_written_as_a_flag():
    (job,) = _jobs.jobs(SHORT | {"augment": {"scale": (0.5, 1.0), "flip": 0.5, "shuffle": True}}, 1, Path("out"))
    assert job.arguments[job.arguments.index("--augment") + 1] == "scale=0.5:1.0,flip=0.5,shuffle=1"
    parse(job.arguments)


def test_a_run_that_fails_is_named(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    job = _jobs.jobs(SHORT, 1, tmp_path)[0]
    job.folder.write_text("a file where the run's directory should be")
    (said,) = _jobs.run([job], 1, "local", Records(tmp_path, "x"))
    assert said.startswith("python -m emsiam.train --threads 1")
    assert "status 2" in said


WAITS = """
import signal, time
from pathlib import Path

def solve(state, F_t, batch):
    training = batch.step == 6 and len(batch.ids) == 479  # diagnostics ask for few images
    end = time.monotonic() + {seconds}  # lest it outlive a test that failed
    while training and not Path({go!r}).exists() and time.monotonic() < end:
        if not callable(signal.getsignal(signal.SIGTERM)):  # the command has caught one
            break
        time.sleep(0.05)
    return F_t(batch.others), state
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_sweep_goes_on(tmp_path, number):
    """The sweep is a process of its own, and so is the run that it starts, which waits in its seventh step until it is
    stopped. The first row's run is there already.
    """
    (tmp_path / "mine.py").write_text(WAITS.format(go=str(tmp_path / "go"), seconds=_warm.LONG))
    long = {"epochs": 6, "save_every": 1, "eval_every": 30, "eta": f"{tmp_path}/mine.py:solve"}
    rows = [Row("short", SHORT), Row("long", SHORT | long)]
    script = tmp_path / "long.py"
    script.write_text(
        "import sys\nfrom experiments._sweep import Row, main\n"
        f"rows = [{', '.join(f'Row({row.name!r}, {row.options!r})' for row in rows)}]\n"
        "sys.exit(main('long', 'Claim.', rows, sys.argv[1:]))\n"
    )
    arguments = ["--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    (short,), (long_one,) = (_jobs.jobs(row.options, 1, tmp_path / "out") for row in rows)
    assert _jobs.run([short], 1, "local", Records(tmp_path / "out", "long")) == []
    short, long_one = short.folder, long_one.folder
    finished = (short / "summary.json").stat().st_mtime_ns
    process = _warm.Process("long", arguments, env=env, cwd=tmp_path)
    _warm.wait_for(long_one / "checkpoints" / "last.pt", process)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said.endswith("interrupted; the same command goes on\n")
    assert "Traceback" not in said
    assert not (long_one / "summary.json").exists()
    (tmp_path / "go").touch()
    assert _sweep.main("long", "Claim.", rows, arguments) == 0
    assert (short / "summary.json").stat().st_mtime_ns == finished
    steps = [json.loads(line)["step"] for line in (long_one / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 18
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
    def row(paper, fails, failed, moved, half):
        found = {"mean": moved, "low": moved - half, "high": moved + half, "p": 0.5, "detectable": 0.25}
        seen = {"verdicts": {"healthy": 3, "diverged": 2}, "failed": failed, "difference": {"knn_acc1": found}}
        return {"name": "a", "paper": paper, "fails": fails, "baseline": "base", **seen}

    base = row(68.0, "", "", 0.0, 1.0) | {"name": "base", "difference": {}}
    assert _table.differs([base, row(60.0, "", "", -0.1, 0.05)]) == []
    assert _table.differs([base, row(68.0, "", "", -0.1, 0.2)]) == []  # the paper has no difference
    assert len(_table.differs([base, row(68.0, "", "", -0.1, 0.05)])) == 1  # and here is one
    assert _table.differs([base, row(None, None, "", -0.1, 0.05)]) == []
    assert _table.differs([base, row(None, None, "collapse", -0.1, 0.05)]) == [
        "a: collapse here (verdicts: healthy 3, diverged 2); the paper does not have it."
    ]
    assert _table.differs([base, row(60.0, "", "", 0.1, 0.05)]) == [
        "a: kNN +0.100 (+0.050 to +0.150) here, accuracy -8.0 points in the paper."
    ]
    assert _table.differs([base, row(60.0, "", "", 0.1, 0.15)]) == [
        "a: kNN +0.100 (-0.050 to +0.250) here: no significant difference (the interval is ±0.150); accuracy"
        " -8.0 points in the paper."
    ]
    assert _table.differs([base, row(None, "collapse", "", 0.1, 0.3)]) == [
        "a: no failure here (verdicts: healthy 3, diverged 2), collapse in the paper."
    ]
    for fails in (None, "", "collapse"):  # what is not decided agrees with nothing, and contradicts nothing
        assert _table.differs([base, row(None, fails, "undecided", 0.1, 0.3)]) == [
            "a: undecided here (verdicts: healthy 3, diverged 2)."
        ]


def test_the_first_table_says_whether_a_row_agrees_with_the_paper():
    def row(paper, fails, failed, low, high):
        moved = {"mean": (low + high) / 2, "low": low, "high": high, "p": 0.01}
        return {"name": "a", "paper": paper, "fails": fails, "failed": failed, "difference": {"knn_acc1": moved}}

    base = {"paper": 68.0}
    for found, said in (
        (row(0.1, "collapse", "collapse", -0.1, 0.1), "agree"),
        (row(0.1, "collapse", "", -0.1, -0.05), "differ"),
        (row(66.0, "", "diverges", -0.1, -0.05), "differ"),
        (row(66.0, "", "", -0.1, -0.05), "agree"),
        (row(66.0, "", "collapse", -0.1, -0.05), "collapse here by rank"),
        (row(66.0, "", "undecided", -0.1, -0.05), "undecided here"),
        (row(70.0, "", "", -0.1, -0.05), "differ"),
        (row(70.0, "", "", -0.1, 0.05), "too small to see"),
        (row(68.0, "", "", -0.1, 0.05), "agree"),
        (row(None, None, "", -0.1, -0.05), ""),
    ):
        assert report.outcome(found, base, "knn_acc1") == said


def test_the_tables_stand_in_the_paper_s_order_and_each_is_linked():
    text = (ROOT / "RESULTS.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    places = [h.partition(":")[0] for h in headings if h.partition(":")[0] in report.PAPER]
    assert places == sorted(places, key=report.PAPER.index)
    assert len(places) > 10
    links = re.findall(r"\[table\]\(#([^)]*)\)", text)
    assert links == [report.anchor(heading) for heading in headings]
    assert report.anchor("Fig. D.1: On CIFAR-10 SimSiam's") == "fig-d1-on-cifar-10-simsiams"


def test_every_verdict_has_a_kind():
    assert _table.KINDS.keys() == set(VERDICTS)


def test_results_are_made_from_what_was_measured(results):
    text = report.report(report.load(results))
    first = json.loads((results / "first.json").read_text())
    mean = first["rows"][1]["metrics"]["knn_acc1"]["mean"]
    assert f"| without h | 0.1 | {mean:.3f} (" in text
    assert text.index("experiments.first") < text.index("experiments.second")
    assert all(f"- {line}" in text for line in first["agrees"].splitlines())
    assert "What would settle it: more seeds." in text


COMMITTED = report.load(ROOT / "results")


def test_results_are_made_from_the_committed_results():
    assert (ROOT / "RESULTS.md").read_text() == report.report(COMMITTED)


def test_the_readme_says_of_the_moving_average_what_was_found():
    rows = {row["name"]: row for row in COMMITTED["moving_average"]["rows"]}
    rank = {name: row["metrics"]["participation_ratio"] for name, row in rows.items()}
    assert rank["m = 0.8, constant lr"]["low"] > rank["m = 0.8, 5 ×, constant lr"]["high"]
    assert rank["m = 0.8"]["low"] > rank["m = 0.8, 5 × as long"]["high"]
    assert rank["m = 0.8, 5 ×, constant lr"]["high"] < 1.5  # one direction
    assert rows["SimSiam, 5 ×, constant lr"]["verdicts"] == {"healthy": 5}
    scores = [run["summary"]["knn_acc1_init"] for run in rows["SimSiam, with h"]["runs"]]
    assert round(sum(scores) / len(scores), 2) == 0.94


def test_every_table_has_its_results():
    tables = experiments.tables()
    assert tables.keys() == COMMITTED.keys()
    assert tables == {name: m for group in experiments.GROUPS for name, m in experiments.tables(group).items()}
    for name, module in tables.items():
        rows = COMMITTED[name]["rows"]
        assert [(row.name, {**row.options}) for row in module.ROWS] == [(row["name"], row["config"]) for row in rows]
        assert all(len(row["runs"]) >= 5 for row in rows)
        assert COMMITTED[name]["numerics"] == _jobs.NUMERICS
        assert [row["baseline"] for row in rows] == [row.against or module.ROWS[0].name for row in module.ROWS]
        assert (ROOT / "results" / f"{name}.png").exists()
        assert f"Command: python -m experiments.{name}\n" in module.__doc__
        assert "\nWhat would settle it: " in module.__doc__


def test_commands_at_the_paper_s_scale_are_made_from_the_rows(monkeypatch):
    written = paper_scale.FILE.read_text()
    (hour,) = re.findall(r"python -m .* --download --mode multistep --k 100 .*; > ([\d.]+) h", written)
    multistep = {"mode": "multistep", "k": 100}
    assert f"{paper_scale.hours(multistep, 'simsiam-cifar10'):.1f}" == hour
    monkeypatch.setattr(paper_scale, "hours", lambda *_: 0)
    assert re.sub(r"> [\d.]+ h$", "> 0.0 h", written, flags=re.MULTILINE) == paper_scale.text()
    assert "--dim 256 " in paper_scale.command({"dim": 16}, "simsiam-imagenet") + " "
    for line in written.splitlines():
        if line.startswith("python -m emsiam.train"):
            arguments, shape = line.partition("  #")[0].split()[3:], (3, 32, 32) if "cifar" in line else (3, 224, 224)
            config = preset(parse(arguments)[0])
            assert resolve(config, 50_000, shape)[0].arch == ("resnet18" if "cifar" in line else "resnet50")


def test_flops_are_those_of_the_passes():
    """torchvision lists the multiply-adds of a ResNet-50, 4.09e9; training has them three times."""
    listed = 1e9 * torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["_ops"]
    assert paper_scale.rate() / paper_scale.A100 == pytest.approx(3 * 2 * listed, rel=0.02)

    def flops(**options):
        return paper_scale.hours(options, "simsiam-cifar10")

    assert flops(mode="multistep") / flops() == pytest.approx(4 / 3, rel=0.02)  # two more passes forward on six
    assert flops(symmetry="asym") / flops() == pytest.approx(2 / 3, rel=0.02)
    assert flops(symmetry="asym2x") / flops(symmetry="asym") == pytest.approx(2)
    assert flops(mode="ema_eta") / flops() == pytest.approx(1, rel=0.02)
    assert flops(epochs=240) == pytest.approx(2 * flops())


def test_rows_without_a_number_of_the_paper_are_said_to_differ_or_not():
    def row(name, paper, low, high):
        return {
            "name": name,
            "paper": paper,
            "metrics": {"knn_acc1": {}},
            "difference": {"knn_acc1": {"low": low, "high": high}},
        }

    rows = [row("up", None, 0.1, 0.2), row("down", None, -0.2, -0.1), row("either", None, -0.1, 0.1)]
    rows += [row("one seed", None, None, None), row("the paper's", 68.1, 0.1, 0.2)]
    assert report.told_apart({"rows": rows}).endswith(
        'kNN: higher "up"; lower "down"; no significant difference "either", "one seed".'
    )
    assert report.told_apart({"rows": rows[-1:]}) == ""


def test_a_line_that_is_being_written_is_left_alone_and_one_that_was_cut_off_is_dropped(tmp_path):
    made = Record("a", 1, {}, {"verdict": "healthy", "loss": 0.0}, {}, {}, {}, "")
    Records(tmp_path, "one").add(made)
    file = tmp_path / "one.runs.jsonl"
    torn = file.read_text() + '{"key": "b", "nume'
    file.write_text(torn)
    records = Records(tmp_path, "one")
    assert list(records.own) == ["a"]
    assert file.read_text() == torn  # another process may be writing it
    records.add(made._replace(key="c"))
    assert list(Records(tmp_path, "one").own) == ["a", "c"]


def test_a_sweep_is_of_cpus_on_any_machine(tmp_path, monkeypatch):
    """Jobs of one machine are shown no GPU, so a key that the machine's own would have had is another one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _jobs.asked(argparse.ArgumentParser(), [], smoke="")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    (job,) = _jobs.jobs({"epochs": 1}, 1, tmp_path)
    assert job.arguments[job.arguments.index("--device") + 1] == "cpu"
