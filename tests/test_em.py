"""The EM quantities on models whose answers are known."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch

from emsiam.data import views
from emsiam.diagnostics import em
from emsiam.eta import expectation, moving_average, other_view

pytestmark = pytest.mark.mathematics


def gaussian(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def finite_t(digits):
    """[4, 30, 64]: four views of 30 digits, all that this T can make."""
    draw = views.sample(digits.recipe, 120, digits.shape, torch.Generator().manual_seed(0))
    return views.apply(digits.images[:30].repeat(4, 1, 1, 1), draw).double().view(4, 30, 64)


def test_solved_halves_never_raise_the_objective(finite_t):
    """A finite T enumerated, a linear F, no h, no batch statistics: both halves in closed form."""
    W = gaussian(64, 6) / 8
    flat = finite_t.flatten(0, 1)
    eta = gaussian(30, 6, seed=1)
    ledger = []
    for _ in range(12):
        before, eta_before = finite_t @ W, eta
        eta = before.mean(0)  # the minimiser of (8)
        W = scipy.linalg.lstsq(flat.numpy(), eta.repeat(4, 1).numpy())[0]  # and of (7)
        W = torch.from_numpy(W)
        ledger.append(em.half_steps(before, finite_t @ W, eta_before, eta))
    for steps, following in itertools.pairwise(ledger):
        assert steps.gain_eta > 0
        assert steps.gain_theta > 0
        assert following.before == pytest.approx(steps.stepped, rel=1e-12)  # where one alternation ends the next begins
    assert ledger[-1].stepped < 0.2 * ledger[0].solved  # without h and weight decay it contracts


def test_nor_do_small_gradient_steps(finite_t, plain):
    F = plain(64, predictor=False).F
    sgd = torch.optim.SGD(F.parameters(), lr=0.05)
    eta = gaussian(30, 6, seed=1)
    with torch.no_grad():
        f = torch.stack([F(x) for x in finite_t])
    for _ in range(5):
        eta_before, eta, before = eta, f.mean(0), f
        for _ in range(20):
            sgd.zero_grad()
            em_loss = torch.stack([(F(x) - eta).square().sum(-1).mean() for x in finite_t]).mean()
            em_loss.backward()
            sgd.step()
        with torch.no_grad():
            f = torch.stack([F(x) for x in finite_t])
        steps = em.half_steps(before, f, eta_before, eta)
        assert steps.gain_eta > 0
        assert steps.gain_theta > 0


def test_the_ledger_is_the_objective():
    f, g, a, b = (gaussian(2, 5, 3, seed=i) for i in range(4))
    slow = [
        np.mean([((x[v, i] - y[v, i]) ** 2).sum() for v in range(2) for i in range(5)])
        for x, y in ((f, a), (f, b), (g, b))
    ]
    assert tuple(em.half_steps(f, g, a, b)) == pytest.approx(tuple(map(float, slow)))


B, W = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.0]).double(), torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0]).double()


def model(count, n, seed=0):
    """Image means of variance B, views of variance W: z [n, count, 5], and the means."""
    means = gaussian(count, 5, seed=seed) * B.sqrt()
    return means + gaussian(n, count, 5, seed=seed + 1) * W.sqrt(), means


def test_the_variance_table_recovers_the_variances():
    z, _ = model(40_000, 4)
    rotation = torch.linalg.qr(gaussian(5, 5, seed=7)).Q
    table = em.variance_table(z @ rotation)
    assert table.between == pytest.approx(B.sum().item(), rel=0.03)
    assert table.within == pytest.approx(W.sum().item(), rel=0.03)
    assert table.shares.numpy() == pytest.approx(np.sort(B / (B + W))[::-1], abs=0.03)


def test_the_variance_table_is_unbiased_for_few_images_and_views():
    tables = [em.variance_table(model(6, 2, seed=2 * i)[0]) for i in range(2000)]
    assert np.mean([t.between for t in tables]) == pytest.approx(B.sum().item(), rel=0.05)
    assert np.mean([t.within for t in tables]) == pytest.approx(W.sum().item(), rel=0.05)


def test_directions_without_variance_are_left_out():
    z = torch.cat([gaussian(3, 50, 4), torch.zeros(3, 50, 60)], -1)
    assert len(em.variance_table(z).shares) == 4
    assert len(em.variance_table(gaussian(2, 10, 64)).shares) <= 19  # 20 vectors


def test_one_view_has_gap_one_and_the_mean_of_n_has_one_nth():
    z, means = model(20_000, 6)
    for n in (1, 4):
        eta = (means + gaussian(n, 20_000, 5, seed=9) * W.sqrt()).mean(0)
        gap = em.eta_gap(eta, z, eta)
        assert gap.total == pytest.approx(1 / n, abs=0.03)
        assert gap.sampling == gap.total
        assert gap.lag == gap.cross == 0
        assert math.isnan(gap.bn)


def test_the_gap_splits_into_lag_and_sampling():
    """η of two views under a θ that has since moved all means by δ, independently of the views."""
    z, means = model(20_000, 6)
    noise = (gaussian(2, 20_000, 5, seed=9) * W.sqrt()).mean(0)
    delta = gaussian(1, 5, seed=11)
    gap = em.eta_gap(means + noise + delta, z, means + noise, z_eval=z + 0.5)
    unit = W.sum().item()
    assert gap.lag == pytest.approx(delta.square().sum().item() / unit, rel=0.02)
    assert gap.sampling == pytest.approx(0.5, abs=0.03)
    assert gap.cross == pytest.approx(0, abs=0.05)
    assert gap.total == pytest.approx(gap.lag + gap.sampling + gap.cross)
    assert gap.bn == pytest.approx(5 * 0.25 / unit, rel=0.02)
    assert tuple(em.eta_gap(means, means.expand(3, -1, -1), means, z_eval=means.expand(3, -1, -1))) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("solve", "k", "lag", "number"),
    [
        (other_view, 1, 0, 1),
        (other_view, 10, 4.5, 1),
        (other_view, 40, 19.5, 1),
        (expectation, 1, 0, 4),
        (partial(expectation, n=16), 10, 4.5, 16),
    ],
)
def test_lag_and_number_of_views_of_fresh_targets(solve, k, lag, number):
    measured = em.response(solve, steps_per_epoch=40, k=k, epochs=2)
    assert measured.lag == pytest.approx(lag)
    assert measured.views == pytest.approx(number, rel=0.05)


@pytest.mark.parametrize("m", [0.0, 0.5, 0.8])
def test_lag_and_number_of_views_of_a_bank(m):
    """Age A = m(A + E), E steps an epoch; a target is m·row + (1 − m)·z, a row the mean of two targets."""
    measured = em.response(partial(moving_average, m=m), steps_per_epoch=20, epochs=60)
    assert measured.lag == pytest.approx(20 * m / (1 - m), abs=1 + 8 * m)
    assert 1 / measured.views == pytest.approx(m**2 * (1 - m) / (2 * (1 + m)) + (1 - m) ** 2, rel=0.05)


def test_the_best_linear_h_is_the_expectation():
    """Gaussian views: E[means | z] = H*z with H* = B/(B + W), and R of everything in closed form."""
    z, means = model(20_000, 2)
    targets = means + gaussian(4, 20_000, 5, seed=21) * W.sqrt()
    h = B / (B + W)
    r = em.predictor_as_expectation(z, 3 * z * h, targets)  # c undoes the 3
    assert r.h == pytest.approx((B * W / (B + W)).sum().item() / W.sum().item(), abs=0.02)
    assert r.linear == pytest.approx(r.h, abs=0.01)
    c = B.sum() / (B + W).sum()
    assert r.scalar == pytest.approx((((c - 1) ** 2 * B + c**2 * W).sum() / W.sum()).item(), abs=0.02)
    assert r.permuted == pytest.approx((B.sum() / W.sum()).item(), abs=0.03)  # c = 0
    assert r.h_cosine < r.scalar_cosine == pytest.approx(1, abs=0.01)
    assert r.permuted_cosine > 1


def test_without_h_it_is_a_scalar():
    z, means = model(500, 2)
    targets = means + gaussian(4, 500, 5, seed=21) * W.sqrt()
    r = em.predictor_as_expectation(z, z, targets)
    assert (r.h, r.h_cosine) == (r.scalar, r.scalar_cosine)


def test_one_dimension_and_few_images():
    z = torch.randn(2, 40, 1, generator=torch.Generator().manual_seed(0))
    r = em.predictor_as_expectation(z, z, torch.cat([z, z]) + 0.1)
    assert r.h == pytest.approx(r.scalar)
    for few, images in ((1, 8), (2, 3)):
        with pytest.raises(ValueError, match="are needed"):
            em.predictor_as_expectation(z[:, :images], z[:, :images], torch.zeros(few, images, 1))
        with pytest.raises(ValueError, match="are needed"):
            em.variance_table(torch.zeros(few, 1, 4))
    with pytest.raises(ValueError, match="are needed"):
        em.eta_gap(torch.zeros(4, 2), torch.zeros(1, 4, 2), torch.zeros(4, 2))


def test_nan_is_not_taken_for_a_perfect_value():
    z = torch.full((3, 8, 4), math.nan)
    assert math.isnan(em.eta_gap(z[0], z, z[0]).total)
    assert math.isnan(em.prediction_quality(z[:2], z[:2]))
    with pytest.raises(ValueError, match="finite"):
        em.variance_table(z)
