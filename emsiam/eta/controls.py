"""What if η does not estimate anything? Targets that a method must beat, or cannot."""

import torch

from ..objective import whole
from ..sending import together
from ..traits import solver
from . import bank as banks
from .memory import directions


@solver(
    per_image=("rows",),
    only_others=True,
    spread=True,
    measurable=False,
    eta="u_x, random",
    forwards="0",
    memory="4 * N * d",
    lag="",
    views="",
)
def random_targets(state, F_t, batch):
    """A constant random unit vector for each image: nothing can collapse, and nothing is shared between images.

    state: rows [num_images, d]. Source: Bojanowski & Joulin 2017 (NAT), without its assignment.
    """
    z = F_t(batch.others)
    if not state:
        state = {"rows": directions(batch, z.shape[-1]).to(z)}
    eta = banks.read(state["rows"], batch)
    return eta.expand_as(z), state


@solver(
    per_image=(),
    only_others=True,
    measurable=False,
    eta="F(T′(y)), y another image",
    forwards="0",
    lag="0",
    views="",
)
def permuted(state, F_t, batch):
    """The target of another image of the batch, a new one at each step: no image can be told by its target.

    Raises ValueError for a batch of one image.
    """
    z = whole(F_t(batch.others), batch)
    if z.shape[1] < 2:
        raise ValueError("one image; another one is needed")
    order = torch.randperm(z.shape[1], generator=torch.Generator().manual_seed(batch.step))
    (order,) = together([order], z.device)
    place = order.argsort()
    return batch.own(z[:, order.roll(1)[place]], 1), state


@solver(
    per_image=(),
    only_others=True,
    needs_labels=True,
    measurable=False,
    eta="mean of F(T′(y)) over y of x's class",
    forwards="0",
    views="",
)
def class_means(state, F_t, batch):
    """The mean of the other views' z over the batch's images of the same class: what labels would give."""
    z = F_t(batch.others)
    same = (batch.labels[:, None] == batch.gather(batch.labels)).to(z)  # [B, B of all processes]
    return same @ whole(z, batch) / same.sum(1, keepdim=True), state
