"""What should the alternation do where F and h are matrices? Closed forms and flows, to hold a simulation against.

A view is x = x_b + x_w: x_b ~ N(0, Σ_b) belongs to the image, x_w ~ N(0, Σ_w) is new in each view. F = W [d, D],
h = W_p [d, d]; Σ_t = Σ_b + Σ_w. Expected steps depend on the data by Σ_b and Σ_w alone, so they need not be Gaussian.
Where Σ_b and Σ_w commute, a mode is one of their common eigenvectors, with variance b between images and w within,
t = b + w, and numbers f and h in place of W and W_p.

Units: the loss is ½E‖p − η‖², summed over channels, and a step is W ← W − lr·(gradient + wd·W). `in_half_squares`
turns the lr and wd of SGD on `objective.squared_error`, a mean over the d channels, into these. One unit of time of a
flow is one step at lr 1. Two things are called λ elsewhere: the weight decay of Σ_λ = Σ_t + wd·I is wd here, and the
share of h∘F in a mixed target is part.
Derivations are ours where no source is given.
"""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.integrate import solve_ivp

Array = np.ndarray
Number = float | Array  # a number for each mode, or for each point of a diagram: all that is given broadcasts
MOST, LEAST = 20_000, 1e-3  # looks at a velocity in which a flow comes on by less than that share of its time


def in_half_squares(lr: float, wd: float, d: int) -> tuple[float, float]:
    """lr and wd of SGD on a mean over d channels of squares, as lr and wd of ½‖·‖²: 2·lr/d and wd·d/2."""
    return 2 * lr / d, wd * d / 2


class Covariances(NamedTuple):
    """Second moments about 0, [D, D] each."""

    between: Array  # Σ_b
    within: Array  # Σ_w


def covariances(views: Array) -> Covariances:
    """Σ_b and Σ_w of views [n, N, D], n ≥ 2 of each of N images. Unbiased (but for 1/N where the views were centred by
    their own mean), so small eigenvalues of Σ_b may be negative.

    Centre the views first, unless F is to see their mean. Raises ValueError for fewer than two views.
    """
    n, images, _ = views.shape
    if n < 2:
        raise ValueError("two or more views of each image are needed")
    means = views.mean(0)
    inside = (views - means).reshape(n * images, -1)
    within = inside.T @ inside / (images * (n - 1))
    return Covariances(means.T @ means / images - within / n, within)


# How far a θ-step goes where the variance is s: q(s), with W ← W − (W Σ_λ − W Σ_b) q(Σ_λ) for the whole step.
ThetaStep = Callable[[Array], Array]


def solved(s: Array) -> Array:
    """The θ-step of eq. (7) solved fully: q(s) = 1/s. Raises ValueError where s is 0: the solution is not unique."""
    if np.any(s <= 1e-12 * np.max(s)):
        raise ValueError("a direction without variance needs weight decay, or a θ-step of finitely many steps")
    return 1 / s


def stepped(s: Array, *, lr: Number, k: Number) -> Array:
    """k gradient steps: q(s) = (1 − (1 − lr·s)ᵏ)/s. Raises ValueError where lr·s ≥ 2, as such steps diverge."""
    if np.any(np.asarray(lr) * s >= 2):
        raise ValueError("lr times the largest variance must be below 2")
    lr, left = np.broadcast_arrays(np.asarray(lr, float), 1 - np.asarray(lr) * s)
    with np.errstate(divide="ignore", invalid="ignore"):  # 1 − (1 − lr·s)ᵏ without cancellation, where s is small
        gone = np.where(left > 0, -np.expm1(k * np.log1p(-lr * s)), 1 - left**k)
    return np.where(s == 0, lr * k, gone / np.where(s == 0, 1, s))


def flowed(s: Array, *, time: Number) -> Array:
    """Gradient flow for a time, k·lr in the limit of small lr: q(s) = (1 − e^{−time·s})/s."""
    return np.where(s == 0, time, -np.expm1(-np.asarray(time) * s) / np.where(s == 0, 1, s))


