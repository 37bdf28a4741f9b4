"""Which pages has the site beside docs/? README and its neighbours, the notebooks, and the API of each module.

mkdocs.yml calls this. Links to files of the repository lead to their page, or, where they have none, are left as text.
"""

import ast
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import emsiam

ROOT = Path(__file__).parents[1]
TEXTS = {f"{name}.md": f"{name.lower()}.md" for name in ("RESULTS", "BENCHMARKS", "CHANGELOG", "LOG")}
TEXTS["README.md"] = "index.md"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|data:|#)([^)#\s]+)(#[^)\s]*)?\)")


def modules() -> dict[str, str]:
    """{module or package of emsiam: the first line of its docstring}, which the API reference shows."""
    found = {}
    for file in sorted((ROOT / "emsiam").iterdir()):
        source = file / "__init__.py" if file.is_dir() else file
        name = file.stem
        if source.suffix == ".py" and source.exists() and not name.startswith("_"):
            found[name] = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]
    return found


def pages() -> dict[str, str]:
    """{file of the repository: page of the site}."""
    found = {f"docs/{file.name}": file.name for file in (ROOT / "docs").glob("*.md")} | TEXTS
    found |= {f"notebooks/{file.name}": f"notebooks/{file.name}" for file in (ROOT / "notebooks").glob("*.ipynb")}
    for name in modules():
        source = ROOT / "emsiam" / name
        files = source.rglob("*.py") if source.is_dir() else [source.with_suffix(".py")]
        found |= {file.relative_to(ROOT).as_posix(): f"reference/{name}.md" for file in files}
        found[f"emsiam/{name}"] = f"reference/{name}.md"
    return found


def rewritten(text: str, file: str, page: str, known: dict[str, str]) -> str:
    """Markdown of a file of the repository, with links that hold on its page."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, heading = found.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        if path in known:
            to = posixpath.relpath(known[path], posixpath.dirname(page) or ".")
            return f"{picture}[{words}]({to}{heading or ''})"
        if picture:
            return f"![{words}]({posixpath.relpath(path.removeprefix('docs/'), posixpath.dirname(page) or '.')})"
        return words

    return LINK.sub(link, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not below docs/."""
    for source, page in TEXTS.items():
        files.append(
            File.generated(config, page, content=rewritten((ROOT / source).read_text(), source, page, pages()))
        )
    for picture in sorted((ROOT / "results").glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", content=picture.read_bytes()))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.name}", abs_src_path=str(notebook)))
    listed = []
    for name, first in modules().items():
        files.append(File.generated(config, f"reference/{name}.md", content=f"::: emsiam.{name}\n"))
        listed.append(f"| [`emsiam.{name}`]({name}.md) | {first} |")
    head = (
        f"# API\n\n`import emsiam` gives {', '.join(f'`{name}`' for name in emsiam.__all__)}; each module "
        "below is there as `emsiam.NAME`.\n\n| module | what it answers |\n|---|---|\n"
    )
    public = [getattr(emsiam, name) for name in emsiam.__all__]
    names = "\n".join(f"::: {x.__module__}.{x.__qualname__}" for x in public)
    files.append(
        File.generated(
            config, "reference/index.md", content=head + "\n".join(listed) + f"\n\n## From emsiam\n\n{names}\n"
        )
    )
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of a page that lies below docs/."""
    source = page.file.src_uri
    if page.file.generated_by or os.path.dirname(source):
        return text
    return rewritten(text, f"docs/{source}", source, pages())
