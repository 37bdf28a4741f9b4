"""One file a table: a claim, what is run for it, what would decide it, and its rows; `_sweep` is the engine.

A module with ROWS is a table. It is one of the paper's on SimSiam, unless its GROUP says otherwise.
"""

import importlib
import pkgutil
from types import ModuleType

GROUPS = {"paper": "SimSiam's tables", "systems": "the other systems, what came after, and transfer"}


def tables(group: str | None = None) -> dict[str, ModuleType]:
    """The tables by name, all or those of a group."""
    names = [file.name for file in pkgutil.iter_modules(__path__) if file.name != "__main__"]
    loaded = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    groups = {name: getattr(m, "GROUP", "paper") for name, m in loaded.items() if hasattr(m, "ROWS")}
    if unknown := {name for name, of in groups.items() if of not in GROUPS}:
        raise ValueError(f"{unknown}: GROUP is not one of {', '.join(GROUPS)}")
    return {name: loaded[name] for name, of in groups.items() if group in (None, of)}


def claim(module: ModuleType) -> str:
    """What a table says, in a sentence or two: the first paragraph of its docstring."""
    return " ".join((module.__doc__ or "").partition("\n\n")[0].split())
