"""What if η_x is not solved for but descended to? Gradient steps on (8), ‖F_θᵗ(T′(x)) − η_x‖², one at each visit.

At a first visit η_x is F_θᵗ(T′(x)). The target of view a takes its step towards the other view, b ≠ a, and the mean
over the views is stored, with all that the rule remembers.
"""

import torch

from ..traits import solver
from .bank import read
from .memory import counted, store


@solver(
    per_image=("rows", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="η_x over the visits of an image",
    eta="η_x − rate·∇",
    forwards="0",
    memory="4 * N * d",
    lag="(1 - 2 * rate) / (2 * rate) * epoch",
    views="2 / (rate / (1 - rate) + 4 * rate**2)",
)
def eta_sgd(state, F_t, batch, *, rate: float = 0.1):
    """η_x ← η_x − rate·∇: with rate = (1 − m)/2 it is the moving average.

    state: rows [num_images, d], visits [num_images]. Source: (8) by the optimiser of (7).
    """
    z, eta, gradient, state = _gradient(state, F_t, batch)
    eta = torch.where(_first(state, batch), z, eta - rate * gradient)
    store(state, batch, rows=eta.mean(0))
    return eta, state


@solver(
    per_image=("rows", "velocity", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="η_x over the visits of an image",
    eta="η_x − rate·v, v ← β·v + ∇",
    forwards="0",
    memory="8 * N * d",
    lag="((1 - beta) / (2 * rate) - 1) * epoch",
    views="2 / ((1 + beta) * rate / ((1 - beta) * (1 + beta - rate)) + 4 * rate**2)",
)
def eta_momentum(state, F_t, batch, *, rate: float = 0.1, beta: float = 0.5):
    """Heavy-ball steps: v ← beta·v + ∇, η_x ← η_x − rate·v; beta = 0 is `eta_sgd`.

    state: rows and velocity [num_images, d], visits [num_images]. Source: Polyak 1964, in PyTorch's form.
    """
    z, eta, gradient, state = _gradient(state, F_t, batch, velocity=True)
    first = _first(state, batch)
    velocity = torch.where(first, 0.0, beta * read(state["velocity"], batch) + gradient)
    eta = torch.where(first, z, eta - rate * velocity)
    store(state, batch, rows=eta.mean(0), velocity=velocity.mean(0))
    return eta, state


@solver(
    per_image=("rows", "mean", "square", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="η_x over the visits of an image",
    measurable=False,
    eta="η_x − rate·m̂/√v̂",
    forwards="0",
    memory="12 * N * d",
    lag="",
    views="",
)
def eta_adam(state, F_t, batch, *, rate: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, epsilon: float = 1e-8):
    """Adam's steps, each channel of η_x with a step of about `rate` in the units of z.

    Visits are few, so beta2 is 0.99 and not 0.999. state: rows, mean and square [num_images, d], visits [num_images].
    Source: Kingma & Ba 2015, Algorithm 1.
    """
    z, eta, gradient, state = _gradient(state, F_t, batch, mean=True, square=True)
    first, steps = _first(state, batch), read(state["visits"], batch)[:, None].clamp(min=1).to(z)
    mean = torch.where(first, 0.0, beta1 * read(state["mean"], batch) + (1 - beta1) * gradient)
    square = torch.where(first, 0.0, beta2 * read(state["square"], batch) + (1 - beta2) * gradient.square())
    step = mean / (1 - beta1**steps) / ((square / (1 - beta2**steps)).sqrt() + epsilon)
    eta = torch.where(first, z, eta - rate * step)
    store(state, batch, rows=eta.mean(0), mean=mean.mean(0), square=square.mean(0))
    return eta, state


def _gradient(state, F_t, batch, **more: bool):
    """z of the other views, η_x as it was, the gradient 2(η_x − z) of ‖z − η_x‖², and the state."""
    z = F_t(batch.others)
    state = counted(state, batch, z, rows=z.shape[2:], **dict.fromkeys(more, z.shape[2:]))
    eta = read(state["rows"], batch)
    return z, eta, 2 * (eta - z), state


def _first(state, batch):
    """[B, 1] whether it is an image's first visit."""
    return (read(state["visits"], batch) == 0)[:, None]
