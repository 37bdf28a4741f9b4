"""python -m emsiam.compare on real runs, small ones."""

import itertools
import json
import math
import re
import shutil

import numpy as np
import pytest
import scipy.stats

import emsiam
from emsiam import compare, comparison, plots
from emsiam.diagnostics import trajectory
from emsiam.diagnostics.statistics import mean_interval
from emsiam.metrics import CRITERIA

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "log_every": 3, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two groups of two seeds, and a longer, wider run."""
    root = tmp_path_factory.mktemp("runs")
    made = {}
    for seed in (0, 1):
        made["a", seed] = emsiam.fit(emsiam.Config(**SMALL, seed=seed, out=str(root / "a" / str(seed))))
        config = emsiam.Config(**SMALL, seed=seed, predictor="none", out=str(root / "b" / str(seed)))
        made["b", seed] = emsiam.fit(config)
    longer = SMALL | {"epochs": 3, "dim": 24}
    made["c", 0] = emsiam.fit(emsiam.Config(**longer, mode="multistep", k=3, out=str(root / "c" / "0")))
    return made


@pytest.fixture(scope="module")
def result(runs):
    return compare.compare(list(runs.values()))


def test_names_are_the_shortest_endings(tmp_path):
    paths = [tmp_path / "x" / "1", tmp_path / "y" / "1", tmp_path / "y" / "2"]
    assert comparison.pairing.endings(paths) == ["x/1", "y/1", "y/2"]
    assert comparison.pairing.endings([tmp_path / "x" / "1", tmp_path / "y" / "2"]) == ["1", "2"]
    with pytest.raises(emsiam.ConfigError, match="given twice"):
        comparison.pairing.endings([tmp_path / "x", tmp_path / "y" / ".." / "x"])


def test_groups_differ_by_seed_alone(result):
    groups = {g["name"]: g["runs"] for g in result["groups"]}
    assert list(groups.values()) == [["a/0", "a/1"], ["b/0", "b/1"], ["c/0"]]
    mlp, none = (f"onestep dim=16 predictor={name} epochs=2" for name in ("mlp", "none"))
    assert list(groups) == [mlp, none, "multistep k=3 dim=24 epochs=3"]  # what differs is told of each
    member = {name: group for group, names in groups.items() for name in names}
    assert all(run["group"] == member[run["name"]] for run in result["runs"])


def test_pairs_are_recognised(result):
    found = {(p["a"], p["b"]): p["paired"] for p in result["pairs"]}
    assert found["a/0", "b/0"]
    assert found["b/0", "c/0"]  # of other width and length, of the same seed
    assert not found["a/0", "a/1"]
    by_metric = {(d["a"], d["b"], d["metric"]): d for d in result["differences"]}
    one, two, _ = (group["name"] for group in result["groups"])
    d = by_metric[one, two, "z_std_ratio"]
    assert (d["paired"], d["n"]) == (True, 2)


def test_cka_is_that_of_the_snapshots(runs, result):
    pair = next(p for p in result["pairs"] if (p["a"], p["b"]) == ("a/0", "c/0"))
    a, c = runs["a", 0].snapshots(), runs["c", 0].snapshots()
    assert sorted(pair["cka"]) == sorted(set(a) & set(c))
    for step, value in pair["cka"].items():
        assert value == pytest.approx(trajectory.linear_cka(a[step], c[step]), abs=1e-9)
    assert "14 and 21 steps, so other schedules: z is compared at the" in pair["note"]
    assert "other dim: F begins elsewhere" in pair["note"]
    assert pair["parts_at"] is None  # they never were together
    assert set(pair["procrustes"]) <= set(pair["cka"])
    assert len(pair["procrustes"]) == 9
    assert pair["procrustes"][0] == pytest.approx(trajectory.procrustes(a[0][:128], c[0][:128]))
    same = next(p for p in result["pairs"] if (p["a"], p["b"]) == ("a/0", "b/0"))
    assert same["cka"][0] == pytest.approx(1)  # one initial projector
    assert same["note"] == ""
    assert result["seed_band"][result["groups"][0]["name"]][0][0] < 1


def test_ways_of_weights_are_compared_from_a_common_start(runs, result):
    by_names = {(p["a"], p["b"]): p for p in result["pairs"]}
    one, two = (runs[name, 0].weights() for name in ("a", "b"))
    assert np.array_equal(one[0], two[0])
    found = by_names["a/0", "b/0"]["angle_of_weights"]
    assert sorted(found) == sorted(set(one) & set(two) - {0})
    assert found[14] == trajectory.angle(one[14] - one[0], two[14] - two[0])
    assert 0 < found[1] < 90  # the first updates of two methods, from one θ
    assert by_names["a/0", "a/1"]["angle_of_weights"] == by_names["a/0", "c/0"]["angle_of_weights"] == {}
    assert list(result["weight_plane"]["runs"]) == ["a/0", "b/0"]
    assert list(result["plane"]["runs"]) == ["a/0", "b/0", "a/1", "b/1", "c/0"]
    described = result["runs"][0]
    assert described["weights_turning"] == trajectory.turning(one)
    assert described["turning"] != described["weights_turning"]


def test_the_null_has_as_many_walks_as_there_are_paths(result):
    for plane in (result["plane"], result["weight_plane"]):
        walks, paths = plane["random_walk"]["paths"], plane["runs"].values()
        assert list(map(len, walks)) == list(map(len, paths))
        assert len(plane["left_out"]) == 5 - len(walks)
    assert sum(result["plane"]["random_walk"]["explained"]) < 0.5  # one walk has 0.77


def test_a_second_run_of_one_seed_is_no_second_seed(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["a", 0].path, copy)
    found = compare.compare([runs["a", 0], emsiam.load_run(copy), runs["b", 0]])
    assert [len(group["runs"]) for group in found["groups"]] == [1, 1, 1]
    assert all(np.isnan(d["p"]) for d in found["differences"])


def test_runs_of_other_files_are_not_one_group(tmp_path, few_files):
    other = tmp_path / "moved"
    shutil.copytree(few_files["data_dir"], other)
    changed = tmp_path / "changed"
    shutil.copytree(few_files["data_dir"], changed)
    (changed / "a" / "0.png").write_bytes((changed / "b" / "1.png").read_bytes() + b"\0")
    made = {}
    for i, (seed, place) in enumerate(((0, few_files["data_dir"]), (1, str(other)), (2, str(changed)))):
        options = SMALL | few_files | {"seed": seed, "data_dir": place}
        made[i] = emsiam.fit(emsiam.Config(**options, out=str(tmp_path / "runs" / str(i))))
    found = compare.compare(list(made.values()))
    assert [group["runs"] for group in found["groups"]] == [["0", "1"], ["2"]]  # where the files are does not matter
    assert [bool(pair["cka"]) for pair in found["pairs"]] == [True, False, False]


FILES = ("summary.json", "metrics.jsonl", "probe.json", "snapshots/0.npy", "weights/14.npy")


@pytest.mark.parametrize(
    ("name", "damage"), [*((f, d) for f in FILES for d in ("cut", "binary")), *((f, "missing") for f in FILES[1:])]
)
def test_a_damaged_file_is_one_line(runs, tmp_path, capsys, name, damage):
    shutil.copytree(runs["a", 0].path, tmp_path / "run")
    file = tmp_path / "run" / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        cut = content[: len(content) // 2].rstrip(b"\n}")  # within a line, wherever the half falls
        file.write_bytes({"cut": cut, "binary": b"\x93\xff\0" * 99}[damage])
    assert compare.main([str(runs["b", 0].path), str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("emsiam.compare: ")
    assert said.count("\n") == 1
    assert str(tmp_path / "run") in said
    assert not (tmp_path / "out").exists()


def test_updates_from_one_checkpoint(runs, tmp_path, capsys):
    first, second, third = (str(runs[key].path) for key in (("b", 0), ("c", 0), ("b", 1)))
    assert compare.main([second, first, "--updates", "2", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "comparison.json").read_text())["updates"]
    assert found["steps"] == 2
    assert 0 < found["angles"][0]["angle"] < 120
    assert compare.main([first, second, third, "--updates", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "updates from b/0, 2 steps" in said
    assert "has no predictor, and multistep --predictor mlp needs one" in said
    shutil.copytree(first, tmp_path / "bare", ignore=shutil.ignore_patterns("*.pt"))
    assert compare.main([str(tmp_path / "bare"), second, "--updates", "2", "--out", str(tmp_path)]) == 2
    assert "has no checkpoint to start from" in capsys.readouterr().err


def test_procrustes_does_not_depend_on_the_basis():
    z = np.random.default_rng(0).standard_normal((200, 300))
    y = np.random.default_rng(1).standard_normal((200, 300))
    expected = trajectory.procrustes(z[: comparison.compare.IMAGES], y[: comparison.compare.IMAGES])
    assert trajectory.procrustes(comparison.compare._short(z), comparison.compare._short(y)) == pytest.approx(expected)


def test_intervals():
    """One kind everywhere, of a mean by the t distribution: scipy's."""
    assert mean_interval([2.0]) == {"mean": 2, "low": None, "high": None, "n": 1}
    assert mean_interval([2.0, 2.0, 2.0]) == {"mean": 2, "low": 2, "high": 2, "n": 3}
    assert mean_interval([2.0, math.inf]) == {"mean": math.inf, "low": None, "high": None, "n": 2}
    values = [0.1, 0.5, 0.2, 0.9]
    found = mean_interval(values)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_the_command(runs, tmp_path, capsys):
    paths = [str(run.path) for run in runs.values()]
    assert compare.main([*paths, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "onestep dim=16 predictor=none epochs=2 − onestep dim=16 predictor=mlp epochs=2" in said
    table = said[said.index("pair  ") :].splitlines()
    pair, _, at, *_ = re.split("  +", next(line for line in table if line.startswith("a/0 · c/0  ")))
    assert (pair, at) == ("a/0 · c/0", "14")
    assert max(map(len, table[: table.index("")])) <= 120
    elsewhere = "other dim: F begins elsewhere, in a/0 · c/0 and 1 more"
    for common in ("different schedules", "z is compared at the snapshots", elsewhere):
        assert said.count(common) == 1
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [r["name"] for r in written["runs"]] == ["a/0", "b/0", "a/1", "b/1", "c/0"]
    assert written["runs"][0]["steps_to_collapse"].keys() == CRITERIA.keys()
    assert written["pairs"][0].keys() >= {"a", "b", "cka", "procrustes"}
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 20_000
    assert (tmp_path / "out" / "comparison.html").stat().st_size > 4_000_000


def test_a_run_that_diverged_is_compared_as_far_as_it_went(runs, tmp_path, capsys):
    wild = SMALL | {"lr": 1e5, "bn": "none", "log_every": 30, "epochs": 5}
    diverged = emsiam.fit(emsiam.Config(**wild, out=str(tmp_path / "diverged")))
    assert diverged.summary["verdict"] == "diverged"
    for paths in ((diverged, runs["a", 0]), (runs["a", 0], diverged)):
        assert compare.main([*(str(run.path) for run in paths), "--out", str(tmp_path / "out")]) == 0
    assert "diverged" in capsys.readouterr().out
    assert all(np.isfinite(z).all() for z in diverged.snapshots().values())


def test_verdicts_of_two_rules_are_told_apart(runs, tmp_path):
    """An older run, without a name for the rule."""
    old = tmp_path / "old"
    shutil.copytree(runs["a", 0].path, old)
    summary = json.loads((old / "summary.json").read_text())
    (old / "summary.json").write_text(json.dumps({n: x for n, x in summary.items() if n != "verdict_rule"}))
    (old / "SHA256SUMS").unlink()
    said = compare.report(compare.compare([emsiam.load_run(old), runs["b", 0]]))
    assert "verdicts are not by one rule, so do not compare them (few directions: old; found again: " in said
    assert "not by one rule" not in compare.report(compare.compare([runs["a", 0], runs["b", 0]]))


def test_other_data_sets_are_not_compared(runs, tmp_path, few_files):
    other = emsiam.fit(emsiam.Config(**SMALL | few_files, out=str(tmp_path / "run")))
    result = compare.compare([runs["a", 0], other])
    assert "show other images" in result["pairs"][0]["note"]
    assert result["pairs"][0]["cka"] == {}
    assert result["pairs"][0]["same_images"] is False
    assert [group["name"] for group in result["groups"]] == ["digits: onestep", "folder: onestep"]
    assert result["differences"] == []
    said = compare.report(result)
    assert said.splitlines()[0].startswith("data set  run")
    assert "z is not compared in 1 pairs of runs that look at other images" in said
    assert "nan" not in said


def test_accuracies_on_other_images_have_no_difference(tmp_path, few_files):
    """Two folders are two data sets of one name."""
    shutil.copytree(few_files["data_dir"], tmp_path / "images")
    next((tmp_path / "images").rglob("*.png")).unlink()
    options = [SMALL | few_files | {"lr": 0.01}, SMALL | few_files | {"data_dir": str(tmp_path / "images")}]
    two = [emsiam.fit(emsiam.Config(**o, out=str(tmp_path / str(i)))) for i, o in enumerate(options)]
    result = compare.compare(two)
    assert len(result["groups"]) == 2
    assert result["differences"] == []


def test_a_label_has_what_tells_a_group_apart_and_at_most_40_characters(tmp_path, few_files):
    """The strengths of T that are not the data set's, not all of them; nothing that a data set or preset brings."""
    short = {"epochs": 1, "batch_size": 256, "threads": 1, "quiet": True}
    ways = {
        "plain": {},
        "noise": {"augment": "noise=0.2"},
        "long": {"mode": "multistep", "augment": "scale=0.5:1,noise=0.2,brightness=0.1", "lr": 0.0123, "wd": 0.00012},
        "folder": few_files | {"epochs": 1},
    }
    made = [emsiam.fit(emsiam.Config(**short | way, out=str(tmp_path / name))) for name, way in ways.items()]
    names = [g["name"] for g in compare.compare(made)["groups"]]
    assert names == [
        "digits: onestep scale=0.3:1 noise=0.05 …",  # no room for brightness, lr and wd, which others have as well
        "digits: onestep scale=0.3:1 noise=0.2 …",
        "digits: multistep k=10 scale=0.5:1 …",
        "folder: onestep",
    ]
    assert [g["name"] for g in compare.compare(made[:2])["groups"]] == ["onestep noise=0.05", "onestep noise=0.2"]


def test_a_default_that_others_do_not_have_is_told(runs, tmp_path):
    """Whichever run is first, and where its options are the defaults."""
    made = [emsiam.fit(emsiam.Config(**SMALL | {"lr": lr}, out=str(tmp_path / str(lr)))) for lr in (0.1, 0.01)]
    names = ["onestep lr=0.1", "onestep lr=0.01"]
    for way in (1, -1):
        assert [g["name"] for g in compare.compare(made[::way])["groups"]] == names[::way]
    longer = compare.compare([made[0], runs["c", 0]])["groups"]  # k and h follow from the mode
    assert [g["name"] for g in longer] == ["onestep dim=16 epochs=2", "multistep k=3 dim=24 epochs=3"]


OWN = "def still(state, F_t, batch, *, m=0.9):\n    return F_t(batch.others), state\n"


def test_a_solver_of_ones_own_is_named_and_its_run_blamed(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    emsiam.fit(emsiam.Config(**SMALL, eta="mine.py:still", lr=0.05, out="own"))
    paths = [str(runs["a", 0].path), "own", "--out", "out", "--updates", "1"]
    assert compare.main(paths) == 0
    groups = json.loads((tmp_path / "out" / "comparison.json").read_text())["groups"]
    assert [g["name"] for g in groups] == ["onestep lr=0.1", "onestep eta=mine.py:still m=0.9 lr=0.05"]
    said = capsys.readouterr().out
    assert "not from there, own: η is solved by code, mine.py:still; to run it, name it too: --eta mine.py" in said
    assert compare.main([*paths, "--eta", "mine.py:still"]) == 0
    assert "not from there" not in capsys.readouterr().out


def test_folders_that_hold_no_run_are_left_out(runs, tmp_path, capsys):
    """As of `runs/*`; one that holds the seeds of --seeds is these."""
    for seed in (0, 1):
        shutil.copytree(runs["a", seed].path, tmp_path / "seeds" / f"seed-{seed}")
    (tmp_path / "comparison").mkdir()
    (tmp_path / "note.txt").touch()
    rest = [str(tmp_path / name) for name in ("comparison", "note.txt", "seeds")]
    assert [run.path.name for run in compare._found([*rest, str(runs["b", 0].path)])] == ["seed-0", "seed-1", "0"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"emsiam.compare: {path}: holds no run, and is left out" for path in rest[:2]]
    for few in (rest[:1], [rest[0], str(runs["b", 0].path)]):
        with pytest.raises(emsiam.ConfigError, match="comparison: holds no run"):
            compare._found(few)
    with pytest.raises(emsiam.ConfigError, match="nowhere: holds no run"):
        compare._found([rest[2], str(tmp_path / "nowhere")])
    assert capsys.readouterr().err == ""


def test_a_run_that_stopped_says_how_far_it_came(runs, tmp_path):
    """Its last snapshot says so, as its last line is of an earlier step."""
    stopped = tmp_path / "stopped"
    shutil.copytree(runs["a", 0].path, stopped)
    for name in ("summary.json", "SHA256SUMS"):
        (stopped / name).unlink()
    for folder in ("snapshots", "weights"):
        for file in (stopped / folder).glob("*.npy"):
            if int(file.stem) > 7:
                file.unlink()
    first = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (stopped / "metrics.jsonl").write_text(first)
    result = compare.compare([runs["b", 0], emsiam.load_run(stopped)])
    assert result["pairs"][0]["note"] == "14 and 7 steps, not finished: z is compared at the 8 snapshots that both have"
    said = compare.report(result)
    assert next(line for line in said.splitlines() if line.startswith("stopped")).split()[1:3] == ["unfinished", "7"]
    assert "different schedules" not in said


def test_long_names_do_not_overlap_beside_the_matrix():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.75, 4.3), layout="constrained")  # its share of comparison.png
    axes = figure.subplots()
    names = [f"digits-onestep-20261127-14320{i}" for i in range(8)]
    pairs = [{"a": a, "b": b, "cka": {0: 0.5}} for a, b in itertools.combinations(names, 2)]
    plots._cka_matrix(axes, {"pairs": pairs}, names, names)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert len(boxes) == 16
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    rows, columns = ([label.get_text() for label in x] for x in (axes.get_yticklabels(), axes.get_xticklabels()))
    assert rows == [f"digits-ones…61127-14320{i}  {i + 1}" for i in range(8)]
    assert columns == [str(i + 1) for i in range(8)]


def test_wrong_input(runs, tmp_path, capsys):
    good = str(runs["a", 0].path)
    for arguments, said in (
        ([good], "two or more runs are needed"),
        ([good, good], "a run is given twice"),
        ([good, str(tmp_path)], "holds no run"),
        ([good, good, "--ut"], "unrecognized arguments: --ut"),
        ([good, good, "--updates", "0"], "--updates: 0; allowed is a number of steps from 1"),
    ):
        assert compare.main(arguments) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith("emsiam.compare: ")
        assert said in line
        assert "\n" not in line
