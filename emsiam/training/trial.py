"""Does a solver answer as it must? It is asked for one batch, before anything is written."""

from typing import Any

import torch
from torch import Tensor

from ..alternate import Frozen, hold
from ..build import Parts, loop_options, stream
from ..data.batches import Batch
from ..errors import ConfigError, place, refuse
from ..methods import METHODS
from ..traits import name_of, of_objective, of_solver

DRAWN = 32  # further views at most, in `check_places`


def try_solver(parts: Parts) -> None:
    """Raises ConfigError with what is wrong with the solver that was chosen, and what was expected."""
    c = parts.config
    batch = next(stream(c, parts.images, stop=1))
    shape = (len(batch.trained), len(batch.ids), c.width)
    own, name = ":" in (c.eta or ""), c.eta or name_of(parts.solver)
    try:
        answer = solved(parts, {}, batch)
    except Exception as error:
        if isinstance(error, ConfigError) or (isinstance(error, OSError) and not own):
            raise
        refuse("eta", name, place(error) if own else str(error))
    eta, state = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
    if not isinstance(eta, Tensor) or not isinstance(state, dict):
        parts_of = answer if isinstance(answer, tuple) else (answer,)
        given = ", ".join(type(x).__name__ for x in parts_of)
        refuse("eta", name, f"must return a pair (eta, state), a tensor and a dict, but returned {given}")
    if tuple(eta.shape) != shape:
        refuse("eta", name, f"eta must have the shape [S, B, d] = {list(shape)}, but has {list(eta.shape)}")
    if not eta.isfinite().all():
        refuse("eta", name, "eta must be finite, but has NaN or infinity in its first batch")
    if eta.requires_grad and c.stop_grad:
        refuse("eta", name, "eta must have no gradient, but has one; detach what does not come from F_t")
    for wanted in of_objective(METHODS[c.mode].objective).reads:
        if not isinstance(state.get(wanted), Tensor):
            refuse("eta", name, f"--mode {c.mode} needs a tensor in state[{wanted!r}], for its objective")
    if odd := unsaved(state):
        refuse("eta", name, f"state must hold tensors and plain values under names, but {odd}")
    traits = of_solver(parts.solver)
    for said in {*(traits.per_image or ()), *traits.placed, *traits.keeps} - state.keys():
        refuse("eta", name, f"@solver says {said}, which state does not have; it has {', '.join(state) or 'nothing'}")


def solved(parts: Parts, state: dict[str, Any], batch: Batch) -> Any:
    """What the solver answers under copies of the weights, h among them where it asks for it."""
    net, traits = parts.network, of_solver(parts.solver)
    h = net.h if traits.needs_h else None
    theta, known = hold(net.F, copy=True), None
    if traits.only_others and not loop_options(parts.config)["held"]:  # it has no more in training
        theta, known = {}, Frozen(net.F, theta)(batch.views)
    return parts.solver(state, Frozen(net.F, theta, batch, known, h, hold(h, copy=True) if h else {}), batch)


def unsaved(state: dict[str, Any]) -> str:
    """What of a state a checkpoint cannot hold, in words, or nothing."""
    for name, x in state.items():
        if not isinstance(name, str):
            return f"{name!r} is no name"
        if not isinstance(x, Tensor | int | float | str | bool | None):
            return f"{name} is a {type(x).__name__}"
    return ""


def check_places(parts: Parts) -> None:
    """`try_solver`, and whether η belongs to the image and not to its place in the batch: the same images in another
    order must have the same targets, after a visit in the first order. Raises ConfigError.
    """
    try_solver(parts)
    batch = next(stream(parts.config, parts.images, stop=1))
    order = torch.arange(len(batch.ids)).flip(0)
    drawn = batch.draw(DRAWN)
    first = batch._replace(draw=lambda n: drawn[:n])
    turned = first._replace(
        ids=batch.ids[order],
        all_ids=None,
        views=batch.views[:, order],
        others=batch.others[:, order],
        draw=lambda n: drawn[:n, order],
        labels=None if batch.labels is None else batch.labels[order],
    )
    _, state = solved(parts, {}, first)
    kept = {key: x.clone() if isinstance(x, Tensor) else x for key, x in state.items()}
    (same, _), (other, _) = solved(parts, state, first), solved(parts, kept, turned)
    if not torch.allclose(same[:, order], other, atol=1e-3 * float(same.abs().max())):
        reason = "the target of an image must not depend on its place in the batch; rows belong to batch.ids"
        refuse("eta", parts.config.eta or name_of(parts.solver), reason)
