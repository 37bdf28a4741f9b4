"""What is known of a solver, an objective or a data set beside what it does? It is said where it is defined.

    @solver(per_image=("rows", "visited"), placed=("rows",))
    def moving_average(state, F_t, batch, *, m=0.8): ...

The decorators set an attribute and change nothing else. A function without one is a solver or an objective all the
same: its traits are the defaults below, which suit a solver that keeps nothing, or one row for each image.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

Function = TypeVar("Function", bound=Callable)
Thing = TypeVar("Thing")


class Solver(NamedTuple):
    """Traits of a solver of (8)."""

    # Tensors of its state with a row for each image. None: those as long as the data set, but for weights, whose names
    # have a dot.
    per_image: tuple[str, ...] | None = None
    placed: tuple[str, ...] = ()  # those of them that live where `--bank` says; all else is on the device
    spread: bool = False  # several processes share their rows, see `eta.bank`; else each has all
    keeps: tuple[str, ...] = ()  # tensors of its state that an objective may read
    gives: str = "representations"  # what η is
    passes_gradient: bool = False  # η has a gradient where F_t lets it through: without stop-gradient, k = 1
    measurable: bool = True  # it takes any z: `diagnostics.em.response` can read how old η is, and of how many views
    needs_h: bool = False  # it asks for the predictor, F_t.h(z)
    only_others: bool = False  # of F_t it asks for F_t(batch.others) alone: at k = 1 no copy is made
    needs_labels: bool = False  # it reads batch.labels
    needs_all_of_T: bool = False  # it asks for batch.every(), so T must be finite
    at_most: float = math.inf  # bytes of `memory` above which it is refused
    # What docs/solvers.md says of it: expressions in its hyper-parameters and SIZES.
    eta: str = ""  # η_x, in mathematics
    forwards: str = "1"  # passes of F for each view that is trained on, beside that of the θ-step
    memory: str = "0"  # bytes
    lag: str = "0"  # mean age of the θ behind η, in steps; empty: of no meaning
    views: str = "1"  # effective number of views in η; empty: of no meaning
    # How `docs/methods.md` draws it.
    encoder: str = "F"  # what the other view passes through
    then: str = ""  # what is done with its z
    averaged: str = "nothing"


SIZES = {  # what expressions of costs may speak of
    "N": "images to train on",
    "B": "images per step",
    "d": "width of z",
    "pixels": "numbers of a view",
    "P": "numbers of F",
    "T": "views that a finite T has",
    "epoch": "steps per epoch",
}


def value(expression: str, numbers: Mapping[str, Any]) -> float:
    """What an expression of a trait comes to; empty: NaN. It stands in a decorator, which is code itself."""
    return float(eval(expression, {"__builtins__": {}}, dict(numbers))) if expression else math.nan


class Objective(NamedTuple):
    """Traits of an objective of (7), or of a similarity."""

    unit: bool = False  # it looks at unit vectors: lengths do not matter
    reads: tuple[str, ...] = ()  # tensors of the solver's state that it needs
    takes: str = ""  # what η must be; nothing: anything of the shape of p


class DataSet(NamedTuple):
    """Traits of a data set's loader, which makes it one of `data.DATASETS`."""

    defaults: Mapping[str, Any] = MappingProxyType({})  # options whose default it changes


def solver(**traits) -> Callable[[Function], Function]:
    """Say a solver's traits, see `Solver`. Raises TypeError for one that is none, or a string in a tuple's place."""
    return _saying(Solver(**_tuples(traits)))


def objective(**traits) -> Callable[[Function], Function]:
    """Say an objective's or a similarity's traits, see `Objective`. Raises TypeError as `solver`."""
    return _saying(Objective(**_tuples(traits)))


def _tuples(traits: dict[str, Any]) -> dict[str, Any]:
    """("rows") is a string, and `in` it finds letters."""
    for name in ("per_image", "placed", "keeps", "reads"):
        if isinstance(traits.get(name), str):
            raise TypeError(f"{name}={traits[name]!r}: a tuple of names is meant, ({traits[name]!r},)")
    return traits


def data_set(**defaults) -> Callable[[Function], Function]:
    """Say that a function loads a data set, and which options have another default with it."""
    return _saying(DataSet(defaults))


def by_name(things: Iterable[tuple[str, Thing]]) -> dict[str, Thing]:
    """A table of things with a name each. Raises ValueError where two that are not one have the same."""
    table: dict[str, Thing] = {}
    for name, thing in things:
        if table.setdefault(name, thing) is not thing:
            raise ValueError(f"{name} is there twice")
    return table


def _saying(traits: Solver | Objective | DataSet) -> Callable[[Function], Function]:
    def said(function: Function) -> Function:
        function.traits = traits  # type: ignore[attr-defined]  # any function takes attributes
        return function

    return said


def of_solver(function: Callable) -> Solver:
    """The traits of a solver, its hyper-parameters bound or not."""
    return getattr(_plain(function), "traits", Solver())


def name_of(function: Callable) -> str:
    """How a solver is called, its hyper-parameters bound or not."""
    return getattr(_plain(function), "__name__", type(function).__name__)


def of_objective(function: Callable) -> Objective:
    """The traits of an objective or a similarity, its hyper-parameters bound or not."""
    return getattr(_plain(function), "traits", Objective())


def of_data_set(function: Callable) -> DataSet:
    """The traits of a data set's loader."""
    return getattr(function, "traits", DataSet())


def fit_together(solve: Callable, minimised: Callable) -> bool:
    """Whether a solver, as far as it says, gives all that an objective asks for."""
    has, wants = of_solver(solve), of_objective(minimised)
    return set(wants.reads) <= set(has.keeps) and wants.takes in ("", has.gives)


def _plain(function: Callable) -> Callable:
    while isinstance(function, partial):
        function = function.func
    return function


def hyperparameters(function: Callable) -> dict[str, object]:
    """The keyword-only parameters of a solver, an objective, a loader or an evaluation, and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
