"""Is SimSiam expectation-maximisation? One file a claim, whose docstring is its rule, committed before its runs.

A claim is a module with wanted(), its runs by group, and judge(), the cells that they decide. `_rules` has the words
and the statistics, `_runs` what a run is.
"""

import hashlib
import importlib
import inspect
from types import ModuleType

from . import _rules

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


def rule_hash(source: str, rules: str) -> str:
    """Of the file of a claim and of the rules that hold for all."""
    return hashlib.sha256(f"{source}\n{rules}".encode()).hexdigest()[:12]


def rule_of(claim: ModuleType) -> str:
    """The hash of a claim's rule as it is now."""
    return rule_hash(inspect.getsource(claim), inspect.getsource(_rules))
