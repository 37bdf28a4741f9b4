"""What if η_x is the representation of a slower encoder? BYOL's momentum encoder, and MoCo's with its queue."""

import math

import torch
from torch import Tensor

from ..objective import unit

PREFIX = "encoder."  # names of ξ in the state: those of F


def follow(state, F_t, tau: float) -> dict[str, Tensor]:
    """ξ ← τ·ξ + (1−τ)·θᵗ, before it is used; at first ξ = θᵗ. Buffers are ξ's own, moved by its own passes."""
    if not any(name.startswith(PREFIX) for name in state):
        return {PREFIX + name: x.clone() for name, x in F_t.theta.items()}
    encoder = {name: x for name, x in state.items() if name.startswith(PREFIX)}
    for name in F_t.parameters:
        encoder[PREFIX + name].lerp_(F_t.theta[name], 1 - tau)
    return encoder


def under(encoder: dict[str, Tensor], F_t, views: Tensor) -> Tensor:
    """F_ξ: views [N, B, C, H, W] -> z [N, B, d]."""
    return F_t.under({name.removeprefix(PREFIX): x for name, x in encoder.items()}, views)


def momentum_encoder(state, F_t, batch, *, tau: float = 0.99, tau_schedule: str = "cosine"):
    """η_x ← F_ξ(T′(x)), ξ a moving average of θ. With τ = 0 this is `other_view`, with τ = 1 a fixed random target.

    tau_schedule: `cosine` from tau to 1 over the training, as BYOL, or `constant`.
    Source: Grill et al. 2020, §3.1 and §3.2 (schedule); as an η-solver: Chen & He 2021, §6.2.
    """
    if tau_schedule == "cosine" and batch.total:
        tau = 1 - (1 - tau) * (1 + math.cos(math.pi * batch.step / batch.total)) / 2
    encoder = follow(state, F_t, tau)
    return under(encoder, F_t, batch.others), encoder


def momentum_queue(state, F_t, batch, *, tau: float = 0.99, queue: int = 65536):
    """MoCo: η_x as BYOL's with a constant τ, and the latest targets of other batches as negatives, first in, first out.

    state: ξ; queue [at most Q, d], unit vectors of earlier steps, oldest first; last: those of this step, which join it
    at the next. With a symmetric loss both views' targets join, an image's one after the other.
    Source: He et al. 2020, Algorithm 1; symmetric: Chen & He 2021, Table 4. Where several processes train, BN sees the
    batches of all, so that batch statistics do not tell a key's process: there is nothing to shuffle.
    """
    encoder = follow(state, F_t, tau)
    eta = under(encoder, F_t, batch.others)
    keys = batch.gather(unit(eta).transpose(0, 1)).flatten(0, 1)
    earlier = torch.cat([state["queue"], state["last"]])[-queue:] if "queue" in state else keys[:0]
    return eta, {**encoder, "queue": earlier, "last": keys}
