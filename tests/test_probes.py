"""The monitors: kNN against scikit-learn's classifier on the same vectors, the online probe against a plain loop."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import emsiam
from emsiam.evaluation import classifiers
from emsiam.evaluation.classifiers import OnlineProbe, knn_predict
from emsiam.objective import unit

pytestmark = [pytest.mark.mathematics, pytest.mark.usefixtures("plain_runs")]


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("t", [0.07, 0.1, 1.0])
def test_it_equals_scikit_learn(digits, k, t):
    features = digits.images.flatten(1).double()
    queries = digits.test_images.flatten(1).double()
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / t))
    expected = reference.fit(features.numpy(), digits.labels.numpy()).predict(queries.numpy())
    ours = knn_predict(features, digits.labels, queries, k=k, t=t, num_classes=10)
    assert (ours.numpy() == expected).all()


@pytest.mark.parametrize("k", [0, 6])
def test_it_refuses_more_neighbours_than_there_are(k):
    with pytest.raises(ValueError, match=f"k = {k} neighbours of 5"):
        knn_predict(torch.eye(5), torch.arange(5), torch.eye(5), k=k, t=0.1, num_classes=5)


def test_a_small_temperature_is_the_nearest_neighbour(digits):
    """Votes are formed relative to the nearest: none underflows in single precision."""
    features, queries = digits.images.flatten(1).float(), digits.test_images.flatten(1).float()
    common = {"features": features, "labels": digits.labels, "queries": queries, "num_classes": 10}
    assert torch.equal(knn_predict(**common, k=20, t=1e-7), knn_predict(**common, k=1, t=1.0))


BLOCKS = ((2048, 65_536, 256), (90, 64, 5), (7, 13, 1), (1, 700, 700))


@pytest.fixture(params=BLOCKS, ids=str)
def blocks(request, monkeypatch):
    for name, size in zip(("QUERIES", "ROWS", "TIED"), request.param, strict=True):
        monkeypatch.setattr(classifiers, name, size)


@pytest.mark.parametrize("k", [1, 20, 700])
def test_of_equal_similarities_the_lower_id_is_first_in_blocks_too(blocks, k):
    """Whole numbers, whose products are exact, so that many are equal; some rows throughout, as in collapse."""
    rng = torch.Generator().manual_seed(0)
    features, queries = (torch.randint(-2, 3, (n, 3), generator=rng).double() for n in (700, 90))
    queries[:20] = 0
    values, order = (queries @ features.T).sort(stable=True, dim=1, descending=True)
    found, ids = classifiers._nearest(features, queries, k)
    assert torch.equal(ids, order[:, :k])
    assert torch.equal(found, values[:, :k])


def test_blocks_change_no_vote(blocks):
    rng = torch.Generator().manual_seed(0)
    features, queries = (torch.randn(n, 5, generator=rng).double() for n in (700, 90))
    labels = torch.randint(7, (700,), generator=rng)
    features[3] = 0
    value, order = (unit(queries) @ unit(features).T).sort(1, descending=True)
    expected = torch.zeros(90, 7).double()
    for row in range(90):
        for s, i in zip(value[row, :20], order[row, :20], strict=True):
            expected[row, labels[i]] += ((s - value[row, 0]) / 0.1).exp()
    options = {"k": 20, "t": 0.1, "num_classes": 7}
    votes = classifiers.knn_votes(features, labels, queries, **options)
    assert torch.allclose(votes, expected, rtol=1e-12, atol=0)
    own = features.clone()
    assert torch.equal(classifiers.knn_votes(own, labels, queries, **options, in_place=True), votes)
    assert torch.equal(own, unit(features))


def test_parts_are_stacked_as_by_cat():
    x, y = torch.randn(10, 3, 2), torch.arange(10)
    one, other = classifiers.stacked(zip(x.split(4), y.split(4), strict=True), 10)
    assert torch.equal(one, x)
    assert torch.equal(other, y)


TENTH = """
import resource, sys, torch
from emsiam.evaluation.classifiers import QUERIES, ROWS, knn_votes
torch.set_num_threads(2)
rng = torch.Generator().manual_seed(0)
features = torch.randn(128_117, 2048, generator=rng)
labels, queries = torch.randint(1000, (128_117,), generator=rng), torch.randn(5_000, 2048, generator=rng)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
knn_votes(features, labels, queries, k=200, t=0.1, num_classes=1000, in_place=True)
print(before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_tenth_of_imagenet_takes_less_than_two_gigabytes():
    """N/10 × Q/10 at the width of ResNet-50. Blocks are full already, so that the whole takes no more but its votes."""
    done = subprocess.run([sys.executable, "-c", TENTH], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    print(f"workspace {(after - before) / 1e9:.2f} GB")
    assert after - before < 2e9


def test_the_online_probe_by_hand():
    rng = torch.Generator().manual_seed(0)
    probe = OnlineProbe(5, 3, lr=0.2).double()
    x = torch.randn(4, 30, 5, generator=rng, dtype=torch.float64) * 3 + 1
    y = torch.randint(3, (4, 30), generator=rng)
    w, b = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    vw, vb, mean, var = 0.0, 0.0, torch.zeros(5).double(), torch.ones(5).double()
    for features, labels in zip(x, y, strict=True):
        probe.learn(features, labels)
        u = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
        mean, var = 0.9 * mean + 0.1 * features.mean(0), 0.9 * var + 0.1 * features.var(0)
        error = ((u @ w.T + b).softmax(1) - torch.eye(3).double()[labels]) / 30
        vw, vb = 0.9 * vw + error.T @ u, 0.9 * vb + error.sum(0)
        w, b = w - 0.2 * vw, b - 0.2 * vb
    expected = (x[0] - mean) / (var + 1e-5).sqrt() @ w.T + b
    assert torch.allclose(probe(x[0]), expected, atol=1e-12)


SMALL = {"epochs": 3, "batch_size": 100, "eval_every": 1, "threads": 1, "quiet": True, "dim": 16, "hidden_dim": 16}


def test_the_online_probe_learns_and_changes_nothing_and_resumes_to_the_same_bits(tmp_path):
    runs = [
        emsiam.fit(emsiam.Config(**SMALL, online_probe=probe, out=str(tmp_path / f"{probe}")))
        for probe in (True, False)
    ]
    a, b = (run.model().state_dict() for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert runs[0].metrics.knn_acc1.equals(runs[1].metrics.knn_acc1)
    found = runs[0].metrics.probe_acc1.dropna()
    assert len(found) == 3
    assert 0.5 < found.iloc[-1] == runs[0].summary["probe_acc1"] <= runs[0].summary["probe_acc1_best"] == found.max()
    assert "online_probe" not in json.loads((runs[1].path / "config.json").read_text())
    assert not any("probe_acc1" in line for line in (runs[1].metrics, runs[1].summary))

    out = str(tmp_path / "parts")
    assert not emsiam.fit(emsiam.Config(**SMALL, online_probe=True, out=out), stop=[1]).finished
    parts = emsiam.fit(emsiam.Config(out=out, resume=True, quiet=True))
    assert parts.metrics.probe_acc1.equals(runs[0].metrics.probe_acc1)
