"""The rooms of docs/architecture.md are those of the imports: no circle, nothing too long to read."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import architecture  # noqa: E402  # in docs/, which the line before makes importable

sys.path.remove(str(ROOT / "docs"))
TABLES = {"Config"}  # a table of options, a row each
CODE = [*(ROOT / "emsiam").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]


def test_imports_go_round_in_no_circle():
    architecture.floors(architecture.imports())
    architecture.floors(architecture.rooms())
    with pytest.raises(ValueError, match="a → b → a"):
        architecture.floors({"a": {"b"}, "b": {"a"}})


def test_the_mathematics_stands_on_itself():
    """No configuration, no directory, no command below the loop."""
    arrows, below, left = architecture.rooms(), set(), ["alternate", "methods", "diagnostics", "eta", "objective"]
    while left:
        name = left.pop()
        below |= arrows[name]
        left += arrows[name] - below
    assert not below & {"config", "build", "runs", "training", "evaluation", "comparison", "plots", "train"}


def lines(node):
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_too_long_to_read(file):
    tree = ast.parse(file.read_text())
    assert len(file.read_text().splitlines()) <= 350
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert lines(node) <= 60, node.name
        elif isinstance(node, ast.ClassDef) and node.name not in TABLES:
            assert lines(node) <= 120, node.name


def test_a_room_says_what_it_answers():
    for name in architecture.rooms():
        assert len(architecture.question(name).split()) > 2, name
