"""What if η_x stands for a group of images? SwAV's codes, balanced by Sinkhorn-Knopp, and the centres of k-means."""

import torch
from torch import Tensor

from ..objective import unit
from ..traits import solver


@solver(
    per_image=(),
    gives="codes",
    passes_gradient=True,
    only_others=True,
    then="Sinkhorn-Knopp",
    eta="Sinkhorn(exp(cos(F(T′(x)), prototypes)/ε))",
    forwards="0",
)
def sinkhorn_codes(state, F_t, batch, *, epsilon: float = 0.05, iterations: int = 3):
    """Codes of the other view: the scores of its prototypes, made into a balanced soft assignment. Here z are scores.

    Gradients pass where F_t lets them (no stop-gradient). Source: Caron et al. 2020, §3.1; Chen & He 2021, §6.2.
    """
    scores = batch.gather(F_t(batch.others).transpose(0, 1))  # [B, S, K], of all processes
    codes = torch.stack([sinkhorn(s, epsilon=epsilon, iterations=iterations) for s in scores.unbind(1)])
    return batch.own(codes, 1), state


def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Scores [B, K] to codes Q [B, K]: near exp(scores/ε), rows that sum to 1, columns to B/K (after many iterations).

    In logarithms, so that no exponential overflows.
    """
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True)  # prototypes share the images alike
        log_q = log_q - log_q.logsumexp(1, keepdim=True)  # each image is given out once
    return log_q.exp()


@solver(
    per_image=(),
    only_others=True,
    measurable=False,
    then="the nearest of K centres",
    averaged="images of one cluster",
    eta="c_j, the centre nearest to F(T′(x))",
    forwards="0",
    memory="4 * clusters * d",
    lag="",
    views="",
)
def centroids(state, F_t, batch, *, clusters: int = 50, m: float = 0.9):
    """The centre of the cluster that the other view falls into, as in k-means, the paper's own analogy (§5.1).

    Spherical: unit vectors, nearest by cosine. A centre with images in the batch becomes m of itself and (1 − m) of
    their mean; one without waits. Centres begin as images of the first batch. Raises ValueError where that has fewer.
    state: centres [clusters, d]. Source: MacQueen 1967 (online k-means); as targets: Caron et al. 2018 (DeepCluster).
    """
    z = unit(F_t(batch.others))
    whole = batch.gather(z.transpose(0, 1))  # [B, S, d], of all processes
    if not state:
        if len(whole) < clusters:
            raise ValueError(f"{clusters} clusters of a batch of {len(whole)} images; allowed is as many or fewer")
        state = {"centres": whole[:clusters, 0].clone()}
    centres = state["centres"]
    eta = centres[(z @ centres.T).argmax(-1)]
    member = torch.nn.functional.one_hot((whole @ centres.T).argmax(-1), len(centres)).to(z).flatten(0, 1)
    size = member.sum(0)[:, None]
    mean = member.T @ whole.flatten(0, 1) / size.clamp(min=1)
    return eta, {"centres": torch.where(size > 0, unit(m * centres + (1 - m) * mean), centres)}
