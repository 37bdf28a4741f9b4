"""Numbers of trajectories: closed forms, and scipy."""

import math

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch

from emsiam.diagnostics import trajectory as t
from emsiam.diagnostics.statistics import difference

pytestmark = pytest.mark.mathematics

RNG = np.random.default_rng(0)


def rotation(d):
    return np.linalg.qr(RNG.standard_normal((d, d)))[0]


@pytest.mark.parametrize(("count", "d"), [(200, 20), (30, 100)])
def test_cka_and_procrustes_do_not_see_rotation_scale_or_shift(count, d):
    x = RNG.standard_normal((count, d))
    y = 3 * x @ rotation(d) + 5
    assert t.linear_cka(x, y) == pytest.approx(1)
    assert t.procrustes(x, y) == pytest.approx(0, abs=1e-9)
    other = RNG.standard_normal((count, d))
    assert t.linear_cka(x, other) == pytest.approx(t.linear_cka(y, other))
    assert t.linear_cka(x, other) == pytest.approx(t.linear_cka(other, x))
    assert t.procrustes(x, other) == pytest.approx(t.procrustes(y, other))


def test_cka_is_the_product_of_gram_matrices():
    x, y = RNG.standard_normal((40, 7)), RNG.standard_normal((40, 90))  # of other widths
    assert t.linear_cka(x, y) == pytest.approx((t.gram(x) * t.gram(y)).sum())
    h = np.eye(40) - 1 / 40  # HSIC as Kornblith et al. write it
    hsic = {
        (a, b): np.trace(h @ p @ p.T @ h @ q @ q.T) for a, p in (("x", x), ("y", y)) for b, q in (("x", x), ("y", y))
    }
    assert t.linear_cka(x, y) == pytest.approx(hsic["x", "y"] / np.sqrt(hsic["x", "x"] * hsic["y", "y"]))


def test_procrustes_equals_scipy_s():
    x, y = RNG.standard_normal((50, 6)), RNG.standard_normal((50, 6))
    _, _, disparity = scipy.spatial.procrustes(x, y)  # lets y shrink too: 1 − (‖XᵀY‖_*)²
    assert t.procrustes(x, y) == pytest.approx(2 - 2 * math.sqrt(1 - disparity))
    wide = np.hstack([y, np.zeros((50, 3))])
    assert t.procrustes(x, wide) == pytest.approx(t.procrustes(x, y))


def test_unrelated_representations_of_many_images():
    """E CKA of independent Gaussian x, y is about √(d₁d₂)/N-small: d/(N + d) for equal widths."""
    x, y = RNG.standard_normal((4000, 20)), RNG.standard_normal((4000, 20))
    assert t.linear_cka(x, y) < 0.02


def test_constants_have_stated_values():
    x, c = RNG.standard_normal((20, 4)), np.ones((20, 4))
    assert t.linear_cka(x, c) == t.linear_cka(c, c) == 0
    assert t.procrustes(x, c) == pytest.approx(1)
    assert t.procrustes(c, c) == 0
    assert not t.gram(c).any()


def test_paths_are_compared_at_the_steps_that_both_have():
    a = {s: RNG.standard_normal((20, 4)) for s in (0, 1, 5, 9)}
    b = {s: a[s] @ rotation(4) if s in a else a[0] for s in (0, 2, 5, 9)}
    assert t.along(a, b) == pytest.approx({0: 1, 5: 1, 9: 1})
    assert t.along(a, {s: z[:10] for s, z in b.items()}) == {}  # other images
    ends = t.to_start_and_end(a)
    assert ends[0][0] == ends[9][1] == pytest.approx(1)
    assert ends[5] == (t.linear_cka(a[5], a[0]), t.linear_cka(a[5], a[9]))


def test_the_step_at_which_runs_part():
    assert t.parting({0: 1.0, 10: 0.99, 20: 0.9, 30: 0.97, 40: 0.94, 50: 0.5}) == 40  # the dip at 20 was made good
    assert t.parting({0: 1.0, 10: 0.96}) is None
    assert t.parting({0: 1.0, 10: 0.96}, tolerance=0.01) == 10
    assert t.parting({}) is None


