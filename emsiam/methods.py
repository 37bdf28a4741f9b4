"""Which system is this? Every system of the paper is a row: how η is solved, and what stands around it."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from .eta import SOLVERS


class Method(NamedTuple):
    solve: Callable  # how η is solved
    predictor: str = "mlp"  # h, unless `--predictor` says otherwise
    k: int = 1  # steps an alternation, unless `--k` says otherwise
    held: bool = False  # η under a frozen copy of θᵗ also where k = 1 would not need one
    any_k: bool = True  # False: k is fixed by what the method is


METHODS = {
    "onestep": Method(SOLVERS["other_view"], any_k=False),  # Algorithm 1
    "multistep": Method(SOLVERS["other_view"], k=10, held=True),  # §5.2
    "ema_eta": Method(SOLVERS["moving_average"], predictor="none"),  # §5.2
    "expectation": Method(SOLVERS["expectation"]),  # §5.1, Monte Carlo
}


def hyperparameters(solve: Callable) -> dict[str, object]:
    """The keyword-only parameters of a solver and their defaults."""
    parameters = inspect.signature(solve).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
