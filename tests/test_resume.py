"""A run stopped at any moment and resumed is the run that was never stopped. Processes and real signals."""

import dataclasses
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import _warm
import numpy as np
import pytest
import torch
from _warm import LONG, Process, wait_for

import emsiam
from emsiam import processor
from emsiam.runs import writer
from emsiam.training import resume, run_training

MODES = {"onestep": "--mode onestep", "multistep": "--mode multistep --k 7", "ema_eta": "--mode ema_eta --m 0.8"}
COMMON = ["--epochs", "6", "--batch-size", "256", "--eval-every", "5", "--save-every", "1", "--log-every", "3"]
COMMON += ["--quiet", "--threads", "1"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def start(out, mode, ranks=1, *flags, **options):
    """A process forked from a warm one; several by torchrun."""
    arguments = [*MODES[mode].split(), *COMMON, "--out", str(out), *flags]
    if ranks == 1:
        return Process("emsiam.train", arguments, **options)
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "emsiam.train", "--"]
    command = [sys.executable, "-m", *torchrun, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, start_new_session=True
    )


def finish(out, mode, ranks=1, *flags):
    process = start(out, mode, ranks, *flags)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, errors[-2000:]
    return errors


def left_behind(out):
    """Everything of a run but its timings."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    timings = ("seconds", "images_per_second", "peak_rss_mb")
    for one in (*lines, summary):
        for name in timings:
            one.pop(name, None)
    saved = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
    tensors = {f"{part} {name}": t for part in ("net", "state", "theta") for name, t in saved[part].items()}
    for i, buffers in saved["optimizer"]["state"].items():
        tensors |= {f"optimizer {i} {name}": t for name, t in buffers.items()}
    return lines, summary, tensors, emsiam.load_run(out).snapshots()


def assert_same(a, b):
    (lines_a, summary_a, tensors_a, snapshots_a), (lines_b, summary_b, tensors_b, snapshots_b) = map(
        left_behind, (a, b)
    )
    assert lines_a == lines_b
    assert summary_a == summary_b
    assert tensors_a.keys() == tensors_b.keys()
    assert all(torch.equal(tensors_a[name], tensors_b[name]) for name in tensors_a)
    assert snapshots_a.keys() == snapshots_b.keys()
    assert all(np.array_equal(snapshots_a[step], snapshots_b[step]) for step in snapshots_a)


@pytest.fixture(scope="module")
def whole(once):
    """whole(mode, ranks): a run never stopped."""

    def make(mode, ranks):
        return once(f"whole-{mode}-{ranks}", lambda folder: finish(folder, mode, ranks))

    return make


def kill_and_resume(out, whole, mode, ranks, kills, rng):
    """Kill at random moments after the first checkpoint, then let it end; --resume starts what is not there yet."""
    for _ in range(kills):
        process = start(out, mode, ranks, "--resume")
        wait_for(out / "checkpoints" / "last.pt", process)
        before = (out / "checkpoints" / "last.pt").stat().st_mtime_ns
        # the process has just begun or gone on: let it come to somewhere
        deadline = time.monotonic() + rng.uniform(0.0, 4.0)
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "checkpoints" / "last.pt").exists() and (
                (out / "checkpoints" / "last.pt").stat().st_mtime_ns != before
            ):
                time.sleep(rng.uniform(0, 0.3))
                break
            time.sleep(0.005)
        with suppress(ProcessLookupError):  # it may have come to its end
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(out, mode, ranks, "--resume")
    assert_same(out, whole(mode, ranks))


WITH_A_BANK = "ema_eta"
OTHERS = [pytest.param(mode, marks=pytest.mark.slow) for mode in MODES if mode != WITH_A_BANK]


@pytest.mark.parametrize("mode", [WITH_A_BANK, *OTHERS])
def test_killed_runs_end_with_the_same_bits(tmp_path, whole, mode):
    kill_and_resume(tmp_path / "run", whole, mode, 1, 1, random.Random(mode))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_killed_twenty_times(tmp_path, whole, mode, ranks):
    kill_and_resume(tmp_path / "run", whole, mode, ranks, 20, random.Random(f"{mode} {ranks}"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_stop(tmp_path, whole, number, status):
    out = tmp_path / "run"  # nothing is saved but by the signal
    process = start(out, "multistep", 1, "--save-every", "1000", pauses_at="snapshots/13.npy")
    process.paused()
    process.send_signal(number)
    process.go()
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == status
    assert errors == f"stopped and saved; to go on: python -m emsiam.train --resume --out {out}\n"
    step = torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert 13 <= step < 30
    finish(out, "multistep", 1, "--resume", "--save-every", "1000")
    assert_same(out, whole("multistep", 1))


@pytest.fixture
def stopped(tmp_path, whole):
    """A copy of a run as if it had been killed after its last checkpoint but one, with a torn line."""
    import shutil

    out = tmp_path / "run"
    shutil.copytree(whole("ema_eta", 1), out)
    (out / "summary.json").unlink()
    os.replace(out / "checkpoints" / "previous.pt", out / "checkpoints" / "last.pt")
    with (out / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 61, "epo')
    np.save(out / "snapshots" / "999.npy", np.zeros(1))
    return out


def test_what_lies_beyond_the_checkpoint_is_dropped(stopped, whole):
    assert finish(stopped, "ema_eta", 1, "--resume") == ""
    assert_same(stopped, whole("ema_eta", 1))


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(stopped, whole, damage):
    last, previous = (stopped / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    content = last.read_bytes()
    previous.write_bytes(content)
    last.write_bytes({"cut": content[: len(content) // 2], "garbage": bytes(1000)}[damage])
    errors = finish(stopped, "ema_eta", 1, "--resume")
    assert "last.pt is damaged" in errors
    assert errors.count("\n") == 1
    assert_same(stopped, whole("ema_eta", 1))


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/emsiam-was-here",)


def test_a_malicious_checkpoint_is_refused(stopped):
    torch.save({"step": Malicious()}, stopped / "checkpoints" / "last.pt")
    process = start(stopped, "ema_eta", 1, "--resume")
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert "could run code, and is not loaded" in errors
    assert errors.count("\n") == 1
    assert not Path("/tmp/emsiam-was-here").exists()
    with pytest.raises(emsiam.ConfigError, match="not loaded"):
        emsiam.load_run(stopped).model()
    assert pickle.dumps(Malicious())  # it would have been one


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--lr 0.2", "--lr 0.2 (was 0.1)"),
        ("--m 0.5 --seed 3", "--m 0.5 (was 0.8), --seed 3 (was 0)"),
        ("--augment noise=0.3", "--augment noise=0.3 (was {'scale': [0.3, 1.0], "),
        ("--epochs 24", "--epochs 24 (was 6)"),
        ("--online-probe", "--online-probe (was off)"),
        ("--deterministic", "--deterministic (was off)"),
    ],
)
def test_resuming_under_changed_options_is_refused(stopped, flags, message):
    process = start(stopped, "ema_eta", 1, "--resume", *flags.split())
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert errors.startswith(f"emsiam.train: --resume goes on with the options of {stopped}: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("content", ["{", '{"mode": "gone"}', '{"mood": 1}'])
def test_a_run_whose_options_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(emsiam.ConfigError, match=rf"^{tmp_path / 'config.json'}: "):
        emsiam.fit(emsiam.Config(out=str(tmp_path), resume=True))


def test_resuming_a_finished_run_prints_its_summary(whole):
    out = whole("ema_eta", 1)
    before = (out / "checkpoints" / "last.pt").stat().st_mtime_ns
    process = start(out, "ema_eta", 1, "--resume")
    printed, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0
    assert printed.startswith("ema_eta on digits: ")
    assert (out / "checkpoints" / "last.pt").stat().st_mtime_ns == before


def test_the_same_command_resumes(stopped):
    """What was resolved, or not read, when the run began is not taken for a change."""
    flags = "--device auto --precision auto --n 3 --k 1 --augment noise=0.05"
    finish(stopped, "ema_eta", 1, "--resume", *flags.split())


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    out, many = tmp_path / "run", ("--epochs", "100000")  # hours
    first = start(out, "onestep", 1, *many)
    try:
        wait_for(out / "checkpoints" / "last.pt", first)  # from the first step on a signal is kept
        second = start(out, "onestep", 1, "--resume", *many)
        _, errors = second.communicate(timeout=LONG)
        assert second.returncode == 2
        assert errors == f"emsiam.train: --out {out}: another process is writing there\n"
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate(timeout=LONG)
    finally:
        first.send_signal(signal.SIGKILL)
    assert errors == f"stopped and saved; to go on: python -m emsiam.train --resume --out {out}\n"
    assert first.returncode == 130


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 5 MiB. A disk can be filled safely only where a small one can be mounted, which takes Linux
    and root (CI has both); elsewhere the test says so and is left out.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays_whole(small_disk):
    out = small_disk / "run"
    process = start(out, "onestep")
    wait_for(out / "checkpoints" / "last.pt", process)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert errors.startswith(f"emsiam.train: --out {out}: cannot be written (")
    assert errors.count("\n") == 1
    step = torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert step >= 5
    assert not list((out / "checkpoints").glob("new*"))


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    process = start(tmp_path / "file" / "run", "onestep")
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert errors == f"emsiam.train: --out {tmp_path}/file/run: cannot be written (Not a directory)\n"


def test_fit_that_is_interrupted_is_saved_and_drawn(tmp_path, whole, monkeypatch):
    """As by a notebook's stop button. The handler is as it was; a second one does not wait."""
    out = tmp_path / "run"
    config = vars(emsiam.config.parse([*MODES["onestep"].split(), *COMMON, "--out", str(out)])[0])
    before = signal.getsignal(signal.SIGINT)
    follow = run_training.Watch.after

    def stopped_at_13(watch, step):
        if step.step == 12:
            assert signal.getsignal(signal.SIGINT) not in (before, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is before
        return follow(watch, step)

    monkeypatch.setattr(run_training.Watch, "after", stopped_at_13)
    monkeypatch.setattr(emsiam.plots, "trajectory", _warm.no_picture)
    with pytest.raises(KeyboardInterrupt, match=rf"Config\(out='{out}', resume=True\)\) goes on$"):
        emsiam.fit(emsiam.Config(**config))
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"] == 13
    assert (out / "trajectory.png").exists()
    monkeypatch.setattr(run_training.Watch, "after", follow)
    emsiam.fit(emsiam.Config(out=str(out), resume=True, quiet=True))
    assert_same(out, whole("onestep", 1))


def test_off_the_main_thread_no_handler_is_set(tmp_path, monkeypatch):
    handlers = []
    before = signal.getsignal(signal.SIGINT)
    follow = run_training.Watch.after
    monkeypatch.setattr(
        run_training.Watch, "after", lambda *given: handlers.append(signal.getsignal(signal.SIGINT)) or follow(*given)
    )
    config = emsiam.Config(epochs=1, batch_size=700, threads=1, quiet=True, out=str(tmp_path / "run"))
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(emsiam.fit, config).result().finished
    assert set(handlers) == {before}


def test_how_often_a_run_is_saved_stays_where_it_is_not_given_anew(tmp_path):
    small = {"batch_size": 700, "threads": 1, "quiet": True, "out": str(tmp_path / "run")}
    emsiam.fit(emsiam.Config(**small, epochs=2, save_every=1))
    asked = emsiam.Config(out=small["out"], resume=True)
    assert resume.options_of(asked, {"out", "resume"}).save_every == 1
    assert resume.options_of(asked, None).save_every == 1
    assert resume.options_of(asked, {"out", "resume", "save_every"}).save_every == 10
    assert resume.options_of(dataclasses.replace(asked, save_every=5), None).save_every == 5


def test_another_number_of_processes_takes_its_share_of_the_threads(tmp_path, monkeypatch):
    """With the same number a run goes on with the threads that it had, for the same bits."""
    (tmp_path / "env.json").write_text(json.dumps({"processes": 1}))
    config = emsiam.Config(threads=64, out=str(tmp_path))
    monkeypatch.setattr(processor, "own", lambda: 8)
    assert resume.threads_of(config, object()) == 64
    assert resume.threads_of(config, None) == 64
    monkeypatch.setattr(resume, "world_size", lambda: 8)
    assert resume.threads_of(config, object()) == 8
    assert resume.threads_of(config, None) == 64  # of a run that begins


def test_runs_without_a_name_have_directories_of_their_own(tmp_path, monkeypatch):
    """In one second, as runs that begin together, or where a clock is set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writer.time, "strftime", lambda _: "20261025-023000")
    config = emsiam.Config(epochs=1, batch_size=700, threads=1, quiet=True)
    runs = [emsiam.fit(dataclasses.replace(config, seed=seed)) for seed in range(3)]
    assert [run.path.name for run in runs] == [f"digits-onestep-20261025-023000{more}" for more in ("", "-2", "-3")]
    assert [run.config.seed for run in runs] == [0, 1, 2]
    assert [run.config.out for run in runs] == [str(run.path) for run in runs]
    assert all(run.finished for run in map(emsiam.load_run, (run.path for run in runs)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "runs").write_text("a file")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(emsiam.ConfigError, match=r"^--out runs/digits-onestep-\S+: cannot be made"):
        emsiam.fit(config)
