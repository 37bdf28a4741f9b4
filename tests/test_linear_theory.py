"""Linear theory against explicit loops, against integration, and against SGD through `alternate`."""

import math
import time
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import spearmanr
from torch import nn

from emsiam import linear_theory as theory
from emsiam.alternate import alternate
from emsiam.data.batches import Batch
from emsiam.eta import momentum_encoder, moving_average, other_view
from emsiam.eta.through_h import mixed
from emsiam.objective import loss, squared_error
from emsiam.optim import SGD

pytestmark = pytest.mark.mathematics
D, d = 4, 3  # channels of a view, and of z


def covariance(size, seed):
    x = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return x @ x.T / (2 * size)


S_B, S_W = covariance(D, 1), covariance(D, 2)  # they do not commute
START = np.random.default_rng(3).normal(size=(d, D))


def test_the_two_covariances_do_not_commute():
    assert np.abs(S_B @ S_W - S_W @ S_B).max() > 0.1


class Linear(nn.Module):
    """F and h as matrices."""

    def __init__(self, W, W_p=None):
        super().__init__()
        self.F = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=torch.float64)
        self.F.weight.data = torch.tensor(W)
        self.h = nn.Identity()
        if W_p is not None:
            self.h = nn.Linear(len(W_p), len(W_p), bias=False, dtype=torch.float64)
            self.h.weight.data = torch.tensor(W_p)

    def forward(self, views, trained):
        z = torch.stack([self.F(x) for x in views])
        return z, torch.stack([self.h(z[v]) for v in trained])


def exact_batches(steps, S_b, S_w, *, apart=1):
    """The same images at each step, in views whose second moments are Σ_b and Σ_w exactly.

    apart: of so many steps the views are uncorrelated; after them the same come again, which matters to a memory.
    """
    blocks, size = 1 + 2 * apart, len(S_b)
    x = np.random.default_rng(4).normal(size=(blocks * size + 8, blocks * size))
    x = np.linalg.qr(x)[0].reshape(len(x), blocks, size).transpose(1, 0, 2) * len(x) ** 0.5  # second moments are 1
    image, noise = x[0] @ scipy.linalg.sqrtm(S_b), x[1:] @ scipy.linalg.sqrtm(S_w)
    ids = torch.arange(len(image))
    for step in range(steps):
        views = torch.tensor(image + noise[step % apart * 2 :][:2])
        yield Batch.of(step, ids, views, draw=lambda n: torch.empty(0), num_images=len(ids))


def trained(solve, batches, W, *, steps, lr, wd, W_p=None, k=1):
    """Weights of F, and of h, after each step of the loop."""
    net = Linear(W, W_p)
    sgd = SGD(net, lr=lr, momentum=0.0, wd=wd, steps=steps, schedule="constant")
    for _ in alternate(net, solve, partial(loss, similarity=squared_error), sgd, batches, k=k):
        yield net.F.weight.detach().numpy().copy(), None if W_p is None else net.h.weight.detach().numpy().copy()


@pytest.mark.parametrize("k", [1, 5, 20])
def test_k_steps_through_the_loop_are_powers_of_the_map(k):
    steps, lr, wd = 20, 0.3, 0.1
    alpha, lam = theory.in_half_squares(lr, wd, d)
    A = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=alpha, k=k), wd=lam)
    expected = START
    for step, (W, _) in enumerate(
        trained(other_view, exact_batches(steps, S_B, S_W), START, steps=steps, lr=lr, wd=wd, k=k)
    ):
        if (step + 1) % k == 0:
            expected = expected @ A
            assert pytest.approx(expected, rel=1e-8, abs=1e-10) == W
    assert step == steps - 1
    assert np.linalg.norm(expected) < 0.9 * np.linalg.norm(START)


def test_the_factor_of_two_over_d_matters():
    """The loop's lr and wd are not those of the theory: without `in_half_squares` it does not agree."""
    *_, (W, _) = trained(other_view, exact_batches(5, S_B, S_W), START, steps=5, lr=0.3, wd=0.1)
    A = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=0.3, k=1), wd=0.1)
    assert np.abs(START @ np.linalg.matrix_power(A, 5) - W).max() > 0.01


