"""docs/solvers.md: every way to solve for η, from what its function says. `python docs/generate.py` writes it."""

import inspect
import math
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module

from emsiam.config import HYPERPARAMETERS
from emsiam.diagnostics import em
from emsiam.errors import flag
from emsiam.eta import SOLVERS
from emsiam.methods import METHODS
from emsiam.traits import SIZES, Solver, hyperparameters, of_solver, value

EPOCH = 11  # steps per epoch: digits, batch 128
ORDER = ("fresh", "memory", "descent", "encoder", "through_h", "linear", "clusters", "controls")
HEAD = f"""# Ways to solve for η

Made by `python docs/generate.py` from the functions of [emsiam/eta/](../emsiam/eta). Each solves sub-problem (8): which
representation η_x should stand for image x, under today's θᵗ? Choose one with `--eta NAME`; its parameters are flags
where they are options (`--m 0.9`), and `--eta-args NAME=VALUE,…` otherwise. They go with h (`--predictor mlp`) or
without (`--predictor none`), but those that need h go only with it. `--k` needs a mode that reads it, such as
`--mode multistep`; `--mode onestep` has k = 1. [your_own_solver.md](your_own_solver.md): how to write another.

How to read the tables. T′(x) is another view of x, h the predictor, θᵗ today's weights.

- *Passes*: forward passes of F for each view that is trained on, beside that of the θ-step, for k = 1. Where θ is held
  (k > 1), a solver that uses F(T′(x)) of the batch's own views needs one more; the others need as many as for k = 1.
- *Memory*: bytes in single precision, beside the network.
- *Lag*: mean age in steps of the weights behind η.
- *Views*: the number of independent views whose mean would have the variance of η.

Lag and views are given by a formula for a symmetric loss, with its value at the defaults and {EPOCH} steps per epoch,
and a measurement: the solver is fed representations that say which step they are of (`emsiam.diagnostics.em.response`).
The formulas speak of parameters and of these sizes: {", ".join(f"{name} ({what})" for name, what in SIZES.items())}.
"""


def text() -> str:
    """The text of docs/solvers.md."""
    parts = [HEAD.rstrip()]
    for name in ORDER:
        module = import_module(f"emsiam.eta.{name}")
        solvers = [f for f in SOLVERS.values() if f.__module__ == module.__name__]
        assert module.__doc__
        title = module.__doc__.strip().split("\n")[0]
        lines = [f"## {title}", "", "| `--eta` | η_x | passes | memory | lag | views |", "|---|---|---|---|---|---|"]
        parts.append("\n".join([*lines, *map(row, solvers), "", *map(about, solvers)]))
    if missing := [name for name, f in SOLVERS.items() if f.__module__.rpartition(".")[2] not in ORDER]:
        raise ValueError(f"{missing}: their module is not in ORDER")
    return "\n\n".join(parts) + "\n"


def row(solve: Callable) -> str:
    """A solver in a line of a table."""
    t, lag, views = of_solver(solve), "", ""
    read = measured(solve, t)
    if t.lag:
        lag = formula(solve, t.lag, "lag", read)
    if t.views:
        views = formula(solve, t.views, "views", read)
    memory = f"`{t.memory}`" if t.memory != "0" else "none"
    return f"| `{solve.__name__}` | {t.eta} | `{t.forwards}` | {memory} | {lag} | {views} |"


def formula(solve: Callable, expression: str, name: str, read: em.Response | None) -> str:
    """An expression, what it comes to, and what was measured."""
    if expression.isdigit():
        told = expression
    else:
        numbers = {"epoch": EPOCH, **hyperparameters(solve), "T": math.nan}
        comes = value(expression, numbers)
        told = f"`{expression}`" + (f" = {comes:.1f}" if math.isfinite(comes) else "")
    return told + (f"; measured {getattr(read, name):.1f}" if read else "")


def measured(solve: Callable, t: Solver) -> em.Response | None:
    """How old η is, and of how many views, where a clock can tell."""
    if t.needs_labels or t.needs_all_of_T or t.gives != "representations" or not (t.lag and t.views):
        return None
    constant = {"tau_schedule": "constant"} if "tau_schedule" in hyperparameters(solve) else {}
    return em.response(partial(solve, **constant), steps_per_epoch=EPOCH, epochs=40)


def about(solve: Callable) -> str:
    """What its docstring says, its parameters, and who takes it."""
    assert solve.__doc__
    first = solve.__doc__.strip().split("\n")[0]
    source = re.search(r"Source[^:]*: .*", " ".join(solve.__doc__.split()))
    t = of_solver(solve)
    needs = [
        what for asks, what in ((t.needs_h, "h"), (t.needs_labels, "labels"), (t.needs_all_of_T, "a finite T")) if asks
    ]
    own = hyperparameters(solve)
    options = [f"`{flag(n)} {x}`" for n, x in own.items() if n in HYPERPARAMETERS]
    further = [f"`{n}={x}`" + choices(solve, n) for n, x in own.items() if n not in HYPERPARAMETERS]
    modes = [f"`{name}`" for name, m in METHODS.items() if m.solve is solve]
    said = [first]
    said += [f"Needs {' and '.join(needs)}."] if needs else []
    said += [f"Options: {', '.join(options)}."] if options else []
    said += [f"`--eta-args`: {', '.join(further)}."] if further else []
    said += [f"Of the modes {', '.join(modes)}."] if modes else []
    said += [source[0]] if source else []
    return f"- **`{solve.__name__}`** {' '.join(said)}"


def choices(solve: Callable, name: str) -> str:
    """What else a parameter may be."""
    allowed = getattr(inspect.signature(solve).parameters[name].annotation, "__args__", ())
    return f" (or {', '.join(str(x) for x in allowed[1:])})" if allowed else ""
