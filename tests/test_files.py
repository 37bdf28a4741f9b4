"""What a user may name, and what a run's directory may not do: code, paths, escapes; readers that go away."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import _warm
import pytest
from golden import After

import emsiam
from emsiam import compare, evaluate, export, revisit
from emsiam.config import Config, parse
from emsiam.errors import one_line, printable
from emsiam.runs import writer

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("no_comparisons")
SMALL = {"epochs": 2, "batch_size": 479, "dim": 16, "hidden_dim": 16, "save_every": 1, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def run(once):
    return once("plain run", lambda folder: emsiam.fit(Config(**SMALL, out=str(folder / "run")))) / "run"


@pytest.fixture
def with_code(tmp_path):
    """A run, stopped, whose solver is code that leaves a trace; it lies in the run's own directory."""
    out = tmp_path / "run"
    out.mkdir()
    file = out / "mine.py"
    trace = tmp_path / "trace"
    solver = "def solve(state, F_t, batch):\n    return F_t(batch.others), state\n"
    file.write_text(f"open({str(trace)!r}, 'a').write('x')\n{solver}")
    eta = f"{file}:solve"
    run = emsiam.fit(Config(**SMALL, eta=eta, out=str(out)), stop=After(4))
    trace.unlink()
    os.utime(file, ns=(0, 0))  # a module is kept by its time, and would not be read again
    return run.path, eta, trace


def test_code_that_a_run_names_runs_only_where_the_user_names_it(with_code, run, tmp_path, capsys):
    path, eta, trace = with_code
    again = Config(out=str(path), resume=True, quiet=True)
    needed = rf"^{path}: η is solved by code, {eta}; to run it, name it too: --eta {eta}$"
    with pytest.raises(emsiam.ConfigError, match=needed):
        emsiam.fit(again)
    with pytest.raises(emsiam.ConfigError, match=r"goes on with the options of .*: --eta other_view \(was "):
        emsiam.fit(dataclasses.replace(again, eta="other_view"))
    for function in (revisit.update, revisit.gap):
        with pytest.raises(emsiam.ConfigError, match=needed):
            function(emsiam.load_run(path))
    with pytest.raises(emsiam.ConfigError, match="to run it, name it too"):
        revisit.update(emsiam.load_run(run), emsiam.load_run(path).config)
    out = ["--out", str(tmp_path / "comparison"), "--updates", "1"]
    assert compare.main([str(path), str(run), *out]) == 2
    assert capsys.readouterr().err.endswith(f"to run it, name it too: --eta {eta}\n")
    assert compare.main([str(run), str(path), *out]) == 0
    assert "to run it, name it too" in capsys.readouterr().out
    assert evaluate.main(["knn", str(path)]) == 0  # which needs no solver
    assert emsiam.load_run(path).model()
    assert not trace.exists()

    assert compare.main([str(run), str(path), *out, "--eta", eta]) == 0
    assert revisit.update(emsiam.load_run(path), code=[eta]).any()
    assert emsiam.fit(dataclasses.replace(again, eta=eta)).finished
    assert trace.exists()


def test_a_run_that_was_stopped_says_how_its_code_is_named(with_code):
    from emsiam.training.signals import Interrupted

    path, eta, _ = with_code
    assert str(Interrupted(2, emsiam.load_run(path))) == (
        f"stopped and saved; emsiam.fit(emsiam.Config(out={str(path)!r}, resume=True, eta={eta!r})) goes on"
    )


def test_a_tilde_is_the_home_directory(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "r")
    for name in ("out", "data_dir", "bank", "eta"):
        end = "/mine.py:solve" if name == "eta" else "/r"
        flag = f"--{name.replace('_', '-')}"
        for config in (Config(**{name: f"~{end}"}), parse([f"{flag}=~{end}"])[0], parse([flag, f"~{end}"])[0]):
            assert getattr(config, name) == f"{tmp_path}{end}"
    assert emsiam.load_run("~/r").path == tmp_path / "r"
    assert evaluate.main(["knn", "~/r", "--json=~/knn.json"]) == 0
    assert export.main(["~/r", "--out=~/x.pt"]) == 0
    assert compare.main(["~/r", str(run), "--out=~/comparison"]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"r", "knn.json", "x.pt", "comparison"}


def test_what_a_terminal_would_obey_is_shown(run, tmp_path, capsys):
    """A directory may have any name."""
    assert printable("é η a\x1b[31mb\n\u202e") == r"é η a\x1b[31mb\n\u202e"
    assert one_line(OSError(2, "No such file", "a\x1b")) == r"a\x1b: No such file"
    odd = shutil.copytree(run, tmp_path / "run\x1b[2Jx")
    assert compare.main([str(odd), str(run), "--out", str(tmp_path / "comparison")]) == 0
    assert compare.main([str(odd), str(tmp_path / "no\x1bne")]) == 2
    assert evaluate.main(["knn", str(tmp_path / "no\x1bne")]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert r"run\x1b[2Jx" in said.out


READER = "import sys\nfrom emsiam.config import command\nsys.exit(command(print)('x' * 99))"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("command", "statuses"),
    [(["-m", "emsiam"], {0, 141}), (["-m", "emsiam.train", "-h"], {0, 141}), (["-c", READER], {141})],
)
def test_a_reader_that_goes_away_is_no_error(command, statuses, unbuffered):
    """argparse does not mind either, of itself."""
    reading, writing = os.pipe()
    os.close(reading)
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, *command]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in statuses


def test_parts_of_a_run_are_told_apart_in_its_environment(tmp_path, monkeypatch):
    out = str(tmp_path / "run")
    emsiam.fit(Config(**SMALL, out=out), stop=After(4))
    begun = json.loads(Path(out, "env.json").read_text())
    there = writer.environment
    monkeypatch.setattr(writer, "environment", lambda config: there(config) | {"processes": 2})
    emsiam.fit(Config(out=out, resume=True, quiet=True))
    ended = json.loads(Path(out, "env.json").read_text())
    assert ended.pop("resumed") == [{"step": 4, "processes": 2}]
    assert ended == begun


def test_a_run_without_its_configuration_says_what_helps(run, tmp_path):
    """As --overwrite leaves it where it is killed at the wrong moment."""
    out = shutil.copytree(run, tmp_path / "run")
    (out / "config.json").unlink()
    done = _warm.run("emsiam.train", "--resume", "--out", out)
    assert done.returncode == 2
    assert "add --overwrite to begin anew" in done.stderr
    assert done.stderr.count("\n") == 1
    assert _warm.run("emsiam.train", "--overwrite", "--epochs", 1, "--quiet", "--out", out).returncode == 0
