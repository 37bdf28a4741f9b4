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
    """No configuration, no directory, no command below the loop: nothing that stands on the table of methods."""
    arrows = architecture.rooms()
    below, above = {"alternate", "methods", "diagnostics", "eta", "objective"}, {"methods"}
    while more := {other for name in below for other in arrows[name]} - below:
        below |= more
    while more := {name for name, others in arrows.items() if others & above} - above:
        above |= more
    assert below & above == {"methods"}
    assert {"config", "build", "runs", "training", "evaluation", "comparison", "plots", "train"} <= above | {"plots"}


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import emsiam.build", {"emsiam.build"}),
        ("import emsiam.build as b, torch", {"emsiam.build"}),
        ("from .. import build, plots", {"emsiam.build", "emsiam.plots"}),
        ("from ..build import network", {"emsiam.build"}),
        ("def f():\n    from emsiam.build import network", {"emsiam.build"}),
        ("importlib.import_module('emsiam.build')", {"emsiam.build"}),
        ("if TYPE_CHECKING:\n    from ..build import network", set()),
    ],
)
def test_every_way_to_import_is_seen(tmp_path, line, seen):
    file = tmp_path / "x.py"
    file.write_text(line)
    assert architecture.imported("emsiam.eta.x", file, {"emsiam.build", "emsiam.plots", "emsiam.eta.x"}) == seen


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