def mode_factor(b: Number, w: Number, step: ThetaStep = solved, *, wd: Number = 0.0) -> Array:
    """What one alternation leaves of a mode: 1 − (w + wd)·q(s), s = b + w + wd.

    With ρ = b/s, the share of a mode's variance that lies between images, that is ρ for a solved θ-step and
    ρ + (1 − ρ)(1 − lr·s)ᵏ for k gradient steps. Raises ValueError as `step` does.
    """
    return 1 - (np.asarray(w) + wd) * step(np.asarray(b) + w + wd)


def alternation_map(S_b: Array, S_w: Array, step: ThetaStep = solved, *, wd: float = 0.0) -> Array:
    """A [D, D], with W ← W A for one whole alternation: η_x = E_T[F(T(x))] = W x_b, or one draw of it, then the θ-step.

    The gradient V Σ_λ − W Σ_b from V = W, k times: V = W (R + (1 − R) M), R = Σ_b Σ_λ⁻¹, M = (1 − lr·Σ_λ)ᵏ. The same is
    A = 1 − (Σ_w + wd) q(Σ_λ). For k = 1 it is 1 − lr·(Σ_w + wd), whatever Σ_b is; for a solved θ-step it is R.
    Raises ValueError as `step` does.
    """
    s, axes = np.linalg.eigh(S_b + S_w + wd * np.eye(len(S_b)))
    return np.eye(len(s)) - (S_w + wd * np.eye(len(s))) @ (axes * step(s) @ axes.T)


