"""What if η is a linear map of the batch's z? Ridge-optimal maps and shrinkage estimate E_T[F]; IsoLoss does not.

All is centred: means of the batch are taken out, and put back. Covariances are those of the batch, of all processes.
"""

import torch
from torch import Tensor

from ..networks import raised_root
from ..traits import solver


@solver(
    per_image=(),
    measurable=False,
    then="c·H*",
    eta="c·H*·F(T′(x)), H* = Σ_b (Σ_t + ridge·v·I)⁻¹, v the mean variance of a channel",
    forwards="0",
    lag="0",
    views="",
)
def ridge_optimal(state, F_t, batch, *, c: float = 1.0, ridge: float = 0.01):
    """η is c·H*·z of the other view. H* is the linear map that best predicts one view's z from another view's.

    H* = Σ_b Σ_t⁻¹ with the covariance between two views for Σ_b, and that of one for Σ_t; ridge: in units of the mean
    variance of a channel. Source: paper §5.1 hopes that h is E[η | z]; its linear case, as BYOL's optimal predictor
    (Grill et al. 2020, §5).
    """
    z = F_t(batch.others)
    partner = z.roll(1, 0) if len(z) > 1 else F_t(batch.draw(1))
    x, y = _centred(z, batch), _centred(partner, batch)
    between = (_covariance(y, x, batch) + _covariance(x, y, batch)) / 2
    h = _solve(_covariance(x, x, batch), between, ridge)  # H*, transposed
    return _mean(z, batch) + c * x @ h, state


@solver(
    per_image=(),
    measurable=False,
    then="shrunk to the batch's mean",
    averaged="n views",
    eta="μ + Σ_b (Σ_b + Σ_w/n)⁻¹ (z̄ − μ)",
    forwards="n / 2",
    views="",
)
def posterior(state, F_t, batch, *, n: int = 2, ridge: float = 0.01):
    """The posterior mean of E_T[F(T(x))], given n views and that images are Gaussian around the batch's mean.

    Directions in which views differ as much as images do shrink to the mean. Σ_w is the covariance within images, Σ_b
    that of their means less Σ_w/n. ridge: in units of the mean variance of a channel. Source: Efron & Morris 1972, for
    James & Stein's estimator of several means.
    Raises ValueError for n < 2.
    """
    if n < 2:
        raise ValueError(f"n = {n}: within an image needs 2 views or more")
    z = F_t(batch.draw(n))
    means = z.mean(0, keepdim=True)
    inside = _covariance(z - means, z - means, batch) * n / (n - 1)
    centred = _centred(means, batch)
    total = _covariance(centred, centred, batch)
    shrunk = centred @ (torch.eye(z.shape[-1], dtype=z.dtype, device=z.device) - _solve(total, inside / n, ridge))
    eta = (_mean(means, batch) + shrunk)[0]
    return eta.expand(len(batch.trained), *eta.shape), state


@solver(
    per_image=(),
    only_others=True,
    measurable=False,
    then="with W of its own",
    eta="F(T′(x)) + F(T(x)) − W·F(T(x))",
    forwards="0",
    memory="4 * d * d",
    lag="0",
    views="",
)
def isoloss(state, F_t, batch, *, rho: float = 0.3, epsilon: float = 0.1):
    """The target whose squared error moves z by W·z − z′, whatever the eigenvalues of W: they are no learning rates.

    W is DirectPred's predictor, the root of a moving average C of E[z zᵀ], see `networks.Direct`. With
    `--similarity mse` and without h this is the Euclidean IsoLoss; under the cosine its direction is used. The trained
    view's own z is needed, so the loss is symmetric. state: correlation [d, d]. Source: Halvagal et al. 2023, IsoLoss,
    as in their code (fmi-basel/implicit-var-reg, isoloss_func_l2); ρ and ε: Tian et al. 2021.
    Raises ValueError where the other view is not trained as well.
    """
    if len(batch.trained) != 2 or batch.partners != batch.trained[::-1]:
        raise ValueError("the other view of a trained one is not trained; allowed is --symmetry sym")
    z = F_t(batch.others)
    own = z.flip(0)
    now = _covariance(z, z, batch)
    c = now if not state else state["correlation"].lerp(now, 1 - rho)
    return z + own - own @ raised_root(c, epsilon), {"correlation": c}


def _mean(z: Tensor, batch) -> Tensor:
    """[n, 1, d] means over the images of all processes, of z [n, B, d]."""
    return batch.gather(z.transpose(0, 1)).mean(0)[:, None]


def _centred(z: Tensor, batch) -> Tensor:
    return z - _mean(z, batch)


def _covariance(x: Tensor, y: Tensor, batch) -> Tensor:
    """[d, d] E[x yᵀ] over views and images of all processes, of x and y [n, B, d]."""
    x, y = (batch.gather(part.transpose(0, 1)).flatten(0, 1) for part in (x, y))
    return x.mT @ y / len(x)


def _solve(covariance: Tensor, right: Tensor, ridge: float) -> Tensor:
    """(covariance + ridge·mean variance·I)⁻¹ right, by Cholesky. Its success is not asked for: a GPU would wait."""
    d = len(covariance)
    regular = covariance + ridge * covariance.trace() / d * torch.eye(
        d, dtype=covariance.dtype, device=covariance.device
    )
    return torch.cholesky_solve(right, torch.linalg.cholesky_ex(regular).L)
