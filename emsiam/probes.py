"""How good are the features? Reference classifiers on a frozen backbone."""

import torch
from torch import Tensor

from .objective import unit


@torch.no_grad()
def knn_predict(features: Tensor, labels: Tensor, queries: Tensor, *, k: int, t: float, num_classes: int) -> Tensor:
    """Weighted k-nearest-neighbour labels [Q] of queries [Q, f], from features [N, f] with labels [N].

    Neighbours by cosine similarity s, votes exp(s/t) (Wu et al. 2018; the monitor of the SimSiam paper, Fig. D.1).
    Raises ValueError where k exceeds N.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"k = {k} neighbours of {len(features)} vectors")
    similarity, neighbour = (unit(queries) @ unit(features).T).topk(k)
    votes = similarity.new_zeros(len(queries), num_classes)
    votes.scatter_add_(1, labels[neighbour], ((similarity - similarity[:, :1]) / t).exp())
    return votes.argmax(1)