class Modes(NamedTuple):
    """What an alternation multiplies by a number: W v of each direction v. The longest-lived first."""

    factor: Array  # [D], below 1 where views of an image differ, or with weight decay
    directions: Array  # [D, D], v in the columns; not orthogonal where Σ_b and Σ_w do not commute

    def amplitudes(self, W: Array) -> Array:
        """‖W v‖ of each mode: W [..., d, D] to [..., D]."""
        return np.linalg.norm(W @ self.directions, axis=-2)

    def after(self, alternations: Number) -> Array:
        """Theory over a simulation: the share of each amplitude that is left, [..., D]. Whole numbers of alternations,
        where a factor is negative: its amplitude changes sign at each.
        """
        return self.factor ** np.asarray(alternations)[..., None]

    def until(self, share: float = 0.5) -> Array:
        """Alternations [D] until `share` of an amplitude is left: half-lives. The largest is the time to collapse.

        Infinity for a mode that does not shrink: one in which all views of an image agree, or that grows. Raises
        ValueError where share is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise ValueError(f"share = {share}; allowed is a number between 0 and 1")
        with np.errstate(divide="ignore"):
            shrinks = np.abs(self.factor) < 1 - 1e-12  # else it is 1 but for rounding, or grows
            return np.where(shrinks, np.log(share) / np.log(np.where(shrinks, np.abs(self.factor), 0.5)), np.inf)


def modes(S_b: Array, S_w: Array, step: ThetaStep = solved, *, wd: float = 0.0) -> Modes:
    """Right eigenvectors of `alternation_map`, 1 − PQ with P = Σ_w + wd and Q = q(Σ_λ): real, from P u = μ Q⁻¹ u.

    They are those of Σ_b Σ_λ⁻¹ for a solved θ-step, and of Σ_w for k = 1: the order in which modes die may differ.
    Raises ValueError as `step` does, LinAlgError where a covariance is not finite.
    """
    one = np.eye(len(S_b))
    s, axes = np.linalg.eigh(S_b + S_w + wd * one)
    q = step(s)
    if not np.any(q):  # no step at all
        return Modes(np.ones(len(s)), axes)
    inverse = axes / q @ axes.T
    mu, u = scipy.linalg.eigh(S_w + wd * one, inverse)
    return Modes(1 - mu, inverse @ u)


def lagged_map(S_b: Array, S_w: Array, *, lr: float, lag: float, wd: float = 0.0) -> Array:
    """[2D, 2D], with [W E] ← [W E] times it for one step towards a target of mean lag `lag` steps, η_x = E x_b.

    E ← m·E + (1 − m)·W, then W ← W − lr·(W Σ_λ − E Σ_b), with m = lag/(1 + lag): a bank whose images are all seen at
    each step, or a momentum encoder. Of a bank with e steps per epoch the lag is e·m/(1 − m). Raises ValueError for a
    negative lag.
    """
    if lag < 0:
        raise ValueError(f"lag = {lag}; allowed is 0 or more")
    one, m = np.eye(len(S_b)), lag / (1 + lag)
    onto_W = np.concatenate([one - lr * (S_b + S_w + wd * one - (1 - m) * S_b), lr * m * S_b])
    return np.concatenate([onto_W, np.concatenate([(1 - m) * one, m * one])], axis=1)


class LaggedRates(NamedTuple):
    """Rates of decay per step, e^{−rate·steps}."""

    slow: Array
    fast: Array  # infinite without lag
    approximate: Array  # (1 − ρ)/(lag + 1/(lr·s)) for the slow one


def lagged_rates(b: Number, w: Number, *, lr: Number, lag: Number, wd: Number = 0.0) -> LaggedRates:
    """The flow of a mode behind its target, a′ = −r(a − ρe), e′ = (a − e)/lag, r = lr·s, s = b + w + wd, ρ = b/s.

    Both rates are real and positive: lag delays collapse and never prevents it. The approximation is never above the
    exact rate and never below half of it (ρ = 0, r·lag = 1). For ρ ≥ ½ the exact rate is at most 1.172 times as large.
    """
    s = np.asarray(b) + w + wd
    dead, x, r = (np.asarray(w) + wd) / s, lr * s * lag, lr * s  # 1 − ρ, r·lag, r
    both = (1 + x) + np.sqrt((1 - x) ** 2 + 4 * x * (1 - dead))
    with np.errstate(divide="ignore"):
        return LaggedRates(2 * r * dead / both, both / (2 * np.asarray(lag)), dead / (lag + 1 / r))


class Path(NamedTuple):
    """Weights at each of T times."""

    W: Array  # [T, d, D]
    W_p: Array  # [T, d, d]


def predictor_flow(
    W: Array,
    W_p: Array,
    S_b: Array,
    S_w: Array,
    times: Array,
    *,
    wd: float = 0.0,
    part: float = 0.0,
    rate: float = 1.0,
    lag: float = 0.0,
) -> Path:
    """SimSiam's flow with a linear h, from W and W_p at time 0, at ascending times [T].

    W_p′ = rate·G Wᵀ − wd·W_p, W′ = W_pᵀ G − wd·W, G = −W_p W Σ_t + ((1 − part) + part·W_p) W_a Σ_b. rate: h's lr as a
    multiple of F's, which does not apply to its weight decay. lag: of a momentum encoder W_a′ = (W − W_a)/lag; 0 is
    W_a = W.
    W Wᵀ − W_pᵀ W_p/rate = e^{−2·wd·time}·constant, for any part and lag.
    Source: Tian et al. 2021 (arXiv 2102.06810), the invariant is Theorem 1 there; X = Σ_b, X′ = Σ_w; part is ours.
    Raises RuntimeError where the solver gives up, ValueError where times do not ascend from 0 or later.
    """
    d, D = W.shape
    S_t, one = S_b + S_w, np.eye(d)

    def velocity(_, state: Array) -> Array:
        W, W_p, W_a = state[: d * D].reshape(d, D), state[d * D : d * (D + d)].reshape(d, d), state[d * (D + d) :]
        behind = W_a.reshape(d, D) if lag else W
        G = -W_p @ W @ S_t + ((1 - part) * one + part * W_p) @ behind @ S_b
        parts = [W_p.T @ G - wd * W, rate * G @ W.T - wd * W_p]
        return np.concatenate([x.ravel() for x in [*parts, *([(W - behind) / lag] if lag else [])]])

    path = _integrate(velocity, np.concatenate([x.ravel() for x in (W, W_p, *((W,) if lag else ()))]), times)
    return Path(path[:, : d * D].reshape(-1, d, D), path[:, d * D : d * (D + d)].reshape(-1, d, d))


def _integrate(velocity: Callable[[float, Array], Array], start: Array, times: Array) -> Array:
    """[T, …] states of a flow at `times` from `start` at time 0."""
    times, looks, before = np.asarray(times, float), count(1), -np.inf
    if times.ndim != 1 or not len(times) or not times[0] >= 0 or not np.all(np.diff(times) > 0):
        raise ValueError(f"times: {times}; allowed are numbers [T] that ascend from 0 or later")
    if times[-1] == 0:
        return start[None]

    def watched(time: float, state: Array) -> Array:
        nonlocal before
        if next(looks) % MOST == 0:
            if time - before < LEAST * times[-1]:
                raise RuntimeError(f"the flow cannot be followed beyond time {time:.3g}: its steps become too small")
            before = time
        return velocity(time, state)

    found = solve_ivp(watched, (0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-9, atol=1e-12)
    if not found.success:
        raise RuntimeError(found.message)
    return found.y.T


class FixedPoints(NamedTuple):
    """Where a mode may end under `predictor_flow`. Collapse, h = f = 0, is always stable with weight decay."""

    stable: Array  # h where a mode stays, f² = h²/rate; NaN where only collapse is left
    saddle: Array  # h from which a balanced mode (f² = h²/rate) collapses, if it starts below
    returns: Array  # rate per unit of time of the slower of the ways back to the stable point, without lag
    critical: Array  # weight decay above which only collapse is left


def fixed_points(b: Number, w: Number, *, wd: Number, part: Number = 0.0) -> FixedPoints:
    """h′ = rate·f²(B − hT) − wd·h, f′ = h f(B − hT) − wd·f, with B = (1 − part)·b and T = t − part·b.

    A fixed point with f ≠ 0 has h(B − hT) = wd, so h = (B ± √(B² − 4·wd·T))/2T, and f² = h²/rate. A mode dies from any
    start when (1 − part)²b² < 4·wd·(t − part·b): f² − h²/rate decays, and on what is left only h = 0 attracts. With
    less weight decay its start decides. The target F, part = 0, tolerates b²/4t; the target h∘F, part = 1, nothing.
    Eigenvalues at a fixed point: −2·wd, of the balance, and −h(2hT − B), which do not depend on rate. A lag changes
    neither the points nor which is stable: two eigenvalues in place of the latter have the product h(2hT − B)/lag and
    the sum h²(part·b − 2t) − 1/lag < 0.
    The 4 belongs to ½‖·‖²: with the wd of SGD on `squared_error` it is 2d. Where h has a weight decay of its own, wd is
    F's, and f² = h²·(wd of h)/(wd·rate): without any on h, F dies at whatever wd it has.
    Source for part = 0, Σ_b = 1, Σ_w = σ²: Tian et al. 2021, their critical weight decay is 1/(4(1 + σ²)).
    """
    B, T = (1 - np.asarray(part)) * b, np.asarray(b) + w - np.asarray(part) * b
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(B**2 - 4 * wd * T)
        high, low = (B + root) / (2 * T), (B - root) / (2 * T)
        high, low = (np.where(high > 0, x, np.nan) for x in (high, low))
        return FixedPoints(high, low, np.minimum(2 * np.asarray(wd), high * root), B**2 / (4 * T))


class Diagram(NamedTuple):
    """What is left of the summed variance over views and images, as a share of that at the start."""

    z: Array
    p: Array


def phase_diagram(
    b: Array, w: Array, *, wd: Number, part: Number, lr: float, steps: int, h: Number = 1.0, f: Number = 1.0
) -> Diagram:
    """Gradient steps on F and h at once, from f and h, for modes [M] at every point of a diagram.

    wd and part: of shapes that broadcast, [50, 1] and [1, 50] for a diagram of 2,500 points; h and f: the same, with an
    axis of modes at the end. The share of each point comes back in these shapes. 2,500 points with 8 modes and 2,000
    steps take a fifth of a second.
    """
    wd, part = (np.asarray(x, float)[..., None] for x in np.broadcast_arrays(wd, part))
    B, T = (1 - part) * b, b + w - part * b
    f, h = (np.array(np.broadcast_to(x, B.shape), float) for x in (f, h))
    z, p = (b + w) * f**2, (b + w) * (h * f) ** 2
    for _ in range(steps):
        force = f * (B - h * T)
        h, f = h + lr * (f * force - wd * h), f + lr * (h * force - wd * f)
    return Diagram(((b + w) * f**2).sum(-1) / z.sum(-1), ((b + w) * (h * f) ** 2).sum(-1) / p.sum(-1))


def best_predictor(W: Array, S_b: Array, S_w: Array) -> Array:
    """H* [d, d], the linear h that is nearest to E[η_x | z]: W Σ_b Wᵀ (W Σ_t Wᵀ)⁻¹. LinAlgError for a W of low rank."""
    of_z = W @ (S_b + S_w) @ W.T
    if np.linalg.matrix_rank(of_z, hermitian=True) < len(W):
        raise np.linalg.LinAlgError("z does not vary in all of its channels: there is more than one best h")
    return scipy.linalg.solve(of_z, W @ S_b @ W.T, assume_a="pos").T


def held_flow(
    W: Array, S_b: Array, S_w: Array, times: Array, *, c: float = 1.0, identity: float = 0.0, wd: float = 0.0
) -> Array:
    """W [T, d, D] where h is set at each moment to (1 − identity)·c·H* + identity, from W at time 0.

    W′ = −hᵀ(h W Σ_t − W Σ_b) − wd·W. With S = W Σ_b Wᵀ, at c·H*: W′Wᵀ = c(1 − c)·(W Σ_t Wᵀ)⁻¹S² − wd·W Wᵀ. So without
    weight decay W Wᵀ stays as it is at c = 1, and its trace rises exactly for 0 < c < 1. For single eigenvalues of
    W Wᵀ that holds where S and W Σ_t Wᵀ commute; where they do not, some may fall as the trace rises.
    times: ascending, in units of a step at lr 1. Raises LinAlgError where W Σ_t Wᵀ is singular, RuntimeError where the
    solver gives up, as where a flow comes near a low rank, ValueError as `predictor_flow`.
    """
    S_t, one = S_b + S_w, np.eye(len(W))

    def velocity(_, state: Array) -> Array:
        V = state.reshape(W.shape)
        h = (1 - identity) * c * best_predictor(V, S_b, S_w) + identity * one
        return (h.T @ (V @ S_b - h @ V @ S_t) - wd * V).ravel()

    return _integrate(velocity, W.ravel(), times).reshape(-1, *W.shape)


def held_growth(b: Number, w: Number, *, c: Number = 1.0, identity: Number = 0.0, wd: Number = 0.0) -> Array:
    """The rate at which f of a mode grows under `held_flow`: h(b − ht) − wd, h = (1 − identity)·c·b/t + identity.

    At c·H* it is c(1 − c)·b²/t − wd; towards the identity, from c = 1, it is −identity·w·h − wd.
    """
    t = np.asarray(b) + w
    h = (1 - np.asarray(identity)) * c * b / t + identity
    return h * (b - h * t) - wd
