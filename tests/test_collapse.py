"""Numbers of collapse: closed forms, invariances, and another way to compute each."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from sklearn.metrics import roc_auc_score

from emsiam.diagnostics import collapse, evidence

pytestmark = pytest.mark.mathematics

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LISTED = {f.__name__: f for f in (*collapse.ALONE, *collapse.PAIRED)}


def gaussian(*size, seed=0, dtype=torch.float64):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rotation(d, seed=9):
    return torch.linalg.qr(gaussian(d, d, seed=seed)).Q


CONSTANT = {
    "z_std": 0, "z_std_ratio": 0, "centre_norm": 1, "residual_norm": 0, "effective_rank": 1, "participation_ratio": 0,
    "nesum": 0, "alpha_req": math.inf, "singular_value_auc": 1, "uniformity": 0, "alignment": 0, "lidar": 1,
    "between_share": 0, "view_auc": 0.5,
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("d", [8, 2048])
@pytest.mark.parametrize("device", DEVICES)
def test_a_constant(dtype, d, device):
    z = gaussian(1, d, dtype=dtype).expand(3, 40, d).to(device)
    assert collapse.measure(z) == pytest.approx(CONSTANT, abs=1e-3)


def test_zeros_and_one_image_give_what_is_stated():
    zeros = collapse.measure(torch.zeros(2, 10, 4))
    assert zeros == pytest.approx(CONSTANT | {"centre_norm": 0})
    one = collapse.measure(gaussian(2, 1, 4))
    assert one == pytest.approx(CONSTANT | {"alignment": one["alignment"]})
    assert all(not math.isnan(v) for v in (*zeros.values(), *one.values()))


def test_what_is_not_finite_or_lacks_views_is_refused():
    bad = gaussian(2, 10, 4)
    bad[0, 3, 1] = math.nan
    for number in LISTED.values():
        with pytest.raises(ValueError, match="not finite"):
            number(bad if number in collapse.PAIRED else bad[0])
    for number in collapse.PAIRED:
        with pytest.raises(ValueError, match="two or more views"):
            number(gaussian(10, 4))


def test_two_antipodal_points_fool_the_std_alone():
    a = gaussian(1, 64).sign()
    z = torch.cat([a, -a]).repeat(25, 1)
    n = collapse.measure(z)
    assert n["z_std_ratio"] == pytest.approx(1)  # as healthy
    for name in ("participation_ratio", "effective_rank", "nesum", "singular_value_auc"):
        assert n[name] == pytest.approx(1)
    assert n["alpha_req"] == math.inf
    assert n["centre_norm"] == pytest.approx(0, abs=1e-12)


@DTYPES
@pytest.mark.parametrize("d", [16, 256])
def test_isotropic_vectors(dtype, d):
    count = 4000
    n = collapse.measure(gaussian(count, d, dtype=dtype))
    assert n["z_std_ratio"] == pytest.approx(1, rel=0.02)
    assert n["participation_ratio"] == pytest.approx(d / (1 + d / count), rel=0.02)  # Marchenko-Pastur
    assert n["nesum"] == pytest.approx(d / (1 + math.sqrt(d / count)) ** 2, rel=0.05)  # its upper edge
    assert n["singular_value_auc"] == pytest.approx(0.5, abs=0.07)
    assert n["centre_norm"] == pytest.approx(1 / math.sqrt(count), rel=0.3)
    # mean of exp(−2(2 − 2u)) with u = cos of two random directions, its density ∝ (1 − u²)^((d−3)/2)
    u = np.linspace(-1, 1, 20001)
    density = (1 - u**2) ** ((d - 3) / 2)
    assert n["uniformity"] == pytest.approx(np.log((np.exp(-4 * (1 - u)) * density).sum() / density.sum()), abs=0.01)


@pytest.mark.parametrize("rank", [2, 5])
def test_rank_r(rank):
    """±r orthogonal directions, equally often: every count of directions is r."""
    z = torch.cat([torch.eye(rank, 30), -torch.eye(rank, 30)]) @ rotation(30).float()
    n = collapse.measure(z)
    for name in ("participation_ratio", "effective_rank", "nesum"):
        assert n[name] == pytest.approx(rank, rel=1e-5)
    assert n["alpha_req"] == pytest.approx(0, abs=1e-5)
    # (1/d)·(1/r + 2/r + … + 1 + the d − r that follow)
    assert n["singular_value_auc"] == pytest.approx(((rank + 1) / 2 + 30 - rank) / 30, rel=1e-5)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_a_power_law_has_its_slope(slope):
    """±√λᵢ·√(Σ)… on axes: vectors of one length whose covariance is exactly λᵢ ∝ i^−slope."""
    d = 40
    weights = torch.arange(1, d + 1, dtype=torch.float64) ** -slope
    signs = torch.tensor(scipy.linalg.hadamard(64)[:, 1 : d + 1], dtype=torch.float64)  # orthogonal, mean 0
    z = signs * weights.sqrt()
    assert collapse.spectrum(z)[:d].div(weights / weights.sum()).sub(1).abs().max() < 1e-10
    assert collapse.alpha_req(z).item() == pytest.approx(slope, rel=1e-8)
    assert collapse.alpha_req(z, 3, 20).item() == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("name", LISTED)
def test_invariances(name):
    number, z = LISTED[name], gaussian(3, 50, 12) + 0.4
    if name not in {f.__name__ for f in collapse.PAIRED}:
        z = z[0]
    value = number(z).item()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert number(z[..., order, :]).item() == pytest.approx(value, rel=1e-9)
    if name != "lidar":  # whose δ has a unit
        assert number(z * 7).item() == pytest.approx(value, rel=1e-9)
    if name not in ("z_std", "z_std_ratio"):  # which depend on the axes
        assert number(z @ rotation(12)).item() == pytest.approx(value, rel=1e-8)


def roc(hat):
    """By scikit-learn: each view of each image is compared with all images of another view; is it that image?"""
    x = hat - hat.mean((0, 1))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    n, count = x.shape[:2]
    return np.mean(
        [
            roc_auc_score(np.arange(count) == i, x[a, i] @ x[b].T)
            for a in range(n)
            for b in range(n)
            if a != b
            for i in range(count)
        ]
    )


@DTYPES
@pytest.mark.parametrize(("count", "d"), [(60, 20), (20, 60), (32, 300)])
def test_all_equal_numpy_and_scipy(dtype, count, d):
    decay = torch.logspace(0, -1.5, d, dtype=torch.float64)
    z = (gaussian(1, count, d) * decay + 0.5 * gaussian(4, count, d, seed=1) * decay + 0.1).to(dtype)
    x = z.double().numpy()
    hat = x / np.linalg.norm(x, axis=-1, keepdims=True)
    one, centred = hat[0], hat[0] - hat[0].mean(0)
    values = np.sort(np.linalg.svd(centred, compute_uv=False) ** 2 / count)[::-1]
    values = values[values > 1e-15]
    sigma = np.zeros(d)
    sigma[: min(count, d)] = np.linalg.svd(centred, compute_uv=False)
    share = np.linalg.svd(one, compute_uv=False)
    share = share / share.sum()
    means = x.mean(0)
    within = sum(np.cov(x[:, i].T, bias=True) for i in range(count)) / count + 1e-4 * np.eye(d)
    between = np.cov(means.T, bias=True)
    ratios = scipy.linalg.eigh(between, within, eigvals_only=True).clip(0)
    ratios = ratios[ratios > 1e-12 * ratios.max()] / ratios.sum()
    pairs = [((hat[a] - hat[b]) ** 2).sum(-1).mean() for a in range(4) for b in range(a)]
    expected = {
        "z_std": one.std(0).mean(),
        "z_std_ratio": one.std(0).mean() * np.sqrt(d),
        "centre_norm": np.linalg.norm(one.mean(0)),
        "residual_norm": np.sqrt((centred**2).sum(-1).mean()),
        "effective_rank": np.exp(-(share * np.log(share)).sum()),
        "participation_ratio": values.sum() ** 2 / (values**2).sum(),
        "nesum": values.sum() / values[0],
        "alpha_req": -np.polyfit(np.log(np.arange(1, len(values) + 1)), np.log(values), 1)[0],
        "singular_value_auc": (np.cumsum(sigma) / sigma.sum()).mean(),
        "uniformity": np.log(np.exp(-2 * scipy.spatial.distance.pdist(one) ** 2).mean()),
        "alignment": np.mean(pairs),
        "lidar": np.exp(-(ratios * np.log(ratios)).sum()),
        "between_share": collapse.between_share(z).item(),  # see test_diagnostics.py
        "view_auc": roc(hat),
    }
    assert collapse.measure(z) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (512, 128)])
@pytest.mark.parametrize("rank", [1, 3, 16])
def test_the_effective_rank_of_a_gpu_is_the_cpu_s(shape, rank):
    rng = np.random.default_rng(rank)
    z = torch.from_numpy(rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1])))
    exact, by_gram = (collapse.singular_values(z, by_gram=way) for way in (False, True))
    assert torch.allclose(by_gram, exact, rtol=0, atol=1e-6 * float(exact[0]))
    of_each = [collapse._perplexity(x).item() for x in (exact, by_gram)]
    assert of_each[1] == pytest.approx(of_each[0], rel=1e-4)


def test_lengths_of_centre_and_residual_add_up():
    z = gaussian(50, 8) + 2
    assert (collapse.centre_norm(z) ** 2 + collapse.residual_norm(z) ** 2).item() == pytest.approx(1)
    assert collapse.spectrum(z).sum().item() == pytest.approx(collapse.residual_norm(z).item() ** 2)


def test_lidar_counts_the_directions_that_tell_images_apart():
    """Images differ in 5 of 40 directions; their views, in all of them a little."""
    d, count = 40, 2000
    means = torch.zeros(count, d, dtype=torch.float64)
    means[:, :5] = gaussian(count, 5)
    z = means + 1e-3 * gaussian(8, count, d, seed=1)
    assert collapse.lidar(z @ rotation(d)).item() == pytest.approx(5, abs=0.1)


def test_lidar_of_few_images_and_many_channels_is_that_of_the_definition():
    z = gaussian(20, 90) + 0.5 * gaussian(2, 20, 90, seed=1)
    within = np.cov((z - z.mean(0)).flatten(0, 1).T, bias=True) + 1e-4 * np.eye(90)
    ratios = scipy.linalg.eigh(np.cov(z.mean(0).T, bias=True), within, eigvals_only=True).clip(1e-12)
    share = ratios / ratios.sum()
    assert collapse.lidar(z).item() == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)


def test_whether_images_are_found_again_does_not_depend_on_rank():
    """On a circle every image is found again; in two groups, as of a supervised network, half of the others tie."""
    angle = torch.arange(100, dtype=torch.float64) * 2 * math.pi / 100
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    assert collapse.view_auc(circle.expand(2, 100, 2)) == 1
    groups = torch.cat([torch.ones(50, 1), -torch.ones(50, 1)]).double()
    assert collapse.view_auc(groups.expand(2, 100, 1)).item() == pytest.approx((50 + 49 / 2) / 99)
    assert collapse.view_auc(gaussian(2, 2000, 16)).item() == pytest.approx(0.5, abs=0.02)
    far = torch.cat([gaussian(2, 1, 16), circle.expand(2, 100, 2) @ gaussian(2, 16, seed=3)], 1)
    assert collapse.found_again(far)[1:].min() > 0.98


def test_the_std_before_a_bn_is_the_plain_one():
    x = gaussian(50, 8) * 3 + 5
    assert collapse.pre_bn_std(x).item() == pytest.approx(x.numpy().std(0).mean())


def test_a_linear_predictor_is_found_and_described():
    z = gaussian(400, 12)
    w = gaussian(12, 12, seed=3)
    assert (collapse.linearised(z, z @ w.T + 4) - w).abs().max() < 1e-10
    symmetric = w + w.T
    assert collapse.asymmetry(symmetric) == 0
    assert collapse.asymmetry(w - w.T).item() == pytest.approx(2)
    assert collapse.asymmetry(gaussian(300, 300)).item() == pytest.approx(math.sqrt(2), rel=0.02)
    expected = np.sort(np.linalg.eigvalsh(symmetric.numpy()))[::-1].copy()
    assert collapse.predictor_spectrum(symmetric).numpy() == pytest.approx(expected)
    assert (collapse.linearised(z[:, :1] @ z[:1], z) @ rotation(12)).isfinite().all()  # z of rank 1


def test_eigenspaces_agree_where_matrices_commute():
    q, z = rotation(12), gaussian(4000, 12) * torch.arange(1, 13).sqrt()
    f = z.T @ z / len(z)
    assert collapse.eigenspace_alignment(f @ f + 2 * torch.eye(12), z).item() == pytest.approx(1)
    assert collapse.eigenspace_alignment(torch.zeros(12, 12), z) == 0
    assert collapse.eigenspace_alignment(f, torch.zeros(9, 12)) == 0
    u = torch.linalg.eigh(f).eigenvectors
    slow = np.mean([abs(a @ (q @ a) / (q @ a).norm()) for a in u.T])
    assert collapse.eigenspace_alignment(q, z).item() == pytest.approx(slow)
    d = 200
    unrelated = collapse.eigenspace_alignment(gaussian(d, d, seed=5), gaussian(4000, d)).item()
    assert unrelated == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=0.2)


def test_rank_ratio_sees_a_predictor_that_filters():
    z = gaussian(300, 20)
    assert collapse.rank_ratio(z, z) == 1
    p = z.clone()
    p[:, 5:] *= 1e-6
    assert collapse.rank_ratio(p, z) < 0.3
    numbers = collapse.measure(z, p, pre_bn=z)
    assert {"rank_ratio", "asymmetry", "eigenspace_alignment", "predictor_top_eigenvalue", "pre_bn_std"} <= set(numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_that_z_lacks_are_left_out_whatever_the_precision(dtype):
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(512, 16, generator=rng, dtype=torch.float64) @ torch.randn(
        16, 128, generator=rng, dtype=torch.float64
    )
    h = torch.randn(128, 128, generator=rng, dtype=torch.float64)
    h = h + h.T
    w = collapse.linearised(z.to(dtype), (z @ h).to(dtype))
    lacked = torch.linalg.svd(z)[2][16:]
    assert (w @ lacked.T).norm() < 1e-3 * w.norm()


def test_lengths_do_not_matter_at_any_size():
    z = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = collapse.measure(z)
    for scale in (1e-30, 1e-200, 1e200):
        assert collapse.measure(z * scale) == pytest.approx(whole)
    assert collapse.measure((10 * z).round().long()) == collapse.measure((10 * z).round())


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2, 2)])
def test_what_is_no_representation_is_refused(shape):
    with pytest.raises(ValueError, match=r"empty|must be"):
        collapse.measure(torch.zeros(shape))
    with pytest.raises(ValueError, match="must be"):
        collapse.measure(torch.zeros(4, 4), torch.zeros(3, 4))


@pytest.mark.parametrize("d", [8, 128, 300])
def test_an_interval_is_that_of_many_samples(d):
    """The bootstrap has the numbers of the images that are drawn, and is at least as wide as samples of N differ."""
    scale, count = torch.logspace(0, -1, d, dtype=torch.float64), 200
    samples = [(2 * gaussian(2, count, d, seed=i) + gaussian(count, d, seed=1000 + i)) * scale for i in range(40)]
    drawn = torch.randint(count, (count,), generator=torch.Generator().manual_seed(0))
    weights = torch.bincount(drawn, minlength=count).double()[None] / count
    z, again = samples[0][0], samples[0][0][drawn]
    spread, rank = collapse.residual_norm(again), collapse.participation_ratio(again)
    variance = evidence._variances(z, weights)[0].sum()
    assert variance.sqrt().item() == pytest.approx(spread.item() * math.sqrt(count / (count - 1)))
    assert evidence._ranks(z, weights)[0].item() == pytest.approx(1 / (1 / rank.item() - 1 / count))
    found = [evidence.intervals(z) for z in samples]
    for number in (collapse.z_std_ratio, collapse.residual_norm, collapse.participation_ratio, collapse.view_auc):
        name = number.__name__
        mean = np.mean([number(z if number in collapse.PAIRED else z[0]) for z in samples])
        assert np.mean([low < mean < high for low, high in (f[name] for f in found)]) >= 0.85, name
