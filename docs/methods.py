"""docs/methods.md: every system drawn from its row, as the paper's Fig. 3. `python docs/generate.py` writes it."""

from collections.abc import Callable

from emsiam.config import HYPERPARAMETERS
from emsiam.methods import METHODS, Method
from emsiam.traits import hyperparameters, of_solver

HEAD = """# The systems

Made by `python docs/generate.py` from the rows of [emsiam/methods.py](../emsiam/methods.py): the paper's Fig. 3, and
what came after. Train one with

    python -m emsiam.train --mode NAME

How to read a drawing. Two views of an image x, T(x) and T′(x), pass through the parts in order. The first line ends in
the output p that is trained, the second in its target η. F is the encoder with its projector, h the predictor, and
`║` the stop-gradient: no gradient passes it. F_ξ is a second encoder, whose weights ξ are not trained.

Below each drawing:

- *Loss*: what the weights θ minimise.
- *Target*: how η is computed.
- *Both lines share* the encoder with its weights, or only its architecture. *Averaged*: what is a mean over views or
  over time.
- *Options* are flags of the command. *Constants* of the target are set by `--eta-args NAME=VALUE`; those of the loss
  are arguments of its function alone.
"""


def first_line(function: Callable) -> str:
    """The first line of a docstring, without its full stop. Raises ValueError where a function has none."""
    if not function.__doc__:
        raise ValueError(f"{function.__module__}.{function.__name__} has no docstring")
    return function.__doc__.strip().split("\n")[0].rstrip(".")


def drawn(name: str, method: Method) -> str:
    """One system."""
    solve = of_solver(method.solve)
    encoder = solve.encoder + (" → prototypes" if method.prototypes else "")
    online = ["F", *(["h"] if method.predictor != "none" else []), *(["prototypes"] if method.prototypes else [])]
    first = ["T(x)", *online, "p"]
    second = ["T′(x)", encoder, *([solve.then] if solve.then else []), *(["║"] if method.stop_grad else []), "η"]
    if method.held:
        second[1] += " under θᵗ, held for k steps"
    doc = first_line(method.objective).split(". ")[0]
    lines = [f"## `{name}`", "", f"    {' → '.join(first)}", f"    {' → '.join(second)}", ""]
    shared = "the architecture" if encoder.startswith("F_") or method.held else "the encoder"
    read = sorted({*hyperparameters(method.solve), *hyperparameters(method.objective)} - {"similarity"})
    options = [n for n in read if n in HYPERPARAMETERS] + ["prototypes"] * bool(method.prototypes)
    constants = [n for n in read if n not in HYPERPARAMETERS]
    lines += [
        f"- Loss: `objective.{method.objective.__name__}`. {doc}.",
        f"- Target: `eta.{method.solve.__name__}`. {first_line(method.solve)}.",
        f"- Both lines share {shared}. Averaged: {solve.averaged}.",
    ]
    for kind, names in (("options", options), ("constants", constants)):
        lines += [f"- Its {kind}: {', '.join(f'`{name}`' for name in names)}."] if names else []
    return "\n".join(lines)


def text() -> str:
    """The text of docs/methods.md."""
    return "\n\n".join([HEAD.rstrip(), *(drawn(name, method) for name, method in METHODS.items())]) + "\n"
