"""Does the alternation do what the hypothesis says? Quantities of the two half-steps, (7) and (8).

Everything takes representations of a fixed probe set: z [N, d] of one view of each image or [n, N, d] of n views,
p = h(z), η [N, d]. `training.observe` makes them from a network and its solver. All is computed in float64 on the
vectors as they are given; where the objective is the cosine, give ẑ, p̂, η̂ (`objective.unit`): ‖ẑ − η̂‖² = 2 + 2D
(footnote 5). A NaN in them gives NaN or raises ValueError, as do too few views or images.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..objective import unit

FOLDS = 4
NOISE = 256  # channels of it, in `Clock`


def prediction_quality(p: Tensor, z: Tensor) -> Tensor:
    """q: how much of the agreement between views of one image survives h.

    p, z: [2, N, d], predictions and representations of two views of the same images. With c(a, b) the mean cosine
    of a and b over the same images minus that over different images, q = c(p₁, z₂) / c(z₁, z₂), averaged over both
    directions. 1 where there is no h; near 0 for a random fixed h; 0 where the views of an image agree no more
    than those of two images.
    """
    p, z = unit(p.double()), unit(z.double())

    def agreement(a: Tensor, b: Tensor) -> Tensor:
        n = len(a)
        same = (a * b).sum()
        return same / n - (a.sum(0) @ b.sum(0) - same) / (n * (n - 1))

    predicted = agreement(p[0], z[1]) + agreement(p[1], z[0])
    given = agreement(z[0], z[1]) + agreement(z[1], z[0])
    return torch.where(given <= 1e-9, 0.0, predicted / given)  # NaN stays NaN


def distance(a: Tensor, b: Tensor) -> Tensor:
    """E‖a − b‖², the integrand of L(θ, η) summed over channels: [..., d] and [..., d] to a scalar."""
    return (a.double() - b.double()).square().sum(-1).mean()


class HalfSteps(NamedTuple):
    """L at three points of one alternation, and what each half gained. A descent has both gains ≥ 0."""

    before: float  # L(θᵗ, ηᵗ⁻¹)
    solved: float  # L(θᵗ, ηᵗ)
    stepped: float  # L(θᵗ⁺¹, ηᵗ)

    @property
    def gain_eta(self) -> float:
        return self.before - self.solved

    @property
    def gain_theta(self) -> float:
        return self.solved - self.stepped


def half_steps(f: Tensor, f_next: Tensor, eta_before: Tensor, eta: Tensor) -> HalfSteps:
    """The ledger L(θᵗ, ηᵗ⁻¹) → L(θᵗ, ηᵗ) → L(θᵗ⁺¹, ηᵗ) on the same views.

    f, f_next [..., N, d]: F (or h∘F: another objective, of which (9) is not the minimiser) of the views under θᵗ and
    θᵗ⁺¹; eta_before, eta: targets of the same shape, or [N, d] for all views.
    """
    return HalfSteps(
        *(distance(x, target).item() for x, target in ((f, eta_before), (f, eta), (f_next, eta))),
    )


class Variance(NamedTuple):
    """How z varies between images and within, over views: one-way analysis of variance."""

    between: float  # tr Σ_b, of E_T[z | x] over images; unbiased, so it may fall below 0 by chance
    within: float  # tr Σ_w, of z over the views of an image
    shares: Tensor  # [r] generalised eigenvalues of (Σ_b, Σ_b + Σ_w), descending: ρ of each direction


def variance_table(z: Tensor) -> Variance:
    """The variance of z [n, N, d] between images and within, from n ≥ 2 views of N ≥ 2 images.

    A direction's share ρ = b/(b + w) is what one alternation, solved fully and without h, leaves of it (linear theory,
    without weight decay). Directions that hold less than 1e-10 of the largest variance are left out. Cost n·N·d² + d³.
    """
    n, count, _ = z.shape
    if n < 2 or count < 2 or not z.isfinite().all():
        raise ValueError(f"two or more finite views of two or more images are needed, not {list(z.shape)}")
    x = z.double()
    means = x.mean(0)
    inside = (x - means).flatten(0, 1)
    within = inside.T @ inside / (count * (n - 1))
    centred = means - means.mean(0)
    between = centred.T @ centred / (count - 1) - within / n
    values, vectors = torch.linalg.eigh(between + within)
    kept = values > values[-1].clamp_min(1e-300) * 1e-10
    whiten = vectors[:, kept] / values[kept].sqrt()
    shares = torch.linalg.eigvalsh(whiten.T @ between @ whiten).flip(0)
    return Variance(between.trace().item(), within.trace().item(), shares)


class Gap(NamedTuple):
    """How far η is from E_T[F_θ(T(x))] under today's θ, in units of tr Σ_w: 1 for a single fresh view."""

    total: float  # E‖η − μ‖², unbiased
    lag: float  # E‖η − η′‖², η′ the same views under today's θ
    sampling: float  # E‖η′ − μ‖², unbiased: 1/(effective number of views)
    bn: float  # E‖μ_eval − μ‖²: batch statistics against running ones

    @property
    def cross(self) -> float:
        """What lag and sampling share: total − lag − sampling."""
        return self.total - self.lag - self.sampling