def test_the_map_of_k_steps_is_an_explicit_loop_and_tends_to_the_solution():
    lr, lam, one = 0.2, 0.1, np.eye(D)
    S_l = S_B + S_W + lam * one
    V = START
    for _ in range(7):
        V = V - lr * (V @ S_l - START @ S_B)
    A = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=lr, k=7), wd=lam)
    assert pytest.approx(V, abs=1e-13) == START @ A
    R, M = S_B @ np.linalg.inv(S_l), np.linalg.matrix_power(one - lr * S_l, 7)
    assert pytest.approx(R + (one - R) @ M, abs=1e-13) == A
    assert np.abs(R + M @ (one - R) - A).max() > 1e-3  # the other order is wrong

    full = theory.alternation_map(S_B, S_W, wd=lam)
    assert pytest.approx(R, abs=1e-13) == full
    many = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=lr, k=5000), wd=lam)
    assert pytest.approx(full, abs=1e-10) == many


def test_a_solved_theta_step_is_least_squares():
    batch = next(exact_batches(1, S_B, S_W))
    x, y = (v.numpy() for v in batch.views)  # η of x is F of y
    W = np.linalg.lstsq(np.concatenate([x, y]), np.concatenate([y, x]) @ START.T)[0].T
    assert pytest.approx(W, abs=1e-10) == START @ theory.alternation_map(S_B, S_W)


def test_flows_are_limits_of_small_steps():
    lam, span = 0.1, 3.0
    flow = theory.alternation_map(S_B, S_W, partial(theory.flowed, time=span), wd=lam)
    errors = []
    for k in (1000, 2000):
        A = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=span / k, k=k), wd=lam)
        errors.append(np.abs(A - flow).max())
    assert errors[0] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)  # first order in lr
    # k = 1 and small steps: W′ = −W(Σ_w + wd), whatever Σ_b is
    one_step = theory.alternation_map(S_B, S_W, partial(theory.stepped, lr=1e-5, k=1), wd=lam)
    expected = scipy.linalg.expm(-span * (S_W + lam * np.eye(D)))
    assert pytest.approx(expected, abs=1e-4) == np.linalg.matrix_power(one_step, 300_000)


@pytest.mark.parametrize(
    "step", [theory.solved, partial(theory.stepped, lr=0.3, k=4), partial(theory.flowed, time=2.0)]
)
def test_modes_shrink_by_a_number(step):
    A, modes = (f(S_B, S_W, step, wd=0.05) for f in (theory.alternation_map, theory.modes))
    assert np.sort(np.linalg.eigvals(A).real)[::-1] == pytest.approx(modes.factor, abs=1e-12)
    amplitudes = [modes.amplitudes(START @ np.linalg.matrix_power(A, n)) for n in range(9)]
    assert np.array(amplitudes) == pytest.approx(amplitudes[0] * modes.after(np.arange(9)), rel=1e-9)
    assert modes.factor ** modes.until(0.1) == pytest.approx(np.full(D, 0.1))


def test_what_shrinks_together_depends_on_k():
    """The modes of k = 1 are those of Σ_w, the modes of a solved θ-step those of Σ_b Σ_t⁻¹."""
    first = theory.modes(S_B, S_W, partial(theory.stepped, lr=0.1, k=1))
    assert np.sort(1 - first.factor) / 0.1 == pytest.approx(np.linalg.eigvalsh(S_W))
    full = theory.modes(S_B, S_W)
    assert full.factor == pytest.approx(scipy.linalg.eigh(S_B, S_B + S_W)[0][::-1])
    assert (
        np.abs(np.sort(first.factor) - np.sort(1 - 0.1 * (1 - full.factor) * np.linalg.eigvalsh(S_B + S_W))).max()
        > 0.01
    )


def test_commuting_modes_have_the_scalar_factor():
    b, w, lam, lr, k = np.array([3.0, 1.0, 0.5, 0.1]), np.array([1.0, 1.0, 0.2, 2.0]), 0.1, 0.2, 6
    s, axes = b + w + lam, np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    step = partial(theory.stepped, lr=lr, k=k)
    rho = b / s
    factor = theory.mode_factor(b, w, step, wd=lam)
    assert factor == pytest.approx(rho + (1 - rho) * (1 - lr * s) ** k, rel=1e-12)
    modes = theory.modes(axes * b @ axes.T, axes * w @ axes.T, step, wd=lam)
    assert modes.factor == pytest.approx(np.sort(factor)[::-1], rel=1e-10)


