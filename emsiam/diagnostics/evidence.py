"""How sure are numbers of so many images? The bootstrap over images of those that a verdict looks at."""

import torch
from torch import Tensor

from .collapse import _hat, found_again

RESAMPLES = 400


def intervals(z: Tensor, *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """{number: 95 % interval} of `z_std_ratio`, `residual_norm`, `participation_ratio` and, of views, `view_auc`.

    z: [N, d] or [n, N, d]. Percentiles of the bootstrap over images. Of view_auc an image's chance against all others
    is what is drawn. Cost N²·(d + RESAMPLES).
    """
    one = z[0] if z.ndim == 3 else z
    count = len(one)
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(RESAMPLES, count, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(RESAMPLES, count, dtype=torch.float64)
    )
    weights = (weights / count).to(z.device)
    variance = _variances(one, weights)
    made = {
        "z_std_ratio": variance.sqrt().mean(1) * one.shape[1] ** 0.5,
        "residual_norm": (variance.sum(1) / (weights @ _hat(one).square().sum(1)).clamp_min(1e-300)).sqrt(),
        "participation_ratio": _ranks(one, weights),
    }
    if z.ndim == 3 and len(z) > 1:
        made["view_auc"] = weights @ found_again(z)
    return {name: tuple(torch.quantile(many, many.new_tensor([0.025, 0.975])).tolist()) for name, many in made.items()}


def many_images(participation_ratio: float, images: int, width: int) -> float:
    """The participation ratio that very many images would have: so many add 1/N to its inverse.

    At most the width, and the number of images: of fewer than carry z nothing more can be said.
    """
    return 1 / max(1 / participation_ratio - 1 / images, 1 / min(width, images)) if participation_ratio > 0 else 0.0


def _variances(z: Tensor, weights: Tensor) -> Tensor:
    """[R, d] of unit vectors of images that count by weights [R, N], which sum to 1.

    The variance of N images drawn with replacement is on average 1 − 1/N times that of the N images: it is divided out.
    """
    x = _hat(z)
    return (weights @ x.square() - (weights @ x).square()).clamp_min(0) * (len(x) / max(len(x) - 1, 1))


def _ranks(z: Tensor, weights: Tensor) -> Tensor:
    """[R]: (tr C)²/‖C‖² of the weighted covariance C, by inner products alone.

    Drawing some images twice raises the inverse of the participation ratio by 1/N on average: that is taken off again.
    """
    x = _hat(z)
    x = x - x.mean(0)
    products = x @ x.T
    to_mean = weights @ products  # of each image and the resample's mean
    square = (weights * to_mean).sum(1)  # of that mean
    trace = weights @ products.diagonal() - square
    whole = ((weights @ products.square()) * weights).sum(1) - 2 * (weights * to_mean.square()).sum(1) + square**2
    inverse = whole / trace.square().clamp_min(1e-300) - 1 / len(z)
    return torch.where(trace > 1e-15, 1 / inverse.clamp_min(1 / len(z)), 0.0)
