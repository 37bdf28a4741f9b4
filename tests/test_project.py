"""What is written in two places says the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import emsiam
from experiments.report import anchor

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"torch": "pytorch"}


def requirement(text):
    return tuple(re.split(r"(?=[<>=])", text, maxsplit=1))


def test_conda_and_pip_install_the_same():
    project = PYPROJECT["project"]
    pip = dict(map(requirement, [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]))
    pip = {CONDA_NAMES.get(name, name): version for name, version in pip.items()}
    conda = dict(map(requirement, yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]))
    assert conda.pop("python") == project["requires-python"]
    assert conda == pip


def test_the_package_imports_no_command_and_nothing_undeclared():
    code = "import sys, emsiam; emsiam.fit; print(*sorted({m.split('.')[0] for m in sys.modules}), sep='\\n')"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in modules
    assert not {"seaborn", "sklearn", "tensorboard", "pytest"} & set(modules)  # loaded when used


def test_the_map_of_equations_is_the_same_in_readme_and_package():
    import emsiam

    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"\b(?:objective|alternate|optim|eta\.fresh|eta\.memory)\.\w+", emsiam.__doc__)
    assert len(named) >= 8
    for name in named:
        module, function = name.rsplit(".", 1)
        __import__(f"emsiam.{module}")
        assert hasattr(sys.modules[f"emsiam.{module}"], function), name
        assert f"`{name}`" in readme, name


def test_the_docs_name_every_option():
    import dataclasses

    from emsiam import Config

    text = (ROOT / "docs" / "training.md").read_text()
    for field in dataclasses.fields(Config):
        assert f"`--{field.name.replace('_', '-')}" in text, field.name


def test_the_docs_name_every_number_of_an_alternation():
    from emsiam.training.observe import NUMBERS

    text = (ROOT / "docs" / "numbers.md").read_text()
    for name in NUMBERS:
        assert f"`{name.removesuffix('_held')}`" in text, name


def test_links_lead_somewhere():
    for file in [ROOT / "README.md", ROOT / "RESULTS.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", file.read_text()):
            path, _, heading = link.partition("#")
            assert (file.parent / path).exists(), f"{file.name}: {link}"
            if heading:
                lines = (file.parent / path if path else file).read_text().splitlines()
                assert heading in [anchor(x.lstrip("# ")) for x in lines if x.startswith("#")], f"{file.name}: {link}"


def test_each_equation_is_cited_on_one_line():
    cited = {}
    for file in (ROOT / "emsiam").rglob("*.py"):
        for line in file.read_text().splitlines():
            _, _, comment = line.partition("  # ")
            for number in re.findall(r"\((\d+)\)", comment):
                cited.setdefault(int(number), []).append(f"{file.name}: {line.strip()}")
    assert set(cited) == {1, 2, 5, 6, 7, 8, 9, 10}, cited
    assert all(len(lines) == 1 for lines in cited.values()), cited


def test_notebooks_show_what_their_code_gave():
    """`make check` runs them again; here: cells are those that were run, in order, and nothing went wrong."""
    import nbformat

    sys.path.insert(0, str(ROOT / "docs"))
    from notebooks import stale

    sys.path.remove(str(ROOT / "docs"))
    files = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert len(files) >= 4
    for file in files:
        notebook = nbformat.v4.reads(file.read_text())  # `make check` looks at the format, which takes seconds
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert not stale(notebook), f"{file.name}: make notebooks runs it again"
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
        notebook.cells[-1 if notebook.cells[-1].cell_type == "code" else -2].source += "\n# changed"
        assert stale(notebook)
        defined = [line for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("def ")]
        assert not defined, "notebooks import, they define no algorithms"


def test_a_release_has_one_version_and_its_changes(monkeypatch):
    sys.path.insert(0, str(ROOT / "docs"))
    import release

    sys.path.remove(str(ROOT / "docs"))
    release.check(emsiam.__version__)
    with pytest.raises(ValueError, match="has version"):
        release.check("0.0.0")
    text = "# Changelog\n\n## [Unreleased]\n\n- a\n\n## [0.2.0] - 2026-12-01\n\n- b\n\n## [0.1.0]\n\n- c\n"
    assert release.section(text, "0.2.0") == "- b"
    assert release.section(text, "0.1.0") == "- c"
    with pytest.raises(ValueError, match=r"says nothing of 0\.3\.0"):
        release.section(text, "0.3.0")


def test_issue_templates_are_forms():
    files = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(files) == 3
    for file in files:
        form = yaml.safe_load(file.read_text())
        assert form.keys() == {"name", "description", "body"}
        assert len({part["id"] for part in form["body"]}) == len(form["body"])
