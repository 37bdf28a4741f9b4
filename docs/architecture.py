"""docs/architecture.md: which room stands on which, read off the imports. `python docs/generate.py` writes it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "emsiam"


def modules() -> dict[str, Path]:
    """The package's modules by dotted name, without the package's own."""
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    names = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}
    return {name: file for name, file in names.items() if name != PACKAGE}


def imported(name: str, file: Path, known: set[str]) -> set[str]:
    """The modules of the package that a module imports, wherever in it; what is for type checkers alone is left out."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(file.read_text())
    typing = {id(n) for block in ast.walk(tree) if _for_type_checkers(block) for n in ast.walk(block)}
    nodes = [node for node in ast.walk(tree) if id(node) not in typing]
    names = {module for node in nodes for module in _named(node, package, known)}
    return (names & known) - {name}


def _named(node: ast.AST, package: str, known: set[str]) -> Iterator[str]:
    """What one import names: modules, and names in modules as their module. So does `import_module`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        for alias in node.names:
            inner = f"{module}.{alias.name}"  # a module of a package, else a name in a module
            yield inner if inner in known else module
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports() -> dict[str, set[str]]:
    """{module: those it imports}."""
    known = modules()
    return {name: imported(name, file, set(known)) for name, file in known.items()}


def room(module: str) -> str:
    """A package is a room, and a module that stands alone."""
    return module.split(".")[1]


def rooms() -> dict[str, set[str]]:
    """{room: the rooms that it stands on}."""
    arrows: dict[str, set[str]] = {room(name): set() for name in modules()}
    for name, others in imports().items():
        arrows[room(name)] |= {room(other) for other in others} - {room(name)}
    return arrows


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """0 for what stands on nothing, else one above the highest that it stands on. Raises ValueError for a circle."""
    height: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise ValueError(" → ".join([*above[above.index(name) :], name]))
        if name not in height:
            height[name] = max((floor(other, (*above, name)) + 1 for other in sorted(arrows[name])), default=0)
        return height[name]

    for name in arrows:
        floor(name)
    return height


def question(name: str) -> str:
    """The first sentence of a room's docstring."""
    file = ROOT / PACKAGE / name / "__init__.py"
    text = (file if file.exists() else file.parent.with_suffix(".py")).read_text().split('"""')[1]
    return re.split(r"(?<=[.?]) ", " ".join(text.split()), maxsplit=1)[0].replace("|", "\\|")


def drawing() -> str:
    """The house, top floor first: what a room answers, and the rooms that it stands on."""
    arrows = rooms()
    high = floors(arrows)
    lines = ["| floor | room | what it answers | stands on |", "|---|---|---|---|"]
    for name in sorted(arrows, key=lambda name: (-high[name], name)):
        below = sorted(arrows[name], key=lambda other: (-high[other], other))
        lines.append(f"| {high[name]} | `{name}` | {question(name)} | {' '.join(below)} |")
    return "\n".join(lines)
