"""Which system is this? Every system of the paper is a row: how η is solved, and what stands around it."""

from collections.abc import Callable
from typing import NamedTuple

from . import objective
from .eta import SOLVERS


class Method(NamedTuple):
    """A system: what it consists of, and defaults of options that it changes."""

    solve: Callable  # how η is solved
    objective: Callable = objective.loss  # what θ minimises
    predictor: str = "mlp"  # h, unless `--predictor` says otherwise
    stop_grad: bool = True  # no gradient through η, unless `--stop-grad` says otherwise
    bn: str = "default"  # of the heads, unless `--bn` says otherwise
    prototypes: bool = False  # F ends in scores of prototypes
    k: int = 1  # steps per alternation, unless `--k` says otherwise
    held: bool = False  # η under a frozen copy of θᵗ also where k = 1 would not need one
    any_k: bool = True  # False: k is fixed by what the method is


METHODS = {
    "onestep": Method(SOLVERS["other_view"], any_k=False),  # Algorithm 1
    "multistep": Method(SOLVERS["other_view"], k=10, held=True),  # §5.2
    "ema_eta": Method(SOLVERS["moving_average"], predictor="none"),  # §5.2
    "expectation": Method(SOLVERS["expectation"]),  # §5.1, Monte Carlo
    "byol": Method(SOLVERS["momentum_encoder"]),
    "simclr": Method(SOLVERS["other_view"], objective.nt_xent, predictor="none", stop_grad=False),
    "moco": Method(SOLVERS["momentum_queue"], objective.info_nce, predictor="none"),
    "swav": Method(SOLVERS["sinkhorn_codes"], objective.swapped_prediction, predictor="none", prototypes=True),
    "vicreg": Method(SOLVERS["other_view"], objective.vicreg, predictor="none", stop_grad=False, bn="hidden"),
    "barlow": Method(SOLVERS["other_view"], objective.barlow, predictor="none", stop_grad=False, bn="hidden"),
    "sigreg": Method(SOLVERS["other_view"], objective.sigreg, predictor="none", stop_grad=False, bn="hidden"),
}