def eta_gap(eta: Tensor, z: Tensor, same_views: Tensor, z_eval: Tensor | None = None) -> Gap:
    """Split the error of η [N, d] as a solution of (8).

    z [n, N, d]: n ≥ 2 fresh views under today's θ, batch statistics; same_views [N, d]: what the solver makes, under
    today's θ, of the views that η comes from; z_eval [n, N, d]: the fresh views in eval mode. tr Σ_w = 0 gives zeros.
    Without z_eval `bn` is NaN. Raises ValueError for fewer than two fresh views.
    """
    n, x = len(z), z.double()
    if n < 2:
        raise ValueError("two or more fresh views are needed")
    mean, within = x.mean(0), x.var(0).sum(-1).mean()
    noise = within / n  # of the mean itself

    def share(value: Tensor) -> float:
        return torch.where(within == 0, 0.0, value / within).item()  # NaN stays NaN

    return Gap(
        share(distance(eta, mean) - noise),
        share(distance(eta, same_views)),
        share(distance(same_views, mean) - noise),
        math.nan if z_eval is None else share(distance(z_eval.double().mean(0), mean)),
    )


class Expectation(NamedTuple):
    """R = E‖c·x − η‖² / E‖z − η‖² for several x that should stand for E_T[z′ | z]: the smaller, the better.

    Also 1 − cos in the place of the squared distance. 1: no better than z itself. Each is scored on images that c and
    H* were not fitted on, and the sampling variance of η is subtracted.
    """

    h: float  # c·h(z)
    linear: float  # H*z + b, ridge-optimal
    scalar: float  # c·z
    permuted: float  # c·h(z) of another image
    h_cosine: float
    linear_cosine: float
    scalar_cosine: float  # 1, unless c < 0
    permuted_cosine: float


