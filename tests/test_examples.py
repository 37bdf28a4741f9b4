"""The examples run as they stand, and show what they say."""

import re
from pathlib import Path

import _warm
import pytest

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
    assert "step  55 of 55" in example("own_solver", cwd=here)


def test_own_data(here):
    text = example("own_data", cwd=here)
    assert re.search(r"kNN \d\.\d{3} \(untrained \d\.\d{3}\)", text)
    assert len(list(here.glob("runs/folder-onestep-*/trajectory.png"))) == 1
