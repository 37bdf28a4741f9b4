"""What if η_x is the representation of a slower encoder? BYOL's momentum encoder, and MoCo's with its queue."""

import math

import torch
from torch import Tensor

from ..objective import unit
from ..sending import together
from ..traits import solver

PREFIX = "encoder."  # names of ξ in the state: those of F


def follow(state, F_t, tau: float) -> dict[str, Tensor]:
    """ξ ← τ·ξ + (1−τ)·θᵗ, before it is used; at first ξ = θᵗ. Buffers are ξ's own, moved by its own passes."""
    if not any(name.startswith(PREFIX) for name in state):
        return {PREFIX + name: x.clone() for name, x in F_t.theta.items()}
    encoder = {name: x for name, x in state.items() if name.startswith(PREFIX)}
    names = F_t.parameters
    torch._foreach_lerp_([encoder[PREFIX + name] for name in names], [F_t.theta[name] for name in names], 1 - tau)
    return encoder


def under(encoder: dict[str, Tensor], F_t, views: Tensor) -> Tensor:
    """F_ξ: views [n, B, C, H, W] -> z [n, B, d]."""
    return F_t.under(weights_in(encoder, PREFIX), views)


def weights_in(state, prefix: str) -> dict[str, Tensor]:
    """The tensors of a state whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}


@solver(
    per_image=(),
    measurable=False,
    encoder="F_ξ",
    averaged="ξ over the steps of θ",
    eta="F_ξ(T′(x)), ξ ← τ·ξ + (1−τ)·θᵗ",
    memory="4 * P",
    lag="tau / (1 - tau)",
)
def momentum_encoder(state, F_t, batch, *, tau: float = 0.99, tau_schedule: str = "cosine"):
    """η_x ← F_ξ(T′(x)), ξ a moving average of θ. A constant τ = 0 is `other_view`, τ = 1 a fixed random target.

    tau_schedule: `cosine` from tau to 1 over the training, as BYOL, or `constant`.
    Source: Grill et al. 2020, §3.1 and §3.2 (schedule); as an η-solver: Chen & He 2021, §6.2.
    """
    if tau_schedule == "cosine" and batch.total:
        tau = 1 - (1 - tau) * (1 + math.cos(math.pi * batch.step / batch.total)) / 2
    encoder = follow(state, F_t, tau)
    return under(encoder, F_t, batch.others), encoder


@solver(
    per_image=(),
    keeps=("queue",),
    measurable=False,
    encoder="F_ξ",
    averaged="ξ over the steps of θ",
    eta="F_ξ(T′(x)), beside a queue of others",
    memory="4 * P + 4 * queue * d",
    lag="tau / (1 - tau)",
)
def momentum_queue(state, F_t, batch, *, tau: float = 0.99, queue: int = 65536, shuffle_bn: int = 1):
    """MoCo: η_x as BYOL's with a constant τ, and the latest targets of other batches as negatives, first in, first out.

    state: ξ; queue [at most Q, d], unit vectors of earlier steps, oldest first; last: those of this step, which join it
    at the next. With a symmetric loss both views' targets join, an image's one after the other.
    shuffle_bn: see `shuffled`. Source: He et al. 2020, Algorithm 1; symmetric: Chen & He 2021, Table 4.
    """
    encoder = follow(state, F_t, tau)
    eta = shuffled(encoder, F_t, batch, shuffle_bn) if shuffle_bn > 1 else under(encoder, F_t, batch.others)
    keys = batch.gather(unit(eta).transpose(0, 1)).flatten(0, 1)
    earlier = torch.cat([state["queue"], state["last"]])[-queue:] if "queue" in state else keys[:0]
    return eta, {**encoder, "queue": earlier, "last": keys}


def shuffled(encoder: dict[str, Tensor], F_t, batch, groups: int) -> Tensor:
    """F_ξ of batch.others, the whole batch in random groups with batch statistics of their own: [S, B, d].

    A target then shares no statistics with its prediction, by which it could be told from the queue's. Groups stand for
    MoCo's GPUs, so any number of processes gives the same numbers. Source: He et al. 2020, §3.3, "Shuffling BN".
    """
    views = batch.gather(batch.others.transpose(0, 1))  # [B, S, C, H, W], of all processes
    groups = min(groups, len(views) // 2)  # of a probe set, which may be smaller than a batch
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(batch.step))
    (order,) = together([order], views.device)
    parts = [under(encoder, F_t, batch.own(views[rows]).transpose(0, 1)) for rows in order.tensor_split(groups)]
    z = torch.cat([batch.gather(part.transpose(0, 1)) for part in parts])[order.argsort()]
    return batch.own(z).transpose(0, 1)


RING = "ring."  # names of past θ in the state
RING_SIZE = 2**30  # bytes of them


@solver(
    per_image=(),
    measurable=False,
    encoder="F_θ of before",
    averaged="n views",
    at_most=RING_SIZE,
    eta="1/n Σ F_θᵗ⁻ˡᵃᵍ(Tᵢ(x))",
    forwards="n / 2 if n > 1 else 1",
    memory="4 * lag * P",
    lag="lag",
    views="n",
)
def delayed(state, F_t, batch, *, lag: int = 44, n: int = 1):
    """The encoder of `lag` steps ago, on the other view, or on n further ones: lag without averaging, or with it.

    In the first `lag` steps θ⁰ stands for what was before it. state: a ring [lag, ...] of each parameter of F; BN
    buffers are today's. Source: ours, to tell the lag of a moving average from its averaging.
    Raises ValueError for lag < 1 or n < 1.
    """
    if lag < 1 or n < 1:
        raise ValueError(f"lag {lag}, n {n}; allowed is 1 or more")
    at, names = batch.step % lag, F_t.parameters
    if not state:
        state = {RING + name: F_t.theta[name].detach()[None].repeat(lag, *[1] * F_t.theta[name].ndim) for name in names}
    past = {name: x.clone() for name, x in F_t.theta.items()} | {name: state[RING + name][at].clone() for name in names}
    for name in names:
        state[RING + name][at] = F_t.theta[name]
    if n == 1:
        return F_t.under(past, batch.others), state
    eta = F_t.under(past, batch.draw(n)).mean(0)
    return eta.expand(len(batch.trained), *eta.shape), state
