"""What does a training step minimise? L(θ, η), between predictions p = h(F_θ(x)) and targets η.

Every similarity maps [..., d] and [..., d] to [...]; `loss` averages over views and images.
The loss makes vectors units here, so a target may have any length.
Source: Chen & He 2021, eqs. (1)-(5), footnote 5, and §4.5 for cross-entropy.

Below it the objectives of other systems. Each is one function (p, η, batch, state) -> a scalar, p and η [S, B, d]:
those that set images against each other take the whole batch, of all processes; state is what the solver remembers.
Their keyword-only parameters are their hyper-parameters.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .sending import together
from .traits import objective


def unit(z: Tensor) -> Tensor:
    """ẑ = z/‖z‖ over the last axis; a zero vector stays zero."""
    return functional.normalize(z, dim=-1)


@objective(unit=True)
def cosine(p: Tensor, eta: Tensor) -> Tensor:
    """D(p, η) in [−1, 1]; ½‖p̂ − η̂‖² − 1, so the squared error of unit vectors up to scale."""
    return -(unit(p) * unit(eta)).sum(-1)  # (1)


def squared_error(p: Tensor, eta: Tensor) -> Tensor:
    """‖p − η‖²/d, without normalisation: the integrand of (5) as a mean over the d channels."""
    return (p - eta).square().mean(-1)


def cross_entropy(p: Tensor, eta: Tensor) -> Tensor:
    """−softmax(η)·log softmax(p), in nats (§4.5). Not symmetric in its arguments."""
    return -(functional.softmax(eta, -1) * functional.log_softmax(p, -1)).sum(-1)


@objective(takes="means of unit vectors")
def inner(p: Tensor, eta: Tensor) -> Tensor:
    """−⟨p̂, η⟩: the cosine, but a target keeps its length. Linear in η, so its mean over draws is that of η's mean."""
    return -(unit(p) * eta).sum(-1)


SIMILARITIES = {"cosine": cosine, "cross_entropy": cross_entropy, "mse": squared_error, "inner": inner}


def loss(p: Tensor, eta: Tensor, *_, similarity=cosine) -> Tensor:
    """L(θ, η) on a batch: the mean of D(p, η). p, eta: [S, B, d], one prediction and one target for each trained view.

    Returns a scalar. With S = 2 and targets from the other view this is ½D(p₁, z₂) + ½D(p₂, z₁).
    Raises ValueError where the shapes differ (a target would broadcast silently).
    """
    if p.shape != eta.shape:
        raise ValueError(f"predictions {tuple(p.shape)} and targets {tuple(eta.shape)} differ in shape")
    return similarity(p, eta).mean()  # (2): S = 2; (5)


def whole(x: Tensor, batch) -> Tensor:
    """[S, B, d] of this process -> of all of them; gradients pass."""
    return batch.gather(x.transpose(0, 1)).transpose(0, 1)


@objective(unit=True)
def nt_xent(p: Tensor, eta: Tensor, batch, _, *, temperature: float = 0.2) -> Tensor:
    """SimCLR: which of all targets of the batch belongs to this image? In nats, on unit vectors.

    Other views of the same image are no negatives. Source: Chen et al. 2020, eq. (1); with h and stop-gradient: Chen &
    He 2021, §6.2, footnote 7; temperature: MoCo v2's, SimCLR's own on ImageNet is 0.1.
    """
    p, eta = whole(p, batch), whole(eta, batch)
    views, images = p.shape[:2]
    logits = unit(p).flatten(0, 1) @ unit(eta).flatten(0, 1).T / temperature  # [S·B, S·B], own target on the diagonal
    same_image = torch.eye(images, dtype=torch.bool, device=p.device).repeat(views, views)
    own = torch.eye(len(logits), dtype=torch.bool, device=p.device)
    logits = logits.masked_fill(same_image & ~own, -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits), device=p.device))


@objective(unit=True, reads=("queue",))
def info_nce(p: Tensor, eta: Tensor, _, state: dict[str, Tensor], *, temperature: float = 0.2) -> Tensor:
    """MoCo: own target against the queue of earlier ones, `state["queue"]`, [Q, d], of unit vectors. In nats.

    The first step has no queue yet, and no gradient. Source: He et al. 2020, eq. (1); temperature: MoCo v2.
    Raises KeyError for a state without a queue.
    """
    own = -cosine(p, eta)[..., None]
    logits = torch.cat([own, unit(p) @ state["queue"].to(p.dtype).T], -1).flatten(0, 1) / temperature
    return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


