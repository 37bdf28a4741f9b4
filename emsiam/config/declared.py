"""What is said of an option where it is declared? Its meaning and rule, what it is for, and what else is true of it."""

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from .rules import Rule, one_of

ROLES = {  # what an option is for: the groups of --help
    "solver": "method: how η is solved, and for which loss",
    "data": "data: images, and which views of them",
    "network": "network",
    "training": "optimisation: the optimiser and the length of training",
    "monitor": "measurements: what is measured, and how often",
    "where": "output: the machine, and the run's directory",
}


FLAGS = {  # what else may be true of an option
    "starts_F": "it shapes the weights with which F begins: runs that differ in it have no common start",
    "pairs": "two runs are a pair only where it is equal: the same images in the same order under the same draws",
    "may_differ": "runs that differ in it alone are of one group, in a comparison",
    "no_number": "it changes no number, so it is not in a run's key",
    "resumable": "it may be given anew to --resume, since it changes no number",
    "stays": "it may, and where it is not given with --resume, the run's own value is kept",
    "read_by_some": "only some solvers, objectives or data sets read it; elsewhere it is named in a note and left out",
}


def option(
    default: Any, rule: Rule, help: str, role: str, *flags: str, names: Iterable[str] = (), unset: str | None = None
) -> Any:
    """A field: its default, the values it takes, its meaning and unit, what it is for (ROLES), and FLAGS.

    names: valid ones, to propose the nearest. unset: what stands in its place where it is None, `{}` for the default
    that is found at the methods, solvers and DEFAULTS; see `unset`.
    """
    unknown = {role} - ROLES.keys() | set(flags) - FLAGS.keys()
    if unknown:
        raise ValueError(f"{unknown} is not a role or flag of an option")
    metadata = {
        "rule": rule,
        "help": help,
        "names": tuple(names),
        "role": role,
        "unset": unset,
        "flags": frozenset(flags),
    }
    return field(default=default, metadata=metadata)


def named(default: Any, names: Iterable[str], help: str, role: str, *flags: str, unset: str | None = None) -> Any:
    names = tuple(names)
    return option(default, one_of(names), help, role, *flags, names=names, unset=unset)
