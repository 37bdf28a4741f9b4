"""Does the alternation do what the hypothesis says? Quantities of the two half-steps."""

import torch
from torch import Tensor

from ..objective import unit


def prediction_quality(p: Tensor, z: Tensor) -> Tensor:
    """q: how much of the agreement between views of one image survives h.

    p, z: [2, N, d], predictions and representations of two views of the same images. With c(a, b) the mean cosine
    of a and b over the same images minus that over different images, q = c(p₁, z₂) / c(z₁, z₂), averaged over both
    directions. 1 where there is no h; near 0 for a random fixed h; 0 where the views of an image agree no more
    than those of two images.
    """
    p, z = unit(p.double()), unit(z.double())

    def agreement(a: Tensor, b: Tensor) -> Tensor:
        n = len(a)
        same = (a * b).sum()
        return same / n - (a.sum(0) @ b.sum(0) - same) / (n * (n - 1))

    predicted = agreement(p[0], z[1]) + agreement(p[1], z[0])
    given = agreement(z[0], z[1]) + agreement(z[1], z[0])
    return torch.where(given > 1e-9, predicted / given, 0.0)
