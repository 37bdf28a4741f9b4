"""Diagnostics against closed forms and numpy."""

import numpy as np
import pytest
import torch

from emsiam.diagnostics import collapse
from emsiam.diagnostics.em import prediction_quality

pytestmark = pytest.mark.mathematics

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def gaussian(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@DTYPES
@pytest.mark.parametrize("d", [8, 128, 2048])
def test_a_constant_has_collapsed(dtype, d):
    z = gaussian(1, d, dtype=dtype).expand(100, -1)
    assert collapse.z_std(z) < 1e-7
    assert collapse.effective_rank(z) == pytest.approx(1, abs=1e-3)
    assert collapse.participation_ratio(z) == 0
    assert collapse.between_share(z.expand(4, -1, -1)) == 0


@DTYPES
@pytest.mark.parametrize("d", [32, 512])
def test_gaussian_vectors_are_spread_evenly(dtype, d):
    z = gaussian(4000, d, dtype=dtype)
    assert collapse.z_std(z).item() == pytest.approx(d**-0.5, rel=0.01)
    assert collapse.z_std_ratio(z).item() == pytest.approx(1, rel=0.01)
    # Marchenko-Pastur: the eigenvalues of N vectors in d dimensions give PR = d/(1 + d/N)
    assert collapse.participation_ratio(z).item() == pytest.approx(d / (1 + d / 4000), rel=0.02)


def test_the_std_does_not_see_two_antipodal_points():
    a = gaussian(1, 64)
    z = torch.cat([a.expand(50, -1), -a.expand(50, -1)])
    assert collapse.z_std_ratio(z) > 0.7  # mean of |aᵢ|·√d: at most 1
    assert collapse.participation_ratio(z).item() == pytest.approx(1)
    assert collapse.effective_rank(z).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_equal_directions_are_counted(rank):
    z = torch.cat([torch.eye(rank, 20), -torch.eye(rank, 20)]).double()
    assert collapse.participation_ratio(z).item() == pytest.approx(rank)
    assert collapse.effective_rank(z).item() == pytest.approx(rank)


@DTYPES
@pytest.mark.parametrize(("n", "d"), [(200, 30), (30, 200)])
def test_they_equal_numpy(dtype, n, d):
    z = gaussian(n, d, 1, dtype) * torch.logspace(0, -2, d, dtype=dtype) + 0.3
    x = z.double().numpy() / np.linalg.norm(z.double().numpy(), axis=1, keepdims=True)
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma / sigma.sum()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    assert collapse.z_std(z).item() == pytest.approx(x.std(0).mean(), rel=1e-12)
    assert collapse.effective_rank(z).item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-12)
    assert collapse.participation_ratio(z).item() == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


@pytest.mark.parametrize("number", [collapse.z_std_ratio, collapse.effective_rank, collapse.participation_ratio])
def test_invariances(number):
    z = gaussian(60, 12, 2)
    rotation = torch.linalg.qr(gaussian(12, 12, 3)).Q
    assert number(z.flip(0) * 7).item() == pytest.approx(number(z).item(), rel=1e-12)  # order and scale
    if number is not collapse.z_std_ratio:  # the std depends on the axes
        assert number(z @ rotation).item() == pytest.approx(number(z).item(), rel=1e-10)


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_between_share_recovers_a_known_one(noise):
    """On vectors of nearly one length ẑ is z up to scale: image means of variance 1, views of variance noise²."""
    centre = torch.zeros(400)
    centre[0] = 1e4
    means = gaussian(3000, 400, 0)
    views = torch.stack([centre + means + noise * gaussian(3000, 400, 1 + i) for i in range(4)])
    assert collapse.between_share(views).item() == pytest.approx(1 / (1 + noise**2), rel=0.01)


def test_prediction_quality():
    z = torch.stack([gaussian(300, 32, 0) + 0.5 * gaussian(300, 32, i) for i in (1, 2)])
    assert prediction_quality(z, z).item() == pytest.approx(1)
    assert abs(prediction_quality(z.roll(1, 1), z).item()) < 0.05  # of another image
    assert prediction_quality(-z, z).item() == pytest.approx(-1)
    a = torch.nn.functional.normalize(z, dim=-1).numpy()
    same = np.mean([a[0][i] @ a[1][i] for i in range(300)])
    other = np.mean([a[0][i] @ a[1][j] for i in range(300) for j in range(300) if i != j])
    slow = np.array(same - other)
    # p₁ = z₂ and p₂ = z₁: perfect agreement with the other view
    high = prediction_quality(torch.stack([z[1], z[0]]), z).item()
    ones = [1 - np.mean([b[i] @ b[j] for i in range(300) for j in range(300) if i != j]) for b in a]
    assert high == pytest.approx(np.mean(ones) / slow, rel=1e-9)


def test_views_that_do_not_agree_give_no_quality():
    z = gaussian(1, 8).expand(2, 20, -1)
    assert prediction_quality(z, z) == 0