def test_steps_to_collapse_are_flat_in_k_and_then_grow_with_it():
    b, w, lr = 1.0, 0.5, 0.01
    k = np.array([1, 5, 66, 600, 6000])
    half_life = k * np.log(0.5) / np.log(theory.mode_factor(b, w, partial(theory.stepped, lr=lr, k=k)))
    flat, solved = np.log(2) / (lr * w), np.log(2) / np.log(1.5) * k
    assert half_life[:2] == pytest.approx([flat, flat], rel=0.06)
    assert half_life[2] == pytest.approx(1.4 * flat, rel=0.02)  # k = 1/(lr·s)
    assert half_life[3:] == pytest.approx(solved[3:], rel=0.01)


def test_what_is_refused():
    with pytest.raises(ValueError, match="below 2"):
        theory.stepped(np.array([1.0, 30.0]), lr=0.1, k=3)
    with pytest.raises(ValueError, match="without variance"):
        theory.modes(np.diag([1.0, 0.0]), np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="two or more views"):
        theory.covariances(np.zeros((1, 5, 3)))


def test_a_direction_without_variance_stays():
    for step in (partial(theory.stepped, lr=0.5, k=3), partial(theory.flowed, time=3.0)):
        assert theory.mode_factor(0.0, 0.0, step) == 1
        assert theory.mode_factor(0.0, 1e-9, step) == pytest.approx(1)


@pytest.mark.parametrize("m", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("encoder", [False, True], ids=["bank", "encoder"])
def test_a_bank_and_a_momentum_encoder_through_the_loop_are_the_lagged_map(m, encoder):
    steps, lr, wd = 25, 0.4, 0.1
    alpha, lam = theory.in_half_squares(lr, wd, d)
    A = theory.lagged_map(S_B, S_W, lr=alpha, lag=m / (1 - m), wd=lam)
    both = np.concatenate([START, START], 1)  # a first visit takes z as it is
    solve = partial(momentum_encoder, tau=m, tau_schedule="constant") if encoder else partial(moving_average, m=m)
    batches = exact_batches(steps, S_B, S_W, apart=1 if encoder else steps)
    for W, _ in trained(solve, batches, START, steps=steps, lr=lr, wd=wd):
        both = both @ A
        assert pytest.approx(both[:, :D], rel=1e-8, abs=1e-10) == W


def test_the_rates_of_a_lagging_target():
    rng = np.random.default_rng(0)
    b, w, lag = rng.uniform(0.1, 2, 200), rng.uniform(0.1, 2, 200), 10 ** rng.uniform(-1, 3, 200)
    lr, wd = 0.05, 0.01
    rates = theory.lagged_rates(b, w, lr=lr, lag=lag, wd=wd)
    for i in range(200):
        r, rho = lr * (b[i] + w[i] + wd), b[i] / (b[i] + w[i] + wd)
        exact = np.linalg.eigvals([[-r, r * rho], [1 / lag[i], -1 / lag[i]]])
        assert sorted([rates.slow[i], rates.fast[i]]) == pytest.approx(sorted(-exact), rel=1e-8)
    assert (rates.slow > 0).all()
    # slow steps: the discrete map has the same rate, to first order in it
    slow = np.linalg.eigvals(theory.lagged_map(np.eye(1), np.eye(1), lr=1e-3, lag=2000)).real.max()
    assert -np.log(slow) == pytest.approx(theory.lagged_rates(1, 1, lr=1e-3, lag=2000).slow, rel=2e-3)


def test_how_good_the_approximate_rate_is():
    """1/2 < approximate/exact ≤ 1, and within 17.2 % where ρ ≥ ½."""
    rho, x = np.meshgrid(np.linspace(0, 0.999, 300), np.logspace(-3, 3, 301))
    rates = theory.lagged_rates(rho, 1 - rho, lr=0.01, lag=x / 0.01)
    excess = rates.slow / rates.approximate
    assert excess.min() >= 1
    assert excess[:, 0].max() == pytest.approx(2)  # ρ = 0, r·lag = 1
    assert excess[rho >= 0.5].max() == pytest.approx(1.1716, abs=1e-3)
    assert theory.lagged_rates(0.5, 0.5, lr=0.01, lag=0.0).slow == pytest.approx(0.005)


def test_a_held_theta_outlives_a_bank_of_the_same_mean_lag():
    """Twice, where ρ is near 1 and the θ-step is nearly solved: collapse is no function of the mean lag alone."""
    rho, lr, k = 0.98, 0.05, 2001
    held = -np.log(theory.mode_factor(rho, 1 - rho, partial(theory.stepped, lr=lr, k=k))) / k
    bank = theory.lagged_rates(rho, 1 - rho, lr=lr, lag=(k - 1) / 2).slow
    assert bank / held == pytest.approx(2, rel=0.05)
    held = -np.log(theory.mode_factor(rho, 1 - rho, partial(theory.stepped, lr=lr, k=5))) / 5
    assert theory.lagged_rates(rho, 1 - rho, lr=lr, lag=2).slow / held == pytest.approx(1, rel=0.01)


PREDICTOR = 0.6 * np.eye(d) + 0.1 * np.random.default_rng(5).normal(size=(d, d))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_gradients_with_h_through_the_loop(share):
    """`mixed`, step by step, is the force of `predictor_flow` in Euler steps."""
    steps, lr, wd = 8, 0.3, 0.02
    alpha, lam = theory.in_half_squares(lr, wd, d)
    W, W_p = START, PREDICTOR
    loop = trained(
        partial(mixed, part=share), exact_batches(steps, S_B, S_W), START, steps=steps, lr=lr, wd=wd, W_p=PREDICTOR
    )
    for seen, seen_p in loop:
        G = -W_p @ W @ (S_B + S_W) + ((1 - share) * np.eye(d) + share * W_p) @ W @ S_B
        W, W_p = W + alpha * (W_p.T @ G - lam * W), W_p + alpha * (G @ W.T - lam * W_p)
        assert pytest.approx(W, rel=1e-8, abs=1e-10) == seen
        assert pytest.approx(W_p, rel=1e-8, abs=1e-10) == seen_p


def test_the_loop_tends_to_the_flow():
    errors = []
    for steps in (400, 800):
        lr, wd = 6 / steps, 0.02
        alpha, lam = theory.in_half_squares(lr, wd, d)
        batches = exact_batches(steps, S_B, S_W)
        *_, (W, W_p) = trained(partial(mixed, part=0.3), batches, START, steps=steps, lr=lr, wd=wd, W_p=PREDICTOR)
        path = theory.predictor_flow(START, PREDICTOR, S_B, S_W, [steps * alpha], wd=lam, part=0.3)
        errors.append(max(np.abs(path.W[0] - W).max(), np.abs(path.W_p[0] - W_p).max()))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("share", "rate", "lag"), [(0, 1, 0), (0, 3, 0), (0.5, 0.5, 0), (0.2, 2, 4)])
