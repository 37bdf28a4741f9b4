"""Sub-problem (8): given θᵗ, which representation η_x should stand for each image of the batch?

A solver is one function

    solve(state, F_t, batch, *, m=0.8, …) -> eta, state

    state   a dict of tensors, empty at the start: what the solver remembers. It is saved and resumed as it is.
    F_t     F_θᵗ: views [n, B, C, H, W] -> z [n, B, d], without gradient and without touching the network; a solver with
            an encoder of its own finds θᵗ in F_t.theta, and F_t.under(weights, views) is a pass under others
    batch   `data.Batch`: batch.others are the other views, batch.draw(n) makes new ones, batch.ids names the images
    eta     [S, B, d], a target for each trained view

Its keyword-only parameters are its hyper-parameters; those named like an option (`--m`, `--n`) are set by it.
`@solver(...)` says what else is to be known of it, see `emsiam.traits`; here it also makes a function one of SOLVERS.
`python -m emsiam.train --eta FILE.py:FUNCTION` trains with a solver of your own, decorated or not.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module

from ..traits import Solver, by_name, solver

__all__ = ["SOLVERS", "solver"]
SOLVERS: dict[str, Callable] = by_name(
    (name, f)
    for module in (import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__))
    for name, f in vars(module).items()
    if isinstance(getattr(f, "traits", None), Solver)
)


def __getattr__(name: str) -> Callable:
    """`from emsiam.eta import moving_average`, in whichever of the modules it is."""
    try:
        return SOLVERS[name]
    except KeyError:
        raise AttributeError(f"module {__name__} has no attribute {name!r}") from None
