"""The doctor's truth: what is trained, and what is read of it."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

import emsiam
from emsiam.data import idx
from emsiam.diagnostics.verdict import BOUNDS, Bounds
from experiments._records import Record
from experiments.doctor import __main__ as main
from experiments.doctor import chosen, healthy, judge, made, page
from experiments.doctor.cases import DATA, cases
from experiments.doctor.runs import MONITOR, Run

ROOT = Path(__file__).parents[1]


def test_each_case_is_another_training():
    known = [case for case in cases() if case.data != "Fashion-MNIST" or idx.FASHION_MNIST.is_dir()]
    runs = [Run(case, seed, DATA[case.data].looks) for case in known for seed in case.seeds]
    assert len({run.key for run in runs}) == len(runs) <= 200


@pytest.mark.parametrize("name", ["SimSiam", "no predictor", "supervised"])
def test_a_run_has_its_looks(name):
    case = next(case for case in cases() if case.name == name and case.data == "digits")
    record = Run(case, 0, (0, 2)).perform()
    looks = [(step, way) for step, way in zip(record.curves["step"], record.curves["as"], strict=True)]
    ways = ("", "64 images", "every image twice", "bfloat16", "running statistics")
    watched = [] if name == "supervised" else [(1, MONITOR)]
    assert looks == [(0, ""), *((2, way) for way in ways), *watched]
    assert record.curves["z_eigenvalue_1"][1] > record.curves["z_eigenvalue_64"][1]
    for column in ("z_view_auc", "z_participation_ratio_low", "knn_z", "linear_p"):
        assert record.curves[column][0] is not None
    assert record.curves["x_view_auc"][0] > 0.5  # pixels are there before training alone
    assert record.curves["x_view_auc"][1] is None


@pytest.mark.parametrize(
    ("knn", "linear", "said"),
    [(0.0, 0.0, False), (-0.03, 0.05, True), (0.2, -0.031, True), (-0.02, 0.0, None), (-0.01, -0.009, False)],
)
def test_images_are_lost_where_either_accuracy_is(knn, linear, said):
    first = {"knn_z": 0.5, "linear_z": 0.5}
    assert judge.lost({"knn_z": 0.5 + knn, "linear_z": 0.5 + linear}, first) is said


def look(step, knn, found=0.9, **more):
    numbers = {
        "z_residual_norm": 0.99,
        "z_z_std_ratio": 0.99,
        "z_participation_ratio": 8.0,
        "z_view_auc": found,
        "x_view_auc": 0.7,
    }
    numbers |= {"p_residual_norm": 0.99, "p_z_std_ratio": 0.99, "p_participation_ratio": 5.0}
    numbers |= {"x_residual_norm": 1.0, "x_participation_ratio": 9.0, **more}
    ends = {f"{n}{end}": x + d for n, x in numbers.items() for end, d in (("_low", -0.02), ("_high", 0.02))}
    return {"step": step, "as": "", "knn_z": knn, "linear_z": knn, **numbers, **ends}


def record(looks):
    curves = {name: [line.get(name) for line in looks] for name in looks[0]}
    return Record("k", 1, {"case": "c", "data": "d", "dim": 128}, {}, {}, curves, {}, "")


WATCHED = [
    {"step": step, "as": MONITOR, "z_z_std_ratio": std} for step, std in ((1, 1.0), (300, 0.95), (400, 0.8), (500, 0.5))
]
WATCHED.append({"step": 300, "as": f"{MONITOR}: falling"})


def test_what_a_monitor_said_of_a_run():
    looks = [look(0, 0.9), look(69, 0.9), look(275, 0.9), look(1100, 0.8, found=0.6)]
    found = judge.watched(record([*looks, *WATCHED]))
    assert (found.lost, found.constant, found.warned, found.moved) == (True, False, {"falling": 300}, 400)
    kept = judge.watched(record([*looks[:3], WATCHED[0]]))
    assert (kept.lost, kept.warned, kept.moved) == (False, {}, None)
    assert judge.watched(record(looks)) is None


def test_what_will_be_lost_is_lost_at_four_times_the_steps():
    found = judge.of_run(record([look(0, 0.9), look(69, 0.9), look(275, 0.9), look(1100, 0.8, found=0.6)]))
    assert [row.lost for row in found] == [False, False, True]
    assert [row.will_lose for row in found] == [False, True, None]  # 275 is four times 69 but for rounding
    assert [row.judgement.verdict for row in found] == ["healthy", "healthy", "not converging"]
    assert [judge.says_lost(row.judgement) for row in found] == [False, False, True]


def test_bounds_are_chosen_by_the_errors_that_they_leave():
    """One run loses its images after a look at two directions; another keeps them at 2.7."""
    loses = [look(0, 0.9), look(275, 0.9, z_participation_ratio=1.9), look(1100, 0.8, found=0.6)]
    keeps = [look(0, 0.9), *(look(step, 0.9, z_participation_ratio=2.7) for step in (275, 1100))]
    found = [row for looks in (loses, keeps) for row in judge.of_run(record(looks))]
    assert chosen.shares(found, BOUNDS) == (1, 0, 1, 1)
    assert chosen.chosen(found) == Bounds(2.5, BOUNDS.enough)  # the nearest of 2 and 2.5, without an error
    assert chosen.shares(found, chosen.chosen(found)) == (1, 0, 1, 0)
    assert chosen.shares(found, Bounds(1.5)) == (1, 0, 0, 0)
    assert chosen.chosen([]) == BOUNDS


def test_healthy_are_simsiam_s_runs_whose_images_are_kept():
    def at(step, knn, pr, found):
        return look(step, knn, found, z_participation_ratio=pr, z_effective_rank=3 * pr, z_eigenvalue_1=0.5)

    looks = [at(0, 0.9, 30.0, 0.6), at(69, 0.9, 20.0, 0.7), at(275, 0.9, 6.0, 0.8), at(1100, 0.95, 9.0, 0.9)]
    known = record([*looks, at(4400, 0.8, 2.0, 0.7)])
    config = {"case": "SimSiam", "data": "digits", "dim": 128}
    kinds = healthy.ranges([known._replace(config=config | {"case": "no predictor"}), known._replace(config=config)])
    z = next(x for x in kinds if x["kind"] == "z")
    assert (z["runs"], z["data"], z["width"], z["images"]) == (1, ["digits"], 128, 512)
    assert z["numbers"]["view_auc"] == [0.8, 0.9]
    assert z["numbers"]["effective_rank"] == [18, 27]
    assert z["numbers"]["directions"] == pytest.approx([1 / (1 / 6 - 1 / 512), 1 / (1 / 9 - 1 / 512)], rel=0.01)
    assert z["spectrum"] == {1: 0.5}


def test_an_interval_is_of_runs_and_not_of_looks():
    alike = judge.rate([(str(i), i < 5) for i in range(10)])
    repeated = judge.rate([(str(i), i < 5) for i in range(10) for _ in range(50)])
    assert (alike.low, alike.high) == (repeated.low, repeated.high)
    assert (repeated.share, repeated.looks, repeated.runs) == (0.5, 500, 10)
    assert judge.rate([]) is None


def test_the_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, ill = rng.integers(5, size=200).astype(float), rng.random(200) < 0.3
    assert judge.area(scores, ill) == pytest.approx(roc_auc_score(ill, scores))


def test_the_page_has_each_question():
    looks = [look(0, 0.9), look(69, 0.9), look(275, 0.9), look(1100, 0.8, found=0.6)]
    found = judge.of_run(record(looks)._replace(config={"case": "SimSiam", "data": "digits", "dim": 128}))
    watched = judge.watched(
        record([*looks, *WATCHED])._replace(config={"case": "SimSiam", "data": "digits", "dim": 128})
    )
    text = page.text(found, [watched])
    assert "| digits | 1.00; 1 looks, 1 runs | 100 (100 to 100); 1 runs | 0 |" in text  # the monitor
    assert "| digits | z | 1.00; 1 looks, 1 runs | 100% | 0% |" in text  # lost
    assert "| SimSiam | not converging 1 (images lost 1) |" in text
    assert "| one NaN | not finite | diverged |" in text
    assert "| wrong |" not in text


@pytest.mark.parametrize("made", list(made.arrays()), ids=lambda m: m.name)
def test_arrays_that_nobody_trained_are_what_they_were_made_to_be(made):
    assert emsiam.examine(made.z).verdict in made.allowed


def test_a_share_that_no_look_or_every_look_has_is_not_certain():
    """The bootstrap of equal values has no width."""
    runs = [str(i) for i in range(10)]
    none, every = (judge.rate([(run, holds) for run in runs]) for holds in (False, True))
    assert (none.share, none.low, every.share, every.high) == (0, 0, 1, 1)
    exact = scipy.stats.binomtest(0, 10).proportion_ci(0.95, "exact")
    assert none.high == pytest.approx(exact.high)
    assert every.low == pytest.approx(1 - exact.high)
    assert math.isnan(judge.rate([("one", True), ("one", False)]).low)
    assert page.shown(judge.rate([("one", True)])) == "1.00; 1 looks, 1 runs"


@pytest.mark.slow
def test_the_page_is_made_of_the_committed_runs(tmp_path):
    for file in (ROOT / "results").glob("doctor.runs.jsonl"):
        shutil.copy(file, tmp_path)
    assert main.main(["--out", str(tmp_path)]) == 0
    assert (tmp_path / "doctor.md").read_text() == (ROOT / "docs/doctor.md").read_text()