def test_weight_decay_balances_the_layers(share, rate, lag):
    """W Wᵀ − W_pᵀ W_p/rate falls as e^{−2·wd·time} (Tian et al. 2021, Theorem 1), for any data and any target."""
    times, wd = np.linspace(0, 10, 6), 0.07
    W, W_p = theory.predictor_flow(START, PREDICTOR, S_B, S_W, times, wd=wd, part=share, rate=rate, lag=lag)
    constant = W @ W.swapaxes(1, 2) - W_p.swapaxes(1, 2) @ W_p / rate
    assert constant == pytest.approx(np.exp(-2 * wd * times)[:, None, None] * constant[0], abs=1e-7)
    assert np.abs(constant[0]).max() > 0.1
    assert np.abs(W[-1] - W[0]).max() > 0.1


def settled(b, w, wd, share, rate=1.0, lag=0.0, h=0.8, f=0.8, time=8_000.0):
    """h and f of one mode after a long time."""
    one = np.eye(1)
    path = theory.predictor_flow(f * one, h * one, b * one, w * one, [time], wd=wd, part=share, rate=rate, lag=lag)
    return path.W_p.item(), path.W.item()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize(("rate", "lag"), [(1.0, 0.0), (4.0, 0.0), (1.0, 30.0)])
def test_a_mode_dies_above_the_critical_weight_decay(share, rate, lag):
    b, w = 1.2, 0.5
    critical = float(theory.fixed_points(b, w, wd=0.0, part=share).critical)
    assert critical == pytest.approx((1 - share) ** 2 * b**2 / (4 * (b + w - share * b)))
    start = 1 - share  # between the saddle and h without weight decay
    for h, f in ((start, start), (0.3, 3.0), (3.0, 0.3)):
        assert np.abs(settled(b, w, 1.05 * critical, share, rate, lag, h, f)).max() < 1e-3
    wd = 0.9 * critical
    h, f = settled(b, w, wd, share, rate, lag, start, start)
    points = theory.fixed_points(b, w, wd=wd, part=share)
    assert h == pytest.approx(points.stable, rel=1e-5)
    assert f**2 == pytest.approx(points.stable**2 / rate, rel=1e-5)


