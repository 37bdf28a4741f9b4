"""`--seeds 0-4 --jobs N`: real processes, real signals; each run is the one that its seed alone gives."""

import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _warm import Process, run, wait_for

import emsiam
from emsiam.diagnostics.statistics import mean_interval
from emsiam.train import main
from emsiam.training import several
from emsiam.training.several import report, seeds_of

pytestmark = pytest.mark.usefixtures("no_pictures")
SEEDS = ("--seeds", "3-4", "--jobs", "2", "--epochs", "2", "--batch-size", "256", "--threads", "1")


def weights(path):
    return torch.load(path / "checkpoints" / "last.pt", weights_only=True)["net"]


def forked(command, **_):
    """In place of subprocess.Popen: `python -m MODULE …` without its imports."""
    return Process(command[2], command[3:])


def test_each_is_the_run_of_its_seed_and_the_end_says_the_mean(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(several, "subprocess", SimpleNamespace(Popen=forked, PIPE=None))
    arguments = [*SEEDS, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    alone = emsiam.fit(
        emsiam.Config(epochs=2, batch_size=256, threads=1, seed=4, quiet=True, out=str(tmp_path / "alone"))
    )
    for name, x in weights(tmp_path / "out" / "seed-4").items():
        assert torch.equal(x, weights(alone.path)[name])
    runs = [emsiam.load_run(tmp_path / "out" / f"seed-{n}") for n in (3, 4)]
    found = mean_interval([r.summary["participation_ratio"] for r in runs])
    assert "  means (95 % interval over runs, by the t distribution)\n" in said
    assert re.search(rf"PR +{found['mean']:.1f} \({found['low']:.1f} to {found['high']:.1f}\)", said)
    assert f"python -m emsiam.compare {tmp_path / 'out'}/seed-* shows them" in said
    assert said.count("onestep on digits: ") == 2
    assert main(arguments) == 2
    again = capsys.readouterr()
    assert "seed-3: holds a run" in again.err
    assert "runs:" not in again.out
    others = [*SEEDS, "--out", str(tmp_path / "out"), "--resume", "--seeds", "5,3", "--epochs", "3"]
    assert main(others) == 2  # before the first of them is begun
    assert "--epochs 3 (was 2)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "seed-5").exists()


def test_a_signal_saves_all_and_the_same_command_goes_on(tmp_path):
    process = Process("emsiam.train", [*SEEDS, "--epochs", "2000", "--save-every", "1", "--out", tmp_path / "out"])
    for n in (3, 4):
        wait_for(tmp_path / "out" / f"seed-{n}" / "checkpoints" / "last.pt", process)
    process.send_signal(signal.SIGTERM)
    _, wrong = process.communicate()
    assert process.returncode == 143
    assert wrong.endswith(f"to go on: the same command with --resume --out {tmp_path / 'out'}\n")
    for n in (3, 4):
        stopped = emsiam.load_run(tmp_path / "out" / f"seed-{n}")
        assert not stopped.finished
        assert (stopped.path / "checkpoints" / "last.pt").exists()


@pytest.mark.parametrize(
    ("text", "found"), [("0-4", [0, 1, 2, 3, 4]), ("7", [7]), ("0,3,10-11", [0, 3, 10, 11]), ("5-5", [5])]
)
def test_seeds_are_read(text, found):
    assert seeds_of(text) == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "4-0"], "--seeds 4-0: 4-0 runs backwards; allowed is 0-4"),
        (["--seeds", "1,1"], "--seeds 1,1: allowed are seeds that differ"),
        (["--seeds", "-3"], "--seeds -3: allowed are numbers such as 0-4 or 0,3,7"),
        (["--seeds", "a"], "--seeds a: allowed are numbers such as 0-4 or 0,3,7"),
        (["--seeds", "0-1", "--seed", "3"], "--seeds: does not go with --seed"),
        (["--jobs", "2"], "--jobs: is of several runs; add --seeds"),
        (["--seeds", "0-1", "--lr", "nan"], "--lr nan: allowed is"),
        (["--seeds", "0-1", "--batch-size", "5000"], "--batch-size 5000: allowed is"),
    ],
)
def test_what_does_not_go_together_is_said_once_and_nothing_is_begun(tmp_path, arguments, said):
    done = run("emsiam.train", *arguments, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"emsiam.train: {said}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_runs_that_diverged_are_counted_and_their_numbers_left_out(tmp_path):
    few = emsiam.Config(epochs=1, batch_size=256, threads=1, quiet=True, out=str(tmp_path / "seed-0"))
    wild = emsiam.Config(
        lr=1e5, bn="none", epochs=5, batch_size=256, threads=1, quiet=True, out=str(tmp_path / "seed-1")
    )
    runs = [emsiam.fit(few), emsiam.fit(wild)]
    said = report(runs, tmp_path)
    assert said.startswith("2 runs: too early to say 1, diverged 1\n")
    assert "means" not in said  # of one run
    assert f"loss      {runs[0].summary['loss']:.3f}\n" in said
    assert np.isfinite(runs[0].summary["loss"])


def test_a_sweep_that_goes_on_says_where_and_takes_the_threads_that_its_runs_had(tmp_path, monkeypatch, capsys):
    assert main(["--seeds", "0-1", "--resume"]) == 2
    assert capsys.readouterr().err == "emsiam.train: --resume: which runs? add --out DIR\n"
    commands = []

    def started(command, **_):
        commands.append(command)
        return SimpleNamespace(communicate=lambda: ("", ""), returncode=2, send_signal=None)

    monkeypatch.setattr(several, "subprocess", SimpleNamespace(Popen=started, PIPE=None))
    emsiam.fit(emsiam.Config(epochs=1, batch_size=700, threads=1, quiet=True, out=str(tmp_path / "seed-0")))
    main(["--seeds", "0-1", "--jobs", "2", "--resume", "--out", str(tmp_path)])
    with_threads = {command[command.index("--seed") + 1]: "--threads" in command for command in commands}
    assert with_threads == {"0": False, "1": True}


def test_a_sweep_without_a_place_is_named_after_its_data_set_and_mode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(several.Several, "train", lambda sweep: print(sweep.folder) or 0)
    assert main(["--seeds", "0-1"]) == 0
    assert [path.name.startswith("digits-onestep-") for path in (tmp_path / "runs").iterdir()] == [True]
