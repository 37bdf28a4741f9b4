"""Has the representation collapsed? z in, numbers out. z: [N, d], any real dtype, computed in float64.

All look at ẑ = z/‖z‖. A healthy network trained on `digits` with d = 128 is given as an example.
"""

import math

import torch
from torch import Tensor

from ..objective import unit


def _noise(z: Tensor) -> float:
    """Variance that rounding alone gives ẑ: below it there is nothing to share out."""
    return (16 * torch.finfo(z.dtype).eps) ** 2


def z_std(z: Tensor) -> Tensor:
    """Standard deviation of each channel of ẑ over the images, averaged over channels (Fig. 2 of the paper).

    1/√d for vectors that are spread evenly, 0 for a constant. Blind to rank: two antipodal points also have 1/√d.
    """
    return unit(z.double()).std(0, correction=0).mean()


def z_std_ratio(z: Tensor) -> Tensor:
    """z_std·√d: 1 healthy, 0 collapsed, whatever d."""
    return z_std(z) * math.sqrt(z.shape[-1])


def effective_rank(z: Tensor) -> Tensor:
    """RankMe (Garrido et al. 2023): exp of the entropy of ẑ's singular values, p = σ/Σσ. Uncentred; 1 to min(N, d).

    Not a detector of collapse by itself: an untrained network may score higher than a trained one. All z = 0 give 1.
    """
    sigma = torch.linalg.svdvals(unit(z.double()))
    p = sigma / sigma.sum().clamp_min(torch.finfo(sigma.dtype).tiny)
    return torch.exp(torch.special.entr(p).sum())


def participation_ratio(z: Tensor) -> Tensor:
    """(Σλ)²/Σλ² of the eigenvalues λ of the covariance of ẑ (centred): how many directions carry the variance.

    8-14 healthy at d = 128, 1-2 in a dimensional collapse. A constant gives 0.
    Computed as (tr C)²/‖C‖², which needs no eigenvalues.
    """
    x = unit(z.double())
    x = x - x.mean(0)
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    trace = gram.trace()
    return torch.where(trace > len(z) * _noise(z), trace.square() / gram.square().sum().clamp_min(1e-300), 0.0)


def between_share(z: Tensor) -> Tensor:
    """ρ_b = tr Σ_b / (tr Σ_b + tr Σ_w) of ẑ, from n views of the same images, z: [n, N, d], n ≥ 2.

    Σ_w is the variance over an image's views, Σ_b that of the images' expectations, both unbiased (one-way
    analysis of variance). 1: views of an image coincide; 0: a view says nothing about which image it shows.
    A constant gives 0; the estimate is cut at 0.
    """
    n, x = len(z), unit(z.double())
    within = x.var(0).sum(-1).mean()
    between = (x.mean(0).var(0).sum() - within / n).clamp_min(0)
    total = between + within
    return torch.where(total > _noise(z), between / total.clamp_min(1e-300), 0.0)