def test_only_collapse_is_left_with_the_target_h_of_F():
    """The η-step of the loss that SimSiam trains: every mode dies, without weight decay as t^{−½}."""
    assert theory.fixed_points(2.0, 0.1, wd=0.0, part=1.0).critical == 0
    early, late = (settled(1.0, 1.0, 0.0, 1.0, time=time) for time in (100.0, 400.0))
    assert np.divide(early, late) == pytest.approx([2, 2], rel=0.02)


def test_the_start_decides_below_the_critical_weight_decay():
    b, w, wd = 1.0, 1.0, 0.06
    points = theory.fixed_points(b, w, wd=wd)
    assert settled(b, w, wd, 0.0, h=0.98 * points.saddle, f=0.98 * points.saddle)[0] == pytest.approx(0, abs=1e-6)
    h = settled(b, w, wd, 0.0, h=1.02 * points.saddle, f=1.02 * points.saddle)[0]
    assert h == pytest.approx(points.stable, rel=1e-6)
    assert settled(b, w, wd, 0.0, h=-0.5, f=0.5)[0] == pytest.approx(0, abs=1e-6)  # a wrong sign is fatal
    assert settled(b, w, wd, 0.0, h=-0.5, f=0.8)[0] == pytest.approx(
        points.stable, rel=1e-6
    )  # unless F is larger than h


def test_the_critical_weight_decay_of_tian():
    for sigma in (0.3, 1.0, 2.0):
        assert theory.fixed_points(1.0, sigma**2, wd=0.0).critical == pytest.approx(1 / (4 * (1 + sigma**2)))


def force(b, w, wd, share, rate, lag, wd_h=None):
    """The flow of (h, f), and of the lagging f where there is a lag."""

    def of(x):
        h, f, g = x if lag else (*x, x[1])
        G = ((1 - share) + share * h) * g * b - h * f * (b + w)
        flow = [rate * G * f - (wd if wd_h is None else wd_h) * h, h * G - wd * f]
        return np.array([*flow, (f - g) / lag] if lag else flow)

    return of


def test_a_lagging_encoder_in_the_flow_is_three_equations():
    of = force(1.0, 0.5, 0.02, 0.3, 2.0, 4.0)
    found = scipy.integrate.solve_ivp(lambda _, x: of(x), (0, 6), [0.9, 0.4, 0.4], rtol=1e-9, atol=1e-12)
    h, f = settled(1.0, 0.5, 0.02, 0.3, rate=2.0, lag=4.0, h=0.9, f=0.4, time=6.0)
    assert (h, f) == pytest.approx(found.y[:2, -1], rel=1e-6)