def predictor_as_expectation(z: Tensor, p: Tensor, targets: Tensor) -> Expectation:
    """Is h(z) the expectation of z over T, as §5.1 hopes?

    z, p [v, N, d]: views of each image, and h of them; targets [n, N, d]: n ≥ 2 other views, whose mean is η. c is
    fitted because the cosine leaves h's scale free. Four-fold over images, the ridge's strength by leave-one-out: with
    few images for d, H* is worse than the best there is. Source: §5.1 of the paper; H* = Σ_b Σ_t⁻¹ is what the linear
    theory wants h to be. Cost v·N·d².
    Raises ValueError for fewer than 2 targets or FOLDS images.
    """
    from sklearn.linear_model import RidgeCV

    v, count, d = z.shape
    if len(targets) < 2 or count < FOLDS:
        raise ValueError(f"2 or more targets of {FOLDS} or more images are needed, not {list(targets.shape)}")
    z, p = z.double().flatten(0, 1), p.double().flatten(0, 1)
    noise = targets.double().var(0).sum(-1).mean() / len(targets)
    eta = targets.double().mean(0).repeat(v, 1)
    fold = (torch.arange(count, device=z.device) % FOLDS).repeat(v)
    of_fold = fold == torch.arange(FOLDS, device=z.device)[:, None]

    def scaled(x: Tensor) -> Tensor:
        """c·x, with c by least squares on the other folds."""
        products, squares = ((of_fold * y.sum(-1)).sum(1) for y in (x * eta, x.square()))
        c = (products.sum() - products) / (squares.sum() - squares).clamp_min(1e-300)
        return c[fold][:, None] * x

    guesses = {"h": scaled(p), "scalar": scaled(z), "permuted": scaled(p.view(v, count, d).roll(1, 1).flatten(0, 1))}
    guesses["linear"] = torch.empty_like(z)
    for score in of_fold:
        ridge = RidgeCV(alphas=np.logspace(-4, 4, 9)).fit(z[~score].cpu(), eta[~score].cpu())
        guesses["linear"][score] = torch.as_tensor(ridge.predict(z[score].cpu())).to(z).view(-1, d)
    base = (distance(z, eta) - noise).clamp_min(1e-300)
    far = (1 - (unit(z) * unit(eta)).sum(-1)).mean().clamp_min(1e-300)
    squared = {name: ((distance(x, eta) - noise) / base).item() for name, x in guesses.items()}
    angles = {name: (1 - (unit(x) * unit(eta)).sum(-1)).mean() / far for name, x in guesses.items()}
    return Expectation(**squared, **{f"{name}_cosine": value.item() for name, value in angles.items()})


class Response(NamedTuple):
    """What a solver's η is made of, measured: how old and how many views."""

    lag: float  # mean age in steps of the θ behind η
    views: float  # effective number: variance of one view over that of η


class Clock:
    """F_θᵗ of a network that maps a view to the step that θ is of, beside noise; `theta` is that step."""

    parameters = ("step",)

    def __init__(self, step: int, rng: torch.Generator):
        self.theta, self.rng = {"step": torch.tensor(float(step), dtype=torch.float64)}, rng

    def __call__(self, views: Tensor) -> Tensor:
        return self.under(self.theta, views)

    def under(self, weights: dict[str, Tensor], views: Tensor) -> Tensor:
        noise = torch.randn(*views.shape[:2], NOISE, generator=self.rng, dtype=torch.float64)
        return torch.cat([weights["step"].expand_as(noise[..., :1]), noise], -1)

    def h(self, z: Tensor) -> Tensor:
        """The identity, so that what passes h counts as what does not."""
        return z


def response(solve: Callable, *, steps_per_epoch: int, k: int = 1, epochs: int = 100, images: int = 8) -> Response:
    """Feed a solver representations that say which step they are of, beside noise of variance 1, and read its η.

    solve: as in `emsiam.eta`, hyper-parameters bound; exact where η is linear in z. `images` per step; the last epoch
    of `epochs` is read, so a bank needs epochs ≫ 1/(1 − m). Of a solver without a state the first is read where all
    epochs are alike. θ is held for k steps.
    """
    from ..data.batches import Batch

    rng = torch.Generator().manual_seed(0)
    state: dict[str, Any] = {}
    lags, variances = [], []
    for epoch in range(epochs):
        order = torch.randperm(images * steps_per_epoch, generator=rng).view(steps_per_epoch, images)
        for i, ids in enumerate(order):
            step = epoch * steps_per_epoch + i

            def draw(n: int) -> Tensor:
                return torch.zeros(n, images, 1)

            batch = Batch.of(step, ids, draw(2), draw=draw, num_images=order.numel())
            eta, state = solve(state, Clock(step // k * k, rng), batch)
            alike = not state and steps_per_epoch % k == 0
            if epoch == epochs - 1 or alike:
                lags.append(step - eta[..., 0].mean())
                variances.append(eta[..., 1:].square().mean())
        if alike:
            break
    return Response(torch.stack(lags).mean().item(), 1 / torch.stack(variances).mean().item())
