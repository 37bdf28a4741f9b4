"""What the defaults show on digits, seeds 0-4. Minutes: `make slow`; prints the table that LOG.md holds."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import mean

import pytest

ROWS = {
    "onestep": "--mode onestep",
    "multistep k = 1": "--mode multistep --k 1",
    "multistep k = 10": "--mode multistep --k 10",
    "multistep k = 100": "--mode multistep --k 100",
    "expectation n = 4": "--mode expectation",
    "ema_eta m = 0.8": "--mode ema_eta --m 0.8",
    "no stop-gradient": "--no-stop-grad",
    "no predictor": "--predictor none",
    "fixed predictor": "--predictor fixed",
}
SEEDS = range(5)
COLUMNS = ("loss", "z_std_ratio", "participation_ratio", "between_share", "prediction_quality", "knn_acc1")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """{row: [summary of each seed]}; two runs at once, one thread each."""
    folder = tmp_path_factory.mktemp("digits")

    def train(job):
        row, seed = job
        out = folder / f"{list(ROWS).index(row)}-{seed}"
        command = [sys.executable, "-m", "emsiam.train", *ROWS[row].split(), "--seed", str(seed)]
        subprocess.run(
            [*command, "--out", str(out), "--quiet", "--threads", "1"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return row, json.loads((out / "summary.json").read_text())

    found = {row: [] for row in ROWS}
    with ThreadPoolExecutor(2) as pool:
        for row, summary in pool.map(train, [(row, seed) for row in ROWS for seed in SEEDS]):
            found[row].append(summary)
    print("\n| run | " + " | ".join(COLUMNS) + " | verdicts |\n|" + "---|" * (len(COLUMNS) + 2))
    for row, summaries in found.items():
        values = [[s[column] for s in summaries] for column in COLUMNS]
        cells = [f"{mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in values]
        verdicts = sorted({s["verdict"] for s in summaries}, key=[s["verdict"] for s in summaries].count)
        counts = ", ".join(f"{v} {[s['verdict'] for s in summaries].count(v)}" for v in verdicts)
        print(f"| {row} | " + " | ".join(cells) + f" | {counts} |")
    return found


def average(table, row, column):
    return mean(s[column] for s in table[row])


def verdicts(table, row):
    return {s["verdict"] for s in table[row]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "knn"),
    [("onestep", 0.97), *((f"multistep k = {k}", 0.96) for k in (1, 10, 100))],
)
def test_with_predictor_and_stop_gradient_it_is_healthy(table, row, knn):
    assert average(table, row, "z_std_ratio") >= 0.95
    assert average(table, row, "participation_ratio") >= 6
    assert average(table, row, "knn_acc1") >= knn
    assert verdicts(table, row) == {"healthy"}


@pytest.mark.slow
def test_one_step_alternation_is_simsiam(table):
    for one, multi in zip(table["onestep"], table["multistep k = 1"], strict=True):
        assert [one[c] for c in COLUMNS] == [multi[c] for c in COLUMNS]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "ratio"), [("no stop-gradient", 0.75), ("no predictor", 0.8)])
def test_without_either_it_collapses(table, row, ratio):
    assert average(table, row, "z_std_ratio") <= ratio
    assert average(table, row, "participation_ratio") <= 2.5
    assert verdicts(table, row) <= {"dimensional collapse", "complete collapse"}


@pytest.mark.slow
def test_a_bank_lies_between(table):
    for column in ("z_std_ratio", "participation_ratio"):
        assert average(table, "no predictor", column) < average(table, "ema_eta m = 0.8", column)
        assert average(table, "ema_eta m = 0.8", column) < average(table, "onestep", column)
    assert average(table, "ema_eta m = 0.8", "knn_acc1") >= 0.95


@pytest.mark.slow
def test_a_fixed_predictor_does_not_converge(table):
    """Its loss stays high, p says little of the other view, and z does not collapse."""
    assert average(table, "fixed predictor", "loss") > average(table, "onestep", "loss") / 2
    assert max(s["prediction_quality"] for s in table["fixed predictor"]) < 0.5
    assert not verdicts(table, "fixed predictor") & {"dimensional collapse", "complete collapse"}