def test_stability_of_fixed_points_in_numbers():
    """Jacobians by differences: neither rate nor lag decides which is stable."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        b, w, share, wd_share = *rng.uniform(0.2, 2, 2), rng.uniform(0, 0.9), rng.uniform(0.05, 0.95)
        rate, lag = 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-1, 2)
        wd = wd_share * float(theory.fixed_points(b, w, wd=0.0, part=share).critical)
        points = theory.fixed_points(b, w, wd=wd, part=share)
        for h, sign in ((points.stable, -1), (points.saddle, 1)):
            for behind in (0, lag):
                x = np.array([h, h / rate**0.5, h / rate**0.5][: 3 if behind else 2])
                of = force(b, w, wd, share, rate, behind)
                assert np.abs(of(x)).max() < 1e-10
                step = 1e-5 * np.eye(len(x))
                slopes = np.array([(of(x + e) - of(x - e)) / 2e-5 for e in step]).T
                values = np.linalg.eigvals(slopes).real
                assert np.sign(values.max()) == sign
                if not behind and sign == -1:
                    assert values.max() == pytest.approx(-points.returns, rel=1e-5, abs=1e-8)


def test_the_weight_decay_of_h_hardly_matters_unless_there_is_none():
    b, w, wd = 1.0, 0.5, 0.1  # critical 1/6
    for wd_h in (0.01, 0.1, 1.0):
        of = force(b, w, wd, 0.0, 1.0, 0.0, wd_h)
        h = float(theory.fixed_points(b, w, wd=wd).stable)
        assert np.abs(of(np.array([h, h * (wd_h / wd) ** 0.5]))).max() < 1e-12
    of = force(b, w, wd, 0.0, 1.0, 0.0, 0.0)
    found = scipy.integrate.solve_ivp(lambda _, x: of(x), (0, 3000), [0.5, 0.5], rtol=1e-8, atol=1e-12)
    assert abs(found.y[1, -1]) < 1e-6
    assert found.y[0, -1] > 0.5  # h stays, F goes


def test_a_phase_diagram_is_the_bound_and_takes_little_time():
    b, w = np.array([1.5, 1.0, 0.5]), np.array([0.5, 1.0, 1.0])
    wd, share = np.linspace(0.002, 0.2, 50)[:, None], np.linspace(0, 0.98, 50)[None]
    start = theory.fixed_points(b, w, wd=0.0, part=share[..., None]).stable  # above every saddle, in (1, 50, 3)
    began = time.perf_counter()
    diagram = theory.phase_diagram(b, w, wd=wd, part=share, lr=0.5, steps=2000, h=start, f=start)
    assert time.perf_counter() - began < 10
    assert diagram.p.shape == (50, 50)
    points = theory.fixed_points(b, w, wd=wd[..., None], part=share[..., None])
    alive = ~np.isnan(points.stable)
    expected = np.where(alive, (b + w) * points.stable**4, 0).sum(-1) / ((b + w) * start**4).sum(-1)
    sure = (np.abs(wd[..., None] / points.critical - 1) > 0.05).all(-1) & ((wd > 0.01) | (share < 0.5))
    assert sure.mean() > 0.8
    assert 0.1 < alive.any(-1)[sure].mean() < 0.9
    assert diagram.p[sure] == pytest.approx(expected[sure], abs=5e-3)


def test_gradient_steps_of_the_diagram_are_those_of_the_loop():
    b, w = np.array([1.5, 1.0, 0.5]), np.array([0.5, 1.0, 1.0])
    steps, lr, wd = 12, 0.3, 0.02
    alpha, lam = theory.in_half_squares(lr, wd, d)
    batches = exact_batches(steps, np.diag(b), np.diag(w))
    loop = trained(partial(mixed, part=0.3), batches, np.eye(d), steps=steps, lr=lr, wd=wd, W_p=0.7 * np.eye(d))
    *_, (W, W_p) = loop
    share = theory.phase_diagram(b, w, wd=lam, part=0.3, lr=alpha, steps=steps, h=0.7)
    size, size_p = ((b + w) * np.diag(W) ** 2).sum(), ((b + w) * np.diag(W_p @ W) ** 2).sum()
    assert tuple(share) == pytest.approx((size / (b + w).sum(), size_p / (0.49 * (b + w)).sum()), rel=1e-8)


def test_at_the_best_predictor_nothing_shrinks():
    times = np.linspace(0, 20, 5)
    W = theory.held_flow(START, S_B, S_W, times)
    assert pytest.approx(np.broadcast_to(START @ START.T, (5, d, d)), rel=1e-6, abs=1e-7) == W @ W.swapaxes(1, 2)
    assert np.abs(W[-1] - W[0]).max() > 0.1  # it moves all the same
    S, S_t = START @ S_B @ START.T, START @ (S_B + S_W) @ START.T
    assert theory.best_predictor(START, S_B, S_W) == pytest.approx(S @ np.linalg.inv(S_t))
    for c, sign in ((0.5, 1), (0.95, 1), (1.05, -1), (-0.3, -1)):
        W = theory.held_flow(START, S_B, S_W, np.array([0.0, 0.5]), c=c)
        assert np.sign(np.diff((W**2).sum((1, 2)))) == sign, c
    towards = theory.held_flow(START, S_B, S_W, np.array([0.0, 0.5]), identity=0.2)
    assert (towards[1] ** 2).sum() < (towards[0] ** 2).sum()


@pytest.mark.parametrize(("c", "identity"), [(0.5, 0.0), (1.0, 0.0), (1.3, 0.0), (-0.2, 0.0), (1.0, 0.3)])
def test_modes_with_a_held_predictor_grow_exponentially(c, identity):
    b, w, times = np.array([2.0, 1.0, 0.5]), np.array([1.0, 1.0, 2.0]), np.linspace(0, 3, 4)
    W = theory.held_flow(np.eye(3), np.diag(b), np.diag(w), times, c=c, identity=identity, wd=0.02)
    growth = theory.held_growth(b, w, c=c, identity=identity, wd=0.02)
    assert np.diagonal(W, axis1=1, axis2=2) == pytest.approx(np.exp(growth * times[:, None]), rel=1e-6)


def test_a_single_mode_may_fall_while_the_trace_rises():
    """At c = ½, an eigenvalue of W Wᵀ, where W Σ_b Wᵀ and W Σ_t Wᵀ do not commute."""
    S_b, S_w = np.array([[4.5, 0.06], [0.06, 0.04]]), np.array([[9.5, -0.9], [-0.9, 0.14]])
    W = theory.held_flow(np.eye(2), S_b, S_w, np.array([0.0, 0.1]), c=0.5)
    values = np.linalg.eigvalsh(W @ W.swapaxes(1, 2))
    assert values[1].sum() > values[0].sum()
    assert (values[1] < values[0]).any()


@pytest.fixture(scope="module")
def digits_in_8(digits):
    """views(seed, n) [n, 1437, 8] of digits in the 8 leading directions of all views, centred; and Σ_b, Σ_w there."""
    ids = torch.arange(len(digits.images))

    def pixels(seed, n):
        draw = digits.sample(ids, n, torch.Generator().manual_seed(seed))
        return digits.ask(ids, draw, n, torch.float64)().flatten(2)

    many = pixels(0, 32)
    mean = many.mean((0, 1))
    axes = np.linalg.eigh(sum(theory.covariances((many - mean).numpy())))[1][:, :-9:-1]
    axes = torch.tensor(axes.copy())
    return lambda seed, n: (pixels(seed, n) - mean) @ axes, theory.covariances(((many - mean) @ axes).numpy())


def digits_batches(views, whiten, steps):
    for step in range(steps):
        x = views(step + 1, 2) @ whiten
        yield Batch.of(step, torch.arange(x.shape[1]), x, draw=lambda n: torch.empty(0), num_images=x.shape[1])


def half_lives(amplitudes):
    """The first time at which a line through successive amplitudes [T, modes] crosses a half of the first."""
    below = (amplitudes < 0.5 * amplitudes[0]).argmax(0)
    assert (below > 0).all()
    before, after = (np.take_along_axis(amplitudes, i[None], 0)[0] for i in (below - 1, below))
    return below - (0.5 * amplitudes[0] - after) / (before - after)


@pytest.mark.parametrize(("white", "k", "lr", "alternations"), [(True, 5, 0.05, 30), (False, 1, 0.01, 90)])
def test_modes_of_digits_die_one_by_one(digits_in_8, white, k, lr, alternations):
    """Real views, one draw as η: half-lives within 20 % of the closed form, in the order of the theory.

    That order is ρ's where k steps solve for θ, or where Σ_t = 1; for k = 1 it is that of Σ_w.
    """
    views, (S_b, S_w) = digits_in_8
    whiten = scipy.linalg.inv(scipy.linalg.sqrtm(S_b + S_w)) if white else np.eye(8)
    S_b, S_w = whiten @ S_b @ whiten, whiten @ S_w @ whiten
    modes = theory.modes(S_b, S_w, partial(theory.stepped, lr=lr, k=k))
    W = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    steps = k * alternations
    batches = digits_batches(views, torch.tensor(whiten), steps)
    path = [W, *(V for V, _ in trained(other_view, batches, W, steps=steps, lr=lr * 8 / 2, wd=0.0, k=k))][::k]
    measured = half_lives(np.array([modes.amplitudes(V) for V in path]))
    assert measured == pytest.approx(modes.until(0.5), rel=0.2)
    assert spearmanr(measured, modes.factor).statistic >= 0.9
    if white:
        rho = scipy.linalg.eigh(S_b, S_b + S_w)[0][::-1]
        assert spearmanr(measured, rho).statistic >= 0.9


def test_an_alternation_of_many_steps_leaves_the_share_rho_of_digits(digits_in_8):
    """As it is read: the θ-step is solved, by 160 steps of SGD, and the half-life is that of ρ."""
    views, (S_b, S_w) = digits_in_8
    modes = theory.modes(S_b, S_w)
    W = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    *_, (V, _) = trained(
        other_view, digits_batches(views, torch.eye(8).double(), 160), W, steps=160, lr=0.15, wd=0.0, k=160
    )
    left = modes.amplitudes(V) / modes.amplitudes(W)
    assert np.log(0.5) / np.log(left) == pytest.approx(modes.until(0.5), rel=0.2)
    assert spearmanr(left, modes.factor).statistic >= 0.9


def test_covariances_are_unbiased():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(4000, 2)) @ np.diag([2.0, 1.0])
    found = [theory.covariances(image + rng.normal(size=(2, 4000, 2)) @ np.diag([1.0, 3.0])) for _ in range(20)]
    assert np.mean([c.within for c in found], 0) == pytest.approx(np.diag([1.0, 9.0]), abs=0.15)
    assert np.mean([c.between for c in found], 0) == pytest.approx(np.diag([4.0, 1.0]), abs=0.25)


def test_a_mode_in_which_views_agree_lives_for_ever():
    """Flips alone leave what is symmetric as it is: Σ_w is singular there."""
    half_lives = theory.modes(np.eye(3), np.diag([0.0, 0.5, 1.0])).until()
    assert half_lives.max() == math.inf
    np.testing.assert_allclose(np.sort(half_lives)[:2], [1, math.log(2) / math.log(1.5)])
    assert (theory.Modes(np.array([1.0, 1 - 1e-16, -1.1]), np.eye(3)).until() == math.inf).all()


def test_odd_input_has_an_answer_or_a_line(monkeypatch):
    small = np.array([1e-17, 1e-12, 0.0])
    assert theory.stepped(small, lr=0.1, k=10) == pytest.approx([1, 1, 1], rel=1e-9)
    assert theory.stepped(np.array([15.0]), lr=0.1, k=10) == pytest.approx([(1 - 0.5**10) / 15])  # 1 − lr·s is below 0
    A = np.random.default_rng(0).normal(size=(4, 3))
    S = A @ A.T  # of rank 3: in the fourth direction nothing varies, and nothing shrinks
    found = theory.modes(S / 2, S / 2, partial(theory.stepped, lr=0.05, k=5))
    assert found.factor[0] == pytest.approx(1)
    assert max(found.factor[1:]) < 0.999
    still = theory.modes(S / 2, S / 2, partial(theory.stepped, lr=0.05, k=0))
    assert still.factor.tolist() == [1] * 4
    W, one = np.array([[1.0, 0.5, 0.0], [0.2, 1.0, 0.3]]), np.eye(3)
    assert np.allclose(theory.predictor_flow(W, np.eye(2), one, one, [0.0]).W, W)
    for times in ([-1.0], [], 3.0, [2.0, 1.0], [1.0, 1.0], [np.nan]):
        with pytest.raises(ValueError, match="allowed are numbers"):
            theory.predictor_flow(W, np.eye(2), one, one, times)
    with pytest.raises(np.linalg.LinAlgError, match="does not vary in all"):
        theory.best_predictor(np.ones((2, 3)), one, one)
    with pytest.raises(ValueError, match="lag = -1"):
        theory.lagged_map(one, one, lr=0.1, lag=-1)
    with pytest.raises(ValueError, match="share = 2"):
        still.until(2.0)
    assert np.isnan(theory.fixed_points(0.0, 1.0, wd=0.0).stable)
    monkeypatch.setattr(theory, "MOST", 500)
    M = np.random.default_rng(2).normal(size=(3, 3))
    with pytest.raises(RuntimeError, match=r"cannot be followed beyond time"):  # z comes near a line
        theory.held_flow(np.random.default_rng(1).normal(size=(2, 3)), M @ M.T, one, [60.0], c=0.5)
    assert theory.predictor_flow(W, np.eye(2), one, one, [500.0], wd=0.1).W.shape == (1, 2, 3)  # long, and followed
