"""Has the representation collapsed? z in, numbers out. z: [N, d], any real dtype, computed in float64.

Most look at ẑ = z/‖z‖, so lengths do not matter. N vectors of width d; r = min(N, d). "Seen" are the ranges of seeds
0-4 on `digits`, d = 128, N = 512: healthy (python -m emsiam.train), then collapsed (with --no-stop-grad, z_std_ratio
0.11-0.46); other data has others.
Degenerate input (a constant, zeros, one image) gives the value that a docstring states, never NaN; what is not finite,
or lacks the views that are needed, raises ValueError. `measure` gives all of them by name.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..objective import unit


def _finite(z: Tensor) -> Tensor:
    if not z.isfinite().all():
        raise ValueError("the representation holds values that are not finite")
    if not z.numel():
        raise ValueError(f"the representation is empty: {list(z.shape)}")
    return z.double()


def _hat(z: Tensor) -> Tensor:
    """ẑ, in float64, of vectors of any length but 0."""
    x = _finite(z)
    return unit(x / x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny))


def _views(z: Tensor) -> Tensor:
    if z.ndim != 3 or len(z) < 2:
        raise ValueError(f"two or more views [n, N, d] are needed, not {list(z.shape)}")
    return z


def _noise(z: Tensor) -> float:
    """Variance that rounding alone gives ẑ: below it there is nothing to share out."""
    return (16 * _eps(z)) ** 2


def _eps(z: Tensor) -> float:
    """Relative precision of what was given."""
    return torch.finfo(z.dtype if z.is_floating_point() else torch.float64).eps


def _where(condition: Tensor, numerator: Tensor, denominator: Tensor, otherwise: float) -> Tensor:
    """numerator/denominator where there is something to divide by."""
    return torch.where(condition, numerator / denominator.clamp_min(1e-300), otherwise)


def _perplexity(weights: Tensor) -> Tensor:
    """exp of the entropy of weights ≥ 0 [r], normalised: how many of them count. All zero: 1."""
    p = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return torch.exp(torch.special.entr(p).sum())


def z_std(z: Tensor) -> Tensor:
    """Standard deviation of each channel of ẑ over the images, averaged over channels (Fig. 2 of the paper).

    1/√d for vectors that are spread evenly, 0 for a constant. Blind to rank: two antipodal points whose channels are of
    one size have 1/√d too; where channels differ in size it is lower, see `residual_norm`. Seen: 0.088; 0.010-0.040,
    and 0.080-0.085 with `ema_eta`, which has lost all but two directions. Cost N·d.
    """
    return _hat(z).std(0, correction=0).mean()


def z_std_ratio(z: Tensor) -> Tensor:
    """z_std·√d: 1 healthy, 0 collapsed, whatever d. Seen: 0.99-1.00; 0.11-0.46. Cost N·d."""
    return z_std(z) * math.sqrt(z.shape[-1])


def pre_bn_std(x: Tensor) -> Tensor:
    """Standard deviation of each channel of x [N, d], averaged: for what enters the projector's last BN.

    In units of x; 0 for a constant. That BN scales any spread up to 1, so a shrinking one shows here and not in z.
    Compare it with its own start, not between networks. Seen: 0.34-0.36; 0.39-0.73, for there the BN's own shift
    collapses z, not its input. Cost N·d.
    """
    return _finite(x).std(0, correction=0).mean()


def centre_norm(z: Tensor) -> Tensor:
    """m_o = ‖o‖/√(E‖ẑ‖²) with o = E ẑ, the share of ẑ that is the same for all images (Zhang et al. 2022).

    0 healthy, 1 collapsed; m_o² + m_r² = 1. Zeros give 0. Seen: 0.06-0.11; 0.89-0.99. Cost N·d.
    """
    x = _hat(z)
    length = x.square().sum(-1).mean().sqrt()
    return _where(length > 0, x.mean(0).norm(), length, 0.0)


def residual_norm(z: Tensor) -> Tensor:
    """m_r = √(E‖ẑ − o‖² / E‖ẑ‖²), o = E ẑ (Zhang et al. 2022). 1 healthy, 0 collapsed. Zeros give 0.

    Seen: 0.99-1.00; 0.11-0.46. Cost N·d.
    """
    x = _hat(z)
    length = x.square().sum(-1).mean().sqrt()
    return _where(length > 0, (x - x.mean(0)).square().sum(-1).mean().sqrt(), length, 0.0)


def effective_rank(z: Tensor) -> Tensor:
    """RankMe (Garrido et al. 2023): exp of the entropy of ẑ's singular values, p = σ/Σσ. Uncentred; 1 to r.

    Not a detector of collapse by itself: an untrained network may score higher than a trained one. All z = 0 give 1.
    Seen: 57-59; 3.0-5.5. Cost N·d·r.
    """
    return _perplexity(singular_values(_hat(z)))


def singular_values(x: Tensor, *, by_gram: bool | None = None) -> Tensor:
    """σ of x [N, d], fp64. by_gram, the default on a GPU: roots of eigenvalues, noise below 1e-8 of the largest."""
    if not (x.is_cuda if by_gram is None else by_gram):
        return torch.linalg.svdvals(x)
    return torch.linalg.eigvalsh(x @ x.T if len(x) < x.shape[1] else x.T @ x).clamp_min(0).sqrt().flip(0)


def _gram(z: Tensor) -> Tensor:
    """XXᵀ/N or XᵀX/N of centred ẑ, whichever is smaller, [r, r]: both have the eigenvalues of its covariance."""
    x = _hat(z)
    x = x - x.mean(0)
    return (x @ x.T if len(x) < x.shape[1] else x.T @ x) / len(x)


def spectrum(z: Tensor) -> Tensor:
    """Eigenvalues λ₁ ≥ λ₂ ≥ … ≥ 0 of the covariance of ẑ, [r]; their sum is m_r². Cost N·d·r.

    Its logarithm is the spectrum of Jing et al. (2022): a dimensional collapse shows as a cliff.
    """
    return torch.linalg.eigvalsh(_gram(z)).flip(0).clamp_min(0)


def participation_ratio(z: Tensor) -> Tensor:
    """(Σλ)²/Σλ² of `spectrum`: how many directions carry the variance (Halvagal et al. 2023).

    A constant gives 0. Computed as (tr C)²/‖C‖², which needs no eigenvalues. Seen: 7.7-9.0; 1.1-1.7. Cost N·d·r.
    """
    gram = _gram(z)
    trace = gram.trace()
    return _where(trace > _noise(z), trace.square(), gram.square().sum(), 0.0)


def nesum(z: Tensor) -> Tensor:
    """NESum Σλ/λ₁ of `spectrum` (He & Ozay 2022): total variance in units of the largest direction's; 1 to r.

    A constant gives 0. Seen: 3.7-4.6; 1.05-1.37. Cost N·d·r.
    """
    values = spectrum(z)
    return _where(values.sum() > _noise(z), values.sum(), values[0], 0.0)


def alpha_req(z: Tensor, first: int = 0, last: int | None = None) -> Tensor:
    """α: minus the slope of log λᵢ against log i, by least squares (α-ReQ, Agrawal et al. 2022).

    Over positions first … last − 1 of `spectrum`, those of rounding alone left out. 1 is where the paper sees the best
    features; large in a dimensional collapse, 0 for a flat spectrum. Fewer than two directions give infinity.
    Seen: 2.65-2.71; 3.2-3.5. Cost N·d·r.
    """
    values = spectrum(z)
    rounding = values[0].clamp_min(_noise(z) / len(values) / 1e-13) * 1e-13  # of the eigenvalues, and of z
    values = values[: int((values > rounding).sum())][first:last]
    if len(values) < 2:
        return values.new_tensor(math.inf)
    x = torch.arange(first + 1, first + 1 + len(values), dtype=values.dtype, device=values.device).log()
    x = x - x.mean()
    return -(x @ values.log()) / x.square().sum()


def singular_value_auc(z: Tensor) -> Tensor:
    """Area under the cumulated singular values of centred ẑ, (1/d) Σᵢ (Σ_{j≤i} σⱼ/Σσ) (Li, Efros & Pathak 2022).

    ½ + 1/(2d) for an even spectrum, to 1 in a collapse; directions that N < d vectors cannot have count as empty.
    A constant gives 1. Seen: 0.82; 0.93-0.94. Cost N·d·r.
    """
    sigma = spectrum(z).sqrt()
    missing = z.shape[1] - len(sigma)
    area = (sigma.cumsum(0).sum() + missing * sigma.sum()) / z.shape[1]
    return _where(sigma.square().sum() > _noise(z), area, sigma.sum(), 1.0)


def alignment(z: Tensor) -> Tensor:
    """E‖ẑ₁ − ẑ₂‖² over pairs of views of an image, z [n, N, d], n ≥ 2 (Wang & Isola 2020).

    0: views coincide, as they do in a collapse too; 2: unrelated. Seen: 0.53-0.56; 0.04-0.05.
    Cost n·N·d, by E‖ẑ₁ − ẑ₂‖² = 2·(variance over views).
    """
    return 2 * _hat(_views(z)).var(0).sum(-1).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """log E e^{−t‖ẑᵢ − ẑⱼ‖²} over pairs of different images (Wang & Isola 2020).

    About −2t for vectors spread evenly in many dimensions, 0 for a constant and for one image.
    Seen: −2.9; −0.20 to −0.03. Cost N²·d.
    """
    if len(z) < 2:
        return _finite(z).new_tensor(0.0)
    return torch.logsumexp(-t * torch.pdist(_hat(z)).square(), 0) - math.log(len(z) * (len(z) - 1) / 2)


def lidar(z: Tensor, delta: float = 1e-4) -> Tensor:
    """LiDAR (Thilak et al. 2024): effective rank of Σ_w^{-½} Σ_b Σ_w^{-½}, images as classes, n views as samples.

    z [n, N, d], n ≥ 2, as it is (not ẑ); Σ_b is the covariance of the images' means, Σ_w the mean of the images'
    covariances plus δI. Up to min(N − 1, d): directions in which images differ by more than their views do; 1 in a
    complete collapse. Not a detector by itself: what little is left may still tell images apart.
    Seen: 38-39; 12-70. Cost (n·N + d)·d² + N³, of d > n·N channels d·(n·N)².
    """
    n, count, d = _views(z).shape
    x = _finite(z)
    if n * count < d:  # both covariances differ from 0 and δI among the views' directions alone: coordinates of these
        x, d = torch.linalg.qr((x - x[0, 0]).flatten(0, 1).T, mode="r").R.T.unflatten(0, (n, count)), n * count
    means = x.mean(0)
    inside = (x - means).flatten(0, 1)
    within = inside.T @ inside / (n * count) + delta * torch.eye(d, dtype=x.dtype, device=x.device)
    between = (means - means.mean(0)) / math.sqrt(count)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(within), between.T, upper=False)
    small = whitened.T @ whitened if count < d else whitened @ whitened.T
    return _perplexity(torch.linalg.eigvalsh(small).clamp_min(0))


def between_share(z: Tensor) -> Tensor:
    """ρ_b = tr Σ_b / (tr Σ_b + tr Σ_w) of ẑ, from n views of the same images, z: [n, N, d], n ≥ 2.

    Σ_w is the variance over an image's views, Σ_b that of the images' expectations, both unbiased (one-way
    analysis of variance). 1: views of an image coincide; 0: a view says nothing about which image it shows.
    A constant and one image give 0; the estimate is cut at 0. Seen: 0.72-0.74; 0-0.90. Cost n·N·d.
    """
    n, x = len(z), _hat(_views(z))
    if x.shape[1] < 2:
        return x.new_tensor(0.0)
    within = x.var(0).sum(-1).mean()
    between = (x.mean(0).var(0).sum() - within / n).clamp_min(0)
    total = between + within
    return _where(total > _noise(z), between, total, 0.0)


def found_again(z: Tensor) -> Tensor:
    """[N] of each image: the chance that its other view is nearer to it than another image is. z: [n, N, d], n ≥ 2.

    The area under the ROC curve by the cosine of ẑ less its mean: over all pairs of views, in both directions. Equal
    cosines count half, so a constant gives ½, and so does one image. Cost n²·N²·d; memory N².
    """
    x = _hat(_views(z))
    n, count, _ = x.shape
    x = x - x.mean((0, 1))
    nearer = x.new_zeros(count)
    if x.square().sum(-1).mean() > _noise(z):
        x = unit(x)
        for a, b in itertools.permutations(range(n), 2):
            cosines = x[a] @ x[b].T
            ahead = cosines.diagonal()[:, None] - cosines
            nearer += torch.where(ahead.abs() > 1e-12, ahead.sign(), 0.0).sum(1)
    return 0.5 + nearer / (2 * n * (n - 1) * max(count - 1, 1))


def view_auc(z: Tensor) -> Tensor:
    """Mean of `found_again`: whether representations tell images apart, whatever their rank. ½ is chance.

    Untrained weights have more than ½, and so do pixels: that is what it is compared with. Cost n²·N²·d.
    """
    return found_again(z).mean()


def rank_ratio(p: Tensor, z: Tensor) -> Tensor:
    """Effective rank of p over that of z, both [N, d] (Zhuo et al. 2023): below 1 where h filters directions out.

    1 without h, and where both are constant. Seen: 0.23-0.24; 0.37-0.49. Cost N·d·r.
    """
    return effective_rank(p) / effective_rank(z)


def linearised(z: Tensor, p: Tensor) -> Tensor:
    """W [d, d], the best linear account p ≈ Wz of h: least squares of p [N, d] on z, both centred.

    h's own matrix where it is linear and z spans all directions; 0 on directions that z lacks. Cost N·d·r + d²·r.
    """
    x, y = _finite(z) - z.double().mean(0), _finite(p) - p.double().mean(0)
    return (torch.linalg.pinv(x, rtol=max(1e-10, max(x.shape) * _eps(z))) @ y).T


def predictor_spectrum(w: Tensor) -> Tensor:
    """Eigenvalues of the symmetric part of W [d, d], descending (Tian et al. 2021, luckmatters' logs).

    0 where h lets a direction die. Of an h with hidden layers, linearised, the largest is set by directions that z
    hardly has: it says little. Seen: the largest 2.6-19; 8-42. Cost d³.
    """
    w = w.double()
    return torch.linalg.eigvalsh((w + w.T) / 2).flip(0)


def asymmetry(w: Tensor) -> Tensor:
    """‖W − Wᵀ‖/‖W‖ (Tian et al. 2021): 0 for a symmetric h, as theory wants it; √2 for a random one. W = 0 gives 0.

    Seen, of h linearised: 1.40-1.41 in both: no trace of symmetry. Cost d².
    """
    w = w.double()
    return _where(w.norm() > 0, (w - w.T).norm(), w.norm(), 0.0)


def eigenspace_alignment(w: Tensor, z: Tensor, top: int | None = None) -> Tensor:
    """How well eigenvectors u of F = E[zzᵀ] are eigenvectors of W: mean cosine of u and Wu (Tian et al. 2021).

    w [d, d], z [N, d]; over the `top` largest eigenvalues of F, all above rounding by default. |cos| is 1 where they
    commute, about √(2/(π·d)) for unrelated matrices. z = 0 gives 0. Seen: 0.13-0.14; 0.03-0.05 (0.07 is unrelated).
    Cost d³ + N·d².
    """
    x, w = _finite(z), w.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = vectors[:, (values > values[-1] * 1e-10) & (values > 0)].flip(1)[:, :top]
    if not kept.shape[1]:
        return x.new_tensor(0.0)
    image = w @ kept
    lengths = image.norm(dim=0)
    return _where(lengths > 0, (kept * image).sum(0).abs(), lengths, 0.0).mean()


def measure(z: Tensor, p: Tensor | None = None, pre_bn: Tensor | None = None) -> dict[str, float]:
    """All numbers of this module, by the names of their functions.

    z [N, d], or n views [n, N, d], of which the first is looked at where one is enough; what needs views is then there
    too. p [N, d]: predictions from that first view. pre_bn [N, d]: what entered the projector's last BN.
    Raises ValueError where shapes do not fit, or values are not finite.
    """
    one = z[0] if z.ndim == 3 else z
    if one.ndim != 2 or (p is not None and p.shape != one.shape):
        shapes = [list(x.shape) for x in (z, p) if x is not None]
        raise ValueError(f"z must be [N, d] or [n, N, d] and p [N, d], not {shapes}")
    numbers = {f.__name__: f(one) for f in ALONE}
    if z.ndim == 3 and len(z) > 1:
        numbers |= {f.__name__: f(z) for f in PAIRED}
    if pre_bn is not None:
        numbers["pre_bn_std"] = pre_bn_std(pre_bn)
    if p is not None:
        w = linearised(one, p)
        numbers |= {"rank_ratio": rank_ratio(p, one), "asymmetry": asymmetry(w)}
        numbers["eigenspace_alignment"] = eigenspace_alignment(w, one)
        numbers["predictor_top_eigenvalue"] = predictor_spectrum(w)[0]
    return {name: value.item() for name, value in numbers.items()}


ALONE: tuple[Callable[..., Tensor], ...] = (
    *(z_std, z_std_ratio, centre_norm, residual_norm, effective_rank, participation_ratio, nesum),
    *(alpha_req, singular_value_auc, uniformity),
)
PAIRED: tuple[Callable[..., Tensor], ...] = (alignment, lidar, between_share, view_auc)
