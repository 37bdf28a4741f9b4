"""The kNN monitor against scikit-learn's classifier on the same vectors."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from emsiam.probes import knn_predict


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
