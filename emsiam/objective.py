"""What does a training step minimise? L(θ, η), between predictions p = h(F_θ(x)) and targets η.

Every similarity maps [..., d] and [..., d] to [...]; `loss` averages over views and images.
ℓ2-normalisation happens here and nowhere else, so a target may have any length.
Source: Chen & He 2021, eqs. (1)-(5), footnote 5, and §4.5 for cross-entropy.
"""

from torch import Tensor
from torch.nn import functional


def unit(z: Tensor) -> Tensor:
    """ẑ = z/‖z‖ over the last axis; a zero vector stays zero."""
    return functional.normalize(z, dim=-1)


def cosine(p: Tensor, eta: Tensor) -> Tensor:
    """D(p, η) in [−1, 1]; ½‖p̂ − η̂‖² − 1, so the squared error of unit vectors up to scale."""
    return -(unit(p) * unit(eta)).sum(-1)  # (1)


def squared_error(p: Tensor, eta: Tensor) -> Tensor:
    """‖p − η‖²/d, without normalisation: the integrand of (5) as a mean over the d channels."""
    return (p - eta).square().mean(-1)


def cross_entropy(p: Tensor, eta: Tensor) -> Tensor:
    """−softmax(η)·log softmax(p), in nats (§4.5). Not symmetric in its arguments."""
    return -(functional.softmax(eta, -1) * functional.log_softmax(p, -1)).sum(-1)


SIMILARITIES = {"cosine": cosine, "cross_entropy": cross_entropy, "mse": squared_error}


def loss(p: Tensor, eta: Tensor, similarity=cosine) -> Tensor:
    """L(θ, η) on a batch: a scalar. p, eta: [S, B, d], one prediction and one target a trained view.

    With S = 2 and targets from the other view this is ½D(p₁, z₂) + ½D(p₂, z₁).
    Raises ValueError where the shapes differ (a target would broadcast silently).
    """
    if p.shape != eta.shape:
        raise ValueError(f"predictions {tuple(p.shape)} and targets {tuple(eta.shape)} differ in shape")
    return similarity(p, eta).mean()  # (2): S = 2; (5)
