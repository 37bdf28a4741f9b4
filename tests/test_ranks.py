"""Two processes give one process's numbers. Real processes, over gloo."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import _warm
import pytest
import torch
import torch.distributed as dist
from _goes_on import go_on

from emsiam import fit, ranks
from emsiam.config import parse
from emsiam.training.observe import NUMBERS

pytestmark = pytest.mark.usefixtures("plain_runs")
TWO = "--epochs 2 --diagnose-every 2 --batch-size 80"  # where the second is not as the first: 4 steps
MODES = ["--mode onestep", "--mode multistep --k 2", f"--mode ema_eta --m 0.8 {TWO}"]
# An alternation is watched where the solver is another. These have one of those above.
UNWATCHED = "--diagnose-every 99 --batch-size 48"  # 3 steps, not 5
SYSTEMS = ["--mode byol", f"--mode swav --no-stop-grad --online-probe {UNWATCHED}"]
SYSTEMS += [f"--mode moco --shuffle-bn 4 {UNWATCHED}", f"--mode sigreg {UNWATCHED}"]
SYSTEMS += [f"--predictor directpred {UNWATCHED}", f"--eta permuted {UNWATCHED}"]
LONGER = ["--mode moco", "--mode swav"]  # of `make slow`: their ways to gather and send are above
LONGER += [f"--mode {mode} {UNWATCHED}" for mode in ("expectation", "simclr", "vicreg", "barlow")]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["step"] > 0]


def alternation_seen(folder):
    """The NUMBERS of the alternation that was watched, if one was."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {name: value for line in lines for name, value in line.items() if name in NUMBERS}


DOUBLE = "--precision fp64 --proj-layers 2 --dataset folder --data-dir {} --batch-size 32 --epochs 1 --diagnose-every 1"
SINGLE = "--epochs 2 --warmup-epochs 2 --lr 0.009 --batch-size 142"
BN, SPREAD = "_sync_bn.py", "_spread.py"
COMMON = "--log-every 1 --eval-every 1000 --quiet --threads 1"


def pairs(folder, lines):
    """{line: (folder of one process, folder of two)}"""
    return {line: (folder / str(i) / "one", folder / str(i) / "two") for i, line in enumerate(lines)}


def compare(folder, lines):
    """Train what `pairs` names, the runs of two processes all in one launch, which runs two files of tests first."""
    found = pairs(folder, lines)
    launched = [BN, SPREAD, *(f"{line} {COMMON} --out {two}" for line, (_, two) in found.items())]
    launched = [f"{port} {line}" for port, line in zip(_warm.ports(len(launched)), launched, strict=True)]
    with ThreadPoolExecutor() as beside:
        printed = beside.submit(_warm.ranks, 2, "_trains", *launched)
        for line, (one, _) in found.items():
            fit(parse(f"{line} {COMMON} --out {one}".split())[0])
        (folder / "printed").write_text(printed.result())


def made(once, few_files, name, modes):
    """The folders of `pairs`, by mode."""
    lines = [f"{DOUBLE} {mode}".format(few_files["data_dir"]) for mode in modes]
    folder = once(name, lambda folder: compare(folder, lines))
    return dict(zip(modes, pairs(folder, lines).values(), strict=True)) | {"printed": folder / "printed"}


@pytest.fixture(scope="module")
def runs(once, few_files):
    return made(once, few_files, "ranks", MODES + SYSTEMS)


@pytest.fixture(scope="module")
def longer(once, few_files):
    return made(once, few_files, "ranks-longer", LONGER)


@pytest.fixture
def folders(request, mode):
    """The folders of the run by one process and of that by two."""
    return request.getfixturevalue("longer" if mode in LONGER else "runs")[mode]


SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in LONGER]


