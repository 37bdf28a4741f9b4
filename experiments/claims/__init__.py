"""Is SimSiam expectation-maximisation? One file a claim, whose docstring is its rule, committed before its runs.

A claim is a module with wanted(), its runs by group, and judge(), the cells that they decide. `_rules` has the words
and the statistics, `_runs` what a run is.
"""

import ast
import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

NAMES = (  # in the order in which they are run
    "one_loss",
    "eta_step",
    "both_halves",
    "consistency",
    "lag",
    "delay",
    "order",
    "first_visits",
    "many_steps",
    "edge",
    "linear_modes",
    "controls",
)


def claims() -> dict[str, ModuleType]:
    """The claims by name."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in NAMES}


def title(claim: ModuleType) -> str:
    """What a claim says, in a sentence."""
    return (claim.__doc__ or "").partition("\n")[0]


def predicts(claim: ModuleType) -> bool:
    """Whether it predicts anything, and so can be supported or contradicted; controls are only shown."""
    return "Supported means:" in (claim.__doc__ or "")


def parts(name: str, read: Callable[[str], str | None]) -> dict[str, str]:
    """{file: its text} of a claim and of all that it imports here. read: a file of this folder to its text, or None."""
    found: dict[str, str] = {}
    left = [f"{name}.py"]
    while left:
        file = left.pop()
        text = read(file)
        if text is None or file in found:
            continue
        found[file] = text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                left += [f"{node.module}.py"] if node.module else [f"{alias.name}.py" for alias in node.names]
    return found


def rule_hash(name: str, read: Callable[[str], str | None] | None = None) -> str:
    """The hash of a claim's rule: of its file, and of all that it is made of. read: see `parts`; as they are now."""
    text = "\0".join(f"{file}\0{content}" for file, content in sorted(parts(name, read or _read).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(file: str) -> str | None:
    path = Path(__file__).with_name(file)
    return path.read_text() if path.exists() else None
