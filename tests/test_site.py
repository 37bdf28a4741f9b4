"""The documentation as a site: what is a page, and where links lead. `make check` builds it, and fails on a warning."""

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import site_pages  # noqa: E402 (it lies in docs/)

sys.path.remove(str(ROOT / "docs"))


def test_every_module_every_notebook_and_every_text_has_a_page():
    pages = site_pages.pages()
    for file in (ROOT / "emsiam").rglob("*.py"):
        if not file.name.startswith("__") or file.parent.parent == ROOT / "emsiam":
            assert file.relative_to(ROOT).as_posix() in pages, file
    assert pages["README.md"] == "index.md"
    assert pages["emsiam/eta/memory.py"] == "reference/eta.md"
    assert all(first for first in site_pages.modules().values())


def test_the_menu_has_every_page_but_those_of_modules():
    class Loader(yaml.SafeLoader):
        """Reads a file with Python's names in it."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]

    def leaves(entries):
        for entry in entries:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else leaves(value)

    shown = {page for page in site_pages.pages().values() if not page.startswith("reference/")}
    assert set(leaves(nav)) == shown | {"reference/index.md"}


@pytest.mark.parametrize(
    ("file", "page", "text", "said"),
    [
        ("README.md", "index.md", "[x](docs/training.md#a-run)", "[x](training.md#a-run)"),
        ("docs/training.md", "training.md", "[x](../notebooks/08_doctor.ipynb)", "[x](notebooks/08_doctor.ipynb)"),
        ("docs/training.md", "training.md", "[x](../emsiam/eta/memory.py)", "[x](reference/eta.md)"),
        ("docs/training.md", "training.md", "[x](../tests/test_train.py)", "x"),
        ("README.md", "index.md", "![x](docs/collapse.png)", "![x](collapse.png)"),
        ("RESULTS.md", "results.md", "![x](results/methods.png)", "![x](results/methods.png)"),
        ("README.md", "index.md", "[x](https://example.org/a.md) [y](#z)", "[x](https://example.org/a.md) [y](#z)"),
        ("README.md", "index.md", "[`RESULTS`](RESULTS.md)", "[`RESULTS`](results.md)"),
    ],
)
def test_links_lead_to_pages_or_are_text(file, page, text, said):
    assert site_pages.rewritten(text, file, page, site_pages.pages()) == said
