"""What if η solves (8) for the loss that SimSiam trains? That is E‖h∘F − η‖², and its solution is E_T[h∘F], not (9).

The paper says that its hypothesis does not involve h (§5.1): these are our question. A solver asks for h by its trait
`needs_h`, and finds it, under θᵗ and without gradient, as F_t.h.
"""

import torch
from torch.func import functional_call

from .. import networks
from ..objective import cosine, whole
from ..streams import PREDICTOR, generator
from ..traits import solver
from .encoder import weights_in

H, VELOCITY = "h.", "velocity."  # names in the state


@solver(per_image=(), only_others=True, needs_h=True, measurable=False, then="h", eta="h(F(T′(x)))", forwards="0")
def predicted(state, F_t, batch):
    """h∘F of the other view: one draw of E_T[h∘F_θᵗ(T(x))]."""
    return F_t.h(F_t(batch.others)), state


@solver(
    per_image=(),
    needs_h=True,
    measurable=False,
    then="mean of h of n views",
    averaged="n views",
    eta="1/n Σ h(F(Tᵢ(x)))",
    forwards="n / 2",
    views="n",
)
def predicted_expectation(state, F_t, batch, *, n: int = 4):
    """The mean of h∘F over n further views, shared by all trained views."""
    eta = F_t.h(F_t(batch.draw(n))).mean(0)
    return eta.expand(len(batch.trained), *eta.shape), state


@solver(
    per_image=(),
    needs_h=True,
    needs_all_of_T=True,
    measurable=False,
    then="mean of h over all of T",
    averaged="all views",
    eta="Σ_T P(T) h(F(T(x)))",
    forwards="T / 2",
    views="T",
)
def predicted_every_view(state, F_t, batch):
    """E_T[h∘F_θᵗ(T(x))] itself, of a finite T, see `every_view`."""
    eta = torch.stack([share * F_t.h(F_t(view[None]))[0] for share, view in batch.every()]).sum(0)
    return eta.expand(len(batch.trained), *eta.shape), state


@solver(
    per_image=(),
    only_others=True,
    needs_h=True,
    measurable=False,
    then="with h of it",
    eta="(1−λ)·F(T′(x)) + λ·h(F(T′(x)))",
    forwards="0",
)
def mixed(state, F_t, batch, *, part: float = 0.5):
    """Between SimSiam's target, part = 0, and that of the loss it trains, part = 1 (`predicted`).

    η_x = (1 − part)·F(T′(x)) + part·h(F(T′(x))); part is the λ of docs/solvers.md and docs/hypothesis.md.
    """
    z = F_t(batch.others)
    return (1 - part) * z + part * F_t.h(z), state


@solver(
    per_image=(),
    measurable=False,
    then="an h of the solver's own",
    eta="h(F(T′(x))), h regressed on E_T[F]",
    forwards="0",
    memory="8 * (d * d / 2 + d)",
    lag="",
    views="",
)
def regressed(state, F_t, batch, *, rate: float = 0.05, beta: float = 0.9):
    """h in the η-step, §5.1 read literally: F is trained on h(F_θᵗ(T′(x))), while h learns E_T[F_θᵗ(T(x))] from F.

    h is the package's predictor, d → d/4 → d with BN, in the solver's state; it takes a step of SGD on D(h(z_b), z_a)
    at each step, at a constant rate, before it is used. Give `--predictor none`: no h is on the trained side.
    With one trained view h learns from a further one. state: weights of h, and their velocity.
    """
    z = F_t(batch.others)
    partner = z.roll(1, 0) if len(z) > 1 else F_t(batch.draw(1))
    z, seen = (whole(x, batch) for x in (z, partner))  # of all processes
    d = z.shape[-1]
    with networks.initialised(generator(0, PREDICTOR)):
        h = networks.build_predictor("mlp", dim=d, pred_dim=max(1, d // 4), bn="default")
    names = [name for name, _ in h.named_parameters()]
    if not state:
        h = h.to(z)
        state = {H + name: x.detach() for name, x in h.state_dict().items()}
        state |= {VELOCITY + name: torch.zeros_like(state[H + name]) for name in names}
    weights = {name: x.clone() for name, x in weights_in(state, H).items()}  # buffers move as h is used

    with torch.enable_grad():
        for name in names:
            weights[name].requires_grad_()
        error = cosine(torch.stack([functional_call(h, weights, (x,)) for x in z]), seen).mean()
        slopes = torch.autograd.grad(error, [weights[name] for name in names])
    for name, slope in zip(names, slopes, strict=True):
        state = state | {VELOCITY + name: beta * state[VELOCITY + name] + slope}
        weights[name] = weights[name].detach() - rate * state[VELOCITY + name]
    with torch.no_grad():
        eta = torch.stack([functional_call(h, weights, (x,)) for x in z])
    return batch.own(eta, 1), state | {H + name: x for name, x in weights.items()}
