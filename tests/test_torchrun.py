"""What torchrun's processes do when one dies, hangs or meets a broken file, and what they measure together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import _warm
import numpy as np
import pytest
from PIL import Image

from emsiam import Config, embed, fit
from emsiam.evaluate import evaluate
from emsiam.evaluation import embeddings, features, tasks

pytestmark = pytest.mark.usefixtures("plain_runs")
RUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
SMALL = {"batch_size": 80, "epochs": 60, "dim": 16, "hidden_dim": 16, "proj_layers": 2, "precision": "fp64"}
SMALL |= {"log_every": 5, "save_every": 2, "eval_every": 1000, "diagnose_every": 1000, "device": "cpu", "threads": 1}
SMALL |= {"num_images": None}


def flags(**options):
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items() if value is not None]
    return [word for pair in pairs for word in pair]


def start(*command, restarts=0):
    launch = [*RUN, f"--max-restarts={restarts}", *map(str, command)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # pytorch/pytorch#135712
    return subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def process_of(rank, launcher):
    """The process id of a rank."""
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            stat = (file.parent / "stat").read_text().rpartition(")")[2].split()
            if stat[1] == str(launcher.pid) and f"\0RANK={rank}\0".encode() in b"\0" + file.read_bytes():
                return int(file.parent.name)
        except OSError:
            continue
    raise AssertionError(f"no process of rank {rank}")


def wait_for(what, launcher):
    for _ in range(10 * _warm.LONG):
        if what():
            return
        assert launcher.poll() is None, launcher.communicate()[1][-2000:]
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc, which this system lacks")
def test_a_killed_process_ends_the_others_and_all_go_on_from_the_last_checkpoint(tmp_path, few_files):
    out = tmp_path / "run"
    options = SMALL | few_files | {"epochs": SMALL["epochs"]}
    job = start("-m", "emsiam.train", "--quiet", "--resume", *flags(**options, out=out), restarts=1)
    wait_for((out / "checkpoints" / "previous.pt").exists, job)
    killed_at = len((out / "metrics.jsonl").read_text().splitlines())
    os.kill(process_of(1, job), signal.SIGKILL)
    printed, errors = job.communicate(timeout=_warm.LONG)
    assert job.returncode == 0, errors
    assert "Traceback" not in errors.partition("torch/distributed/run.py")[0]
    assert "onestep on folder: " in printed
    alone = fit(Config(**options, quiet=True, out=str(tmp_path / "alone")))
    lines = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert 0 < killed_at < len(lines)
    np.testing.assert_allclose(lines, alone.metrics.loss, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc, which this system lacks")
def test_a_process_that_hangs_or_meets_a_broken_file_ends_the_job_with_its_cause(tmp_path):
    """Two jobs beside each other. A stopped process stands for one that hangs; patience is a few seconds there."""
    rng = np.random.default_rng(0)
    for i in range(200):
        (tmp_path / "images" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        file = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:100])  # its header is whole
    options = SMALL | {"dataset": "folder", "epochs": 10**4, "batch_size": 80}
    broken = {"data_dir": tmp_path / "images", "workers": 1, "out": tmp_path / "broken"}
    met = start("-m", "emsiam.train", "--quiet", *flags(**options | broken))
    out = tmp_path / "hangs"
    digits = SMALL | {"batch_size": 128, "epochs": 10**4, "out": out}
    hangs = start(Path(__file__).with_name("_impatient.py"), 8, "--quiet", *flags(**digits))
    wait_for((out / "checkpoints" / "last.pt").exists, hangs)
    stopped = process_of(1, hangs)
    os.kill(stopped, signal.SIGSTOP)
    wait_for(lambda: "does not answer" in os.read(hangs.stderr.fileno(), 10**6).decode(), hangs)
    os.kill(stopped, signal.SIGKILL)  # torchrun would wait for it to answer a SIGTERM
    hangs.communicate(timeout=_warm.LONG)
    assert hangs.returncode == 1
    _, errors = met.communicate(timeout=_warm.LONG)
    assert met.returncode == 1
    said = {line for line in errors.splitlines() if line.startswith("emsiam.train: ")}
    assert said == {f"emsiam.train: {file} cannot be decoded (image file is truncated)"}


def test_processes_measure_together_what_one_does(tmp_path, few_files, monkeypatch):
    """kNN, a linear classifier and embeddings: each image by one of them, in parts of a few images."""
    run = fit(Config(**SMALL | few_files | {"epochs": 2}, quiet=True, out=str(tmp_path / "run")))
    script = Path(__file__).with_name("_measures.py")
    job = start(script, run.path, tmp_path)
    printed, errors = job.communicate(timeout=_warm.LONG)
    assert job.returncode == 0, errors
    for module in (embeddings, features, tasks):
        monkeypatch.setattr(module, "PART", 16)
    for task, given in {"knn": {"knn_k": 5}, "linear": {"protocol": "sgd", "epochs": 2}}.items():
        alone = evaluate(task, str(run.path), **given)
        both = json.loads((tmp_path / f"{task}.json").read_text())
        assert {n: both[n] for n in ("acc1", "per_class")} == {n: alone[n] for n in ("acc1", "per_class")}
    assert printed.count("top-1") == 2
    assert "the processes differ in knn_k; allowed is the same in all" in errors
    assert not embed.main([str(run.path), "--out", str(tmp_path / "one.npz"), "--quiet"])
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert {*one.files} == {*two.files}
    for name in one.files:
        assert np.array_equal(one[name], two[name]), name
    parts = [int(x) for x in printed.split("parts seen ")[1].split()]
    assert abs(parts[0] - parts[1]) <= 6  # of six sets of images or queries; those of `linear` are of even number
