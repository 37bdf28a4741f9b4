"""docs/scaling.md is right on what is kept and sent, and its Slurm script trains, saves and is queued again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import _warm
import pytest
from _goes_on import After

import emsiam
from emsiam.build import solver_of
from emsiam.checkpoint import load_checkpoint
from emsiam.eta import bank
from emsiam.methods import METHODS
from emsiam.traits import of_solver

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import counted  # noqa: E402  # in docs/, which the line before makes importable
import scaling  # noqa: E402  # likewise

sys.path.remove(str(ROOT / "docs"))
pytestmark = pytest.mark.usefixtures("plain_runs")
SCRIPT = ROOT / "examples" / "slurm.sh"
SMALL = "--device cpu --batch-size 32 --dim 16 --hidden-dim 16 --proj-layers 2 --mode ema_eta --m 0.8 --quiet"
SELDOM = "--epochs 500 --eval-every 500 --save-every 500 --diagnose-every 500 --log-every 10"
OFTEN = "--epochs 10 --eval-every 10 --save-every 1 --log-every 10"


@pytest.mark.parametrize(
    "options", [*({"mode": m} for m in METHODS), *({"eta": e} for e in scaling.PER_IMAGE)], ids=str
)
def test_traits_say_what_a_solver_keeps(options):
    """Its state after a step has so many bytes, but for BN buffers, flags, and the keys that join a queue next."""
    c = counted.resolved(**({"mode": "ema_eta"} | options), arch="tiny")
    net = counted.shapes(c)
    state = counted.step(c, net, counted.SEVERAL).state
    parameters, images = {name for name, _ in net.F.named_parameters()}, counted.SEVERAL * counted.PER_PROCESS
    weights = {name: x for name, x in state.items() if "." in name and name.partition(".")[2] in parameters}
    rows = {name: x for name, x in state.items() if "." not in name and x.ndim > 1 and name != "last"}
    found = sum(x.nbytes for x in (weights | rows).values())
    full = 0 if c.queue is None else 4 * c.queue * c.width  # there is nothing in it yet
    told = counted.keeps(c, images, counted.SEVERAL, counted.parameters(net.F))
    assert found == told - full
    assert of_solver(solver_of(c)).spread == bool(of_solver(solver_of(c)).per_image)


def test_the_bank_s_bytes_are_those_that_training_asks_for(monkeypatch):
    monkeypatch.setattr(bank.ranks, "world_size", lambda: 8)
    c = counted.resolved(mode="ema_eta")
    assert counted.keeps(c, 1_281_167, 8, 0) == bank.needed(1_281_167, 2048, "fp32", emsiam.build.dtype(c))


def test_what_travels_at_a_step():
    """SimSiam sends nothing but gradients and statistics; rows go there and back, in the bank's type; SimCLR's z go."""
    assert counted.sent(mode="onestep")[:3] == (0, 0, 0)
    assert counted.sent(mode="ema_eta").rows == 2 * (4 * 2048 + 1)
    assert counted.sent(mode="ema_eta", bank_dtype="bf16").rows == 2 * (2 * 2048 + 1)
    assert counted.sent(mode="simclr")[:2] == (2 * 2 * 4 * 2048, 2 * 2 * 4 * 2048)  # p and η, two views
    assert counted.sent(64, mode="simclr") == counted.sent(8, mode="simclr")
    assert counted.traffic(counted.of_mode("simclr"), counted.sent(mode="simclr"), 1) == [0, 0, 0, 0]
    assert counted.parameters(counted.of_mode("onestep").F.backbone) == 23_508_032  # torchvision's, without its fc


@pytest.fixture
def cluster(tmp_path):
    """The environment of a job on one node with two GPUs, and programs in the place of Slurm's."""
    for name, code in {
        "srun": 'exec "$@"',
        "scontrol": f'case $1 in show) echo localhost ;; *) echo "$@" >> {tmp_path}/told ;; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    for job in range(1000, 20000):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", 20000 + job)):
                break
    programs = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"JOB_ID": job, "JOB_NODELIST": "node", "JOB_NUM_NODES": 1, "GPUS_ON_NODE": 2, "CPUS_PER_TASK": 2}
    env = {f"SLURM_{name}": str(x) for name, x in slurm.items()}
    env |= {"PATH": programs, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    return os.environ | env, tmp_path / "told"


def submitted(cluster, folder, *options):
    """The script, started; once this returns, training is under way."""
    with (folder / "log").open("w") as log:
        command = ["bash", str(SCRIPT), "--out", str(folder / "run"), *SMALL.split(), *options]
        job = subprocess.Popen(command, env=cluster[0], cwd=folder, stdout=log, stderr=log)
    until, lines = time.monotonic() + 120, folder / "run" / "metrics.jsonl"
    while job.poll() is None and time.monotonic() < until:
        if lines.exists() and lines.read_text().count("\n") > 1:
            return job
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    raise AssertionError((folder / "log").read_text())


@pytest.mark.slow
def test_the_slurm_script_saves_before_the_time_limit_and_another_number_of_processes_goes_on(cluster, tmp_path):
    job = submitted(cluster, tmp_path, *SELDOM.split())
    job.send_signal(signal.SIGUSR1)
    job.wait(_warm.LONG)
    log, run = (tmp_path / "log").read_text(), tmp_path / "run"
    assert cluster[1].read_text() == f"requeue {cluster[0]['SLURM_JOB_ID']}\n", log
    assert "stopped and saved" in log
    assert not list(tmp_path.glob("*.pid"))
    saved = load_checkpoint(run)
    assert saved.step > 1
    emsiam.fit(emsiam.Config(out=str(run), resume=True, threads=1, quiet=True), stop=After(3))
    assert load_checkpoint(run).step == saved.step + 3


@pytest.mark.slow
def test_a_process_that_was_killed_is_started_again_and_the_run_ends(cluster, tmp_path):
    job = submitted(cluster, tmp_path, *OFTEN.split())
    (agent,) = tmp_path.glob("*.pid")
    children = subprocess.run(["pgrep", "-P", agent.read_text().strip()], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    assert job.wait(_warm.LONG) == 0, (tmp_path / "log").read_text()
    assert "exitcode: -9" in (tmp_path / "log").read_text()
    assert emsiam.load_run(tmp_path / "run").finished
    assert not cluster[1].exists()


def test_the_slurm_script_asks_for_a_directory(cluster, tmp_path):
    done = subprocess.run(["bash", str(SCRIPT)], env=cluster[0], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "slurm.sh: give --out DIR\n")
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
