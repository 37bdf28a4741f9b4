"""What if η_x is an assignment to clusters? SwAV's codes, balanced over the batch by Sinkhorn-Knopp."""

import torch
from torch import Tensor

from ..ranks import shard
from ..traits import solver


@solver(per_image=(), gives="codes", passes_gradient=True, then="Sinkhorn-Knopp")
def sinkhorn_codes(state, F_t, batch, *, epsilon: float = 0.05, iterations: int = 3):
    """Codes of the other view: the scores of its prototypes, made into a balanced soft assignment. Here z are scores.

    Gradients pass where F_t lets them (no stop-gradient). Source: Caron et al. 2020, §3.1; Chen & He 2021, §6.2.
    """
    scores = batch.gather(F_t(batch.others).transpose(0, 1))  # [B, S, K], of all processes
    codes = torch.stack([sinkhorn(s, epsilon=epsilon, iterations=iterations) for s in scores.unbind(1)])
    return codes if codes.shape[1] == len(batch.ids) else shard(codes, 1), state  # whole where every process has all


def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Scores [B, K] to codes Q [B, K]: near exp(scores/ε), rows that sum to 1, columns to B/K (after many iterations).

    In logarithms, so that no exponential overflows.
    """
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True)  # prototypes share the images alike
        log_q = log_q - log_q.logsumexp(1, keepdim=True)  # each image is given out once
    return log_q.exp()