@pytest.mark.parametrize("mode", MODES + SYSTEMS + SLOW)
def test_two_ranks_give_one_rank_s_trace_in_double_precision(folders, mode):
    one, two = map(losses, folders)
    assert len(one) == len(two) == (4 if TWO in mode else 3 if UNWATCHED in mode else 5)
    assert max(abs(x - y) for x, y in zip(one, two, strict=True)) < 1e-10
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    assert a["z_std"] == pytest.approx(b["z_std"], abs=1e-10)
    assert a["knn_acc1"] == b["knn_acc1"]
    assert a.get("probe_acc1") == b.get("probe_acc1")
    seen = [alternation_seen(folder) for folder in folders]
    assert bool(seen[0]) == (UNWATCHED not in mode)
    assert seen[0] == pytest.approx(seen[1], rel=1e-6, abs=1e-8)
    assert json.loads((folders[1] / "env.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    "mode", [MODES[2], *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[:2] + SYSTEMS + LONGER)]
)
def test_over_nccl_it_is_the_same_trace(folders, tmp_path, few_files, mode):
    """As far as that is seen without a GPU: on the pretended device, where nothing else may be sent. See _nccl.py."""
    line = f"{DOUBLE} {mode}"
    (port,) = _warm.ports(1)
    told = _warm.ranks(2, "_nccl", f"{port} {line.format(few_files['data_dir'])} {COMMON} --out {tmp_path / 'run'}")
    assert all(int(sent) > 100 for sent in re.findall(r"sent (\d+) times", told))
    one = losses(folders[0])
    assert max(abs(x - y) for x, y in zip(one, losses(tmp_path / "run"), strict=True)) < 1e-10
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert (env["processes"], env["device"]) == (2, "pretended")


@pytest.mark.slow
def test_and_in_single_precision(tmp_path):
    """Under a slow warm-up. Without it the first steps amplify rounding so much that one process with one
    thread and with two already differ by 1e-3 after 20 steps (LOG.md).
    """
    line = f"{MODES[0]} {SINGLE}"
    compare(tmp_path, [line])
    one, two = map(losses, pairs(tmp_path, [line])[line])
    assert len(one) == 20
    assert max(abs(x - y) for x, y in zip(one, two, strict=True)) < 1e-4


@pytest.mark.slow
def test_the_other_modes_in_single_precision_are_as_near_to_double_as_one_rank_is(tmp_path):
    """How far rounding leads is measured beside: one process, in single and in double precision."""
    lines = [f"{mode} {SINGLE}" for mode in MODES[1:]]
    compare(tmp_path, lines)
    for i, (line, folders) in enumerate(pairs(tmp_path, lines).items()):
        exact = tmp_path / f"exact-{i}"
        fit(parse(f"{line} {COMMON} --precision fp64 --out {exact}".split())[0])
        one, two = ([x - y for x, y in zip(losses(f), losses(exact), strict=True)] for f in folders)
        assert len(two) == 20
        assert 0 < max(map(abs, two)) < 3 * max(map(abs, one))


def test_synchronised_bn_is_plain_bn_of_the_whole_batch(runs):
    out = runs["printed"].read_text()
    assert "rank 0 of 2 agrees" in out
    assert "rank 1 of 2 agrees" in out


def test_rows_that_are_shared_give_the_targets_of_one_process(runs):
    out = runs["printed"].read_text()
    for rank in (0, 1):
        assert re.search(rf"rank {rank} of 2 has the η of one: 1[0-9] solvers", out)


def test_why_processes_part_is_said_in_a_line():
    same_gpu = "NCCL error in: NCCLUtils.cpp:94, invalid usage\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA"
    assert ranks.parted(dist.DistBackendError(same_gpu)).startswith("two processes are on one GPU")
    assert ranks.parted(dist.DistNetworkError("reset\nat")) == "another process has gone, or does not answer (reset)"
    assert ranks.parted(RuntimeError("gloo")) == ""  # of no process group


def test_a_batch_that_does_not_split_is_refused(tmp_path):
    env = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    done = _warm.run("emsiam.train", "--batch-size", 127, "--out", tmp_path / "run", env=env)
    assert done.returncode == 2
    assert done.stderr == "emsiam.train: --batch-size 127: allowed is a multiple of the 2 processes\n"
    assert not (tmp_path / "run").exists()


def test_a_bank_goes_on_with_any_number_of_processes(tmp_path, few_files):
    """1, 2, 4 and 1, ten steps each: a process keeps its share of the rows, and a checkpoint has all of them."""
    small = {"epochs": 8, "batch_size": 32, "dim": 16, "hidden_dim": 16, "proj_layers": 2, "precision": "fp64"}
    seldom = {"log_every": 40, "eval_every": 100, "diagnose_every": 100, "quiet": True}
    options = few_files | small | seldom | {"mode": "ema_eta", "device": "cpu", "threads": 1}
    parted = options | {"bank": str(tmp_path), "out": str(tmp_path / "parted")}
    go_on(parted, 10)
    for processes in (2, 4):
        told = _warm.ranks(processes, "_goes_on", json.dumps(parted), 10)
        sent, kept = map(int, told.split())
        assert kept == 160 // processes
        assert 0 < sent <= 32  # rows at a step: the batch's at most
    run = go_on(parted, 100)  # to its end, at 40
    assert run.finished
    alone = go_on(options | {"out": str(tmp_path / "alone")}, 100)
    states = [torch.load(r.path / "checkpoints" / "last.pt", weights_only=True)["state"] for r in (run, alone)]
    assert states[0]["visited"].all()
    assert states[0]["rows"].shape == (160, 16)
    assert (states[0]["rows"] - states[1]["rows"]).abs().max() < 1e-10
    assert not list(tmp_path.rglob("eta-*.bin"))  # files of rows go with their processes