def test_angles():
    assert t.angle(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(45)
    assert t.angle(np.ones(3), -np.ones(3)) == pytest.approx(180)
    assert math.isnan(t.angle(np.zeros(3), np.ones(3)))
    circle = {i: np.array([[math.cos(a), math.sin(a)]]) for i, a in enumerate(np.radians([0, 10, 20, 30]))}
    assert t.turning(circle) == pytest.approx({1: 10, 2: 10})  # chords of a circle turn by the arc
    walk = dict(enumerate(t.random_walk(6, 30_000).reshape(6, 10, 3000)))
    assert all(abs(a - 90) < 3 for a in t.turning(walk).values())


def test_onset_of_collapse():
    steps, values, lr = [0, 10, 20, 30, 40], [1.0, 0.4, 0.6, 0.3, 0.1], [0.2, 0.2, 0.2, 0.1, 0.0]
    assert t.onset(steps, values, 0.5, lr, k=10) == pytest.approx((30, 2 + 2 + 1.5, 3))
    assert t.onset(steps, values, 0.05, lr) is None
    assert t.onset(steps, values, 2.0, lr) == (0, 0.0, 0)  # below from the start


def test_a_plane_keeps_the_distances_of_flat_paths():
    flat = [RNG.standard_normal((5, 2)) @ np.diag([3, 1]), RNG.standard_normal((8, 2))]
    basis = rotation(40)[:2]
    found = t.plane([path @ basis for path in flat])
    assert sum(found.explained) == pytest.approx(1)
    every = np.concatenate(flat), np.concatenate(found.paths)
    assert scipy.spatial.distance.pdist(every[1]) == pytest.approx(scipy.spatial.distance.pdist(every[0]))
    assert [len(p) for p in found.paths] == [5, 8]
    assert t.plane([[np.ones(4)], [np.ones(4)]]).explained == (0, 0)


def test_the_plane_of_a_random_walk_is_a_smooth_curve_too():
    """Antognini & Sohl-Dickstein 2018: 6/π² of the variance on the first axis, a quarter of that on the second."""
    walk = t.random_walk(60, 20_000)
    found = t.plane([list(walk)])
    assert found.explained == pytest.approx((6 / math.pi**2, 1.5 / math.pi**2), abs=0.02)
    x = found.paths[0][:, 0]
    cosine = np.cos(np.pi * (np.arange(60) + 0.5) / 60)
    assert abs(np.corrcoef(x, cosine)[0, 1]) > 0.99


def test_differences_are_scipy_s_t_tests():
    a, b = RNG.standard_normal(6), RNG.standard_normal(6) + 1
    paired = difference(a, b, paired=True)
    theirs = scipy.stats.ttest_rel(b, a)
    assert (paired.p, *theirs.confidence_interval()) == pytest.approx((theirs.pvalue, paired.low, paired.high))
    welch = difference(a, b[:4], paired=False)
    theirs = scipy.stats.ttest_ind(b[:4], a, equal_var=False)
    assert (welch.p, *theirs.confidence_interval()) == pytest.approx((theirs.pvalue, welch.low, welch.high))
    assert welch.n == 10


def test_the_detectable_difference_is_found_four_times_in_five():
    n, found = 8, []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(n)
        size = (scipy.stats.t.ppf(0.975, n - 1) + scipy.stats.t.ppf(0.8, n - 1)) / math.sqrt(n)
        found.append(difference(np.zeros(n), noise + size, paired=True).p < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_one_run_a_group_has_no_interval():
    d = difference([1.0], [3.0], paired=True)
    assert d.mean == 2
    assert math.isnan(d.low)
    assert math.isnan(d.p)
    same = difference([1.0, 2.0], [1.0, 2.0], paired=True)
    assert (same.mean, same.p) == (0, 1)
    with pytest.raises(ValueError, match="pairs need"):
        difference([1.0, 2.0], [1.0], paired=True)


def test_a_sketch_keeps_lengths_and_angles():
    rng = torch.Generator().manual_seed(1)
    sizes = (3, 700, 20_000)
    a, b = ([torch.randn(n, generator=rng) for n in sizes] for _ in range(2))
    x, y = (torch.cat(w).double() for w in (a, b))
    for shift in (0.0, 0.5, 2.0):
        moved = [u + shift * v for u, v in zip(a, b, strict=True)]
        seen = t.sketch(moved).double() - t.sketch(a).double()
        assert seen.norm() == pytest.approx((shift * y).norm().item(), rel=0.05, abs=1e-9)
        cosine = t.sketch(moved).double() @ t.sketch(a).double() / (x.norm() * (x + shift * y).norm())
        true = (x + shift * y) @ x / (x.norm() * (x + shift * y).norm())
        assert cosine == pytest.approx(true.item(), abs=5 * math.sqrt(2 / t.SKETCH))
    assert torch.allclose(t.sketch(a) + t.sketch(b), t.sketch([u + v for u, v in zip(a, b, strict=True)]), atol=1e-4)
    assert t.sketch(a).shape == (t.SKETCH,)


def test_inner_products_of_sketches_are_right_on_average():
    a, b = torch.randn(50, generator=torch.Generator().manual_seed(2)), torch.linspace(-1, 1, 50)
    products = []
    for cut in range(1, 400):  # other places in θ have other signs and sums
        zeros = torch.zeros(cut)
        products.append((t.sketch([zeros, a], 16).double() @ t.sketch([zeros, b], 16).double()).item())
    error = a.norm().item() * b.norm().item() * math.sqrt(2 / 16 / len(products))
    assert np.mean(products) == pytest.approx((a @ b).item(), abs=4 * error)


def test_a_cloud_of_three_dimensions_is_seen_as_it_is():
    basis = rotation(20)[:3]
    path = {s: t.unit(RNG.standard_normal((30, 3)) @ basis) for s in (0, 4, 9)}
    seen = t.cloud(path, [0, 4, 9])
    for step, points in seen.items():
        assert points.shape == (30, 3)
        assert scipy.spatial.distance.pdist(points) == pytest.approx(scipy.spatial.distance.pdist(path[step]))
    turn = rotation(20)
    turned = {s: z @ turn for s, z in path.items()}
    like = t.cloud(turned, [0, 4, 9], seen[9])
    assert all(like[s] == pytest.approx(seen[s]) for s in path)
    assert t.cloud({0: RNG.standard_normal((5, 2))}, [0])[0].shape == (5, 3)