@objective(unit=True, takes="codes")
def swapped_prediction(p: Tensor, eta: Tensor, *_, temperature: float = 0.1) -> Tensor:
    """SwAV: cross-entropy of codes η under softmax(p/temperature), p and η over prototypes. In nats.

    Source: Caron et al. 2020, eq. (2).
    """
    return -(eta * functional.log_softmax(p / temperature, -1)).sum(-1).mean()


def vicreg(
    p: Tensor, eta: Tensor, batch, _, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """VICReg: views agree, each channel keeps a std of 1, channels do not covary.

    Source: Bardes et al. 2022, eqs. (1)-(6), weighed as their code has it: the invariance is a mean over channels too,
    and the variances a mean over the two views.
    """
    p, eta = whole(p, batch), whole(eta, batch)
    centred = p - p.mean(1, keepdim=True)
    cov = centred.mT @ centred / (p.shape[1] - 1)  # [S, d, d]
    spread = functional.relu(1 - (cov.diagonal(dim1=1, dim2=2) + 1e-4).sqrt()).mean()
    off = (cov.square().sum((1, 2)) - cov.diagonal(dim1=1, dim2=2).square().sum(1)) / p.shape[-1]
    views = 2  # covariances of the two views add up there, where spreads are averaged
    return invariance * squared_error(p, eta).mean() + variance * spread + covariance * views * off.mean()


def barlow(p: Tensor, eta: Tensor, batch, _, *, redundancy: float = 0.005) -> Tensor:
    """Barlow Twins: the correlation of the channels of two views is the identity.

    Source: Zbontar et al. 2021, eq. (1).
    """
    x, y = (standardised(whole(z, batch)) for z in (p, eta))
    correlation = x.mT @ y / x.shape[1]  # [S, d, d]
    on = correlation.diagonal(dim1=1, dim2=2)
    off = correlation.square().sum((1, 2)) - on.square().sum(1)
    return ((1 - on).square().sum(1) + redundancy * off).mean()


def standardised(z: Tensor) -> Tensor:
    """Each channel of [S, B, d] with mean 0 and variance 1 over the images."""
    centred = z - z.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


def sigreg(p: Tensor, eta: Tensor, batch, _, *, regularity: float = 0.05, slices: int = 256, knots: int = 17) -> Tensor:
    """LeJEPA: views agree with their mean, and z is an isotropic Gaussian along random directions, new at each step.

    How far from it: the Epps-Pulley statistic, B·∫|φ(t) − e^{−t²/2}|² e^{−t²/2} dt over [−3, 3] by the trapezoid rule,
    φ the empirical characteristic function. Source: Balestriero & LeCun 2025 (arXiv 2511.08544); 256 directions as in
    the example of their repository, MINIMAL.md.
    """
    p, eta = whole(p, batch), whole(eta, batch)
    rng = torch.Generator().manual_seed(batch.step)
    directions = unit(torch.randn(slices, p.shape[-1], generator=rng, dtype=torch.float64)).to(p.dtype)
    (directions,) = together([directions], p.device)
    t = torch.linspace(0, 3, knots, dtype=p.dtype, device=p.device)
    gaussian = (-t.square() / 2).exp()
    angles = p @ directions.T * t[1]  # [S, B, slices]; t is evenly spaced, so every e^{itx} is a power of one
    cos, sin, real, imaginary = angles.cos(), angles.sin(), torch.ones_like(angles), torch.zeros_like(angles)
    errors = []
    for k in range(knots):
        errors.append((real.mean(1) - gaussian[k]).square() + imaginary.mean(1).square())
        real, imaginary = real * cos - imaginary * sin, real * sin + imaginary * cos
    error = torch.stack(errors, -1)  # [S, slices, knots]
    statistic = 2 * p.shape[1] * torch.trapezoid(error * gaussian, t).mean()  # even in t: twice the half
    return (1 - regularity) * squared_error(p, (p + eta) / 2).mean() + regularity * statistic
