"""The examples run as they stand, and show what they say."""

import re
from pathlib import Path

import _warm
import pytest

import emsiam
from emsiam.training.trial import check_places

ROOT = Path(__file__).parents[1]


def example(name, *arguments, cwd):
    done = _warm.run(f"examples.{name}", *arguments, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def last(text):
    """loss, std·√d and participation ratio of the last line."""
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.splitlines()[-1])]


def test_simsiam_as_em(here):
    """SimSiam stays healthy."""
    _, std, rank = last(example("simsiam_as_em", cwd=here))
    assert std > 0.95
    assert rank > 5
    code = (ROOT / "examples/simsiam_as_em.py").read_text()
    assert len(code.splitlines()) <= 70
    assert "Config" not in code


@pytest.mark.slow
def test_without_predictor_the_moving_average_loses_its_rank(here):
    *_, rank = last(example("simsiam_as_em", "moving_average", cwd=here))
    assert rank < 4


def test_own_solver(here):
    assert "step  33 of 33" in example("own_solver", cwd=here)


def test_own_data(here):
    text = example("own_data", cwd=here)
    assert re.search(r"kNN \d\.\d{3} \(untrained \d\.\d{3}\)", text)
    assert len(list(here.glob("runs/folder-onestep-*/trajectory.png"))) == 1


@pytest.mark.parametrize("name", ["nnclr.py:nearest_neighbour", "dino.py:centred"])
def test_solvers_of_others_systems(here, name):
    """By the command in the file itself, shortened; and rows belong to images."""
    file = name.partition(":")[0]
    text = (ROOT / "examples/solvers" / file).read_text()
    line = re.search(r"python -m emsiam\.train (\\\n|[^\n\\])*", text)[0].replace("\\\n", " ")
    assert f"examples/solvers/{name}" in line
    arguments = [*line.split()[3:], "--epochs", "2", "--out", str(here / "run"), "--quiet", "--dim", "16"]
    done = _warm.run("emsiam.train", *arguments, cwd=here)
    assert done.returncode == 0, done.stderr
    assert f"--eta examples/solvers/{name}" in done.stdout
    run = emsiam.load_run(here / "run")
    assert run.finished
    parts = emsiam.prepare(emsiam.Config(eta=str(here / "examples/solvers" / name), epochs=1, dim=16))
    check_places(parts)


def test_the_page_on_a_solver_of_one_s_own(tmp_path):
    """Its code, and its commands, shortened: trained, gone on with, compared; tests/test_battery.py has the last."""
    text = (ROOT / "docs/your_own_solver.md").read_text()
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    commands = [line.split()[2:] for line in re.findall(r"^    (python -m .*)$", text, re.MULTILINE)]
    first, again, other, compared, _ = commands
    short = ["--epochs", "2", "--quiet", "--dim", "16", "--hidden-dim", "16"]
    for command in ([*first, *short], [*again, "--quiet"], [*other, *short]):
        done = _warm.run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run = emsiam.load_run(tmp_path / "runs/mine")
    assert run.config.eta_args == {"power": 2.0}
    assert run.config.m == 0.9
    done = _warm.run(*compared, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_kmeans_is_the_loop(here):
    values = [float(x) for x in re.findall(r"\d+\.\d+", example("kmeans", cwd=here))]
    assert len(values) == 20
    assert values == sorted(values, reverse=True)  # no half-step raises L
