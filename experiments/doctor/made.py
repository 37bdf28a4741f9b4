"""Arrays that nobody trained, whose truth is how they are made; and networks that nobody trained to do this."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

N, WIDTH = 512, 128


class Made(NamedTuple):
    """Views z [2, N, d], and what is true of them."""

    name: str
    z: Tensor
    true: str  # in words, such as: constant, few directions, noise, images differ
    allowed: tuple[str, ...]  # verdicts that are right


HEALTHY, FLAT, CONSTANT = ("healthy",), ("dimensional collapse",), ("complete collapse",)
UNSURE = "undecided"


def arrays() -> Iterator[Made]:
    """Each with a seed of its own."""

    def normal(*size: int, seed: int = 0) -> Tensor:
        return torch.randn(*size, generator=torch.Generator().manual_seed(seed))

    images = normal(N, WIDTH, seed=1)
    views = images + 0.5 * normal(2, N, WIDTH, seed=2)
    yield Made("images in 128 directions", views, "images differ", HEALTHY)
    yield Made("the same, 64 images", views[:, :64], "images differ", HEALTHY)
    yield Made("the same, 2 images of each", views.repeat(1, 2, 1), "images differ", HEALTHY)
    yield Made("the same in bfloat16", views.bfloat16(), "images differ", HEALTHY)
    heavy = (2 * normal(N, 1, seed=3)).exp()
    yield Made("lengths from 0.01 to 100 (heavy tails)", views * heavy, "images differ", HEALTHY)
    yield Made("Student's t, 2 degrees of freedom", views / normal(N, 1, seed=4).abs().sqrt(), "images differ", HEALTHY)
    for rank in (1, 2, 3):
        few = images[:, :rank] @ normal(rank, WIDTH, seed=5) + 0.01 * normal(2, N, WIDTH, seed=2)
        yield Made(f"{rank} direction{'s' * (rank > 1)}", few, "few directions", FLAT if rank < 3 else (*FLAT, UNSURE))
    v = normal(1, WIDTH, seed=6)
    yield Made("v or −v", (images[:, :1].sign() * v).expand(2, N, WIDTH), "few directions", FLAT)
    yield Made("a constant", v.expand(2, N, WIDTH), "constant", CONSTANT)
    noisy = v + 1e-3 * normal(2, N, WIDTH, seed=7)
    yield Made("noise of 0.001 around a constant", noisy, "constant", CONSTANT)
    yield Made("the same in bfloat16", noisy.bfloat16(), "constant", CONSTANT)
    yield Made("zeros", torch.zeros(2, N, WIDTH), "constant", CONSTANT)
    yield Made("noise", normal(2, N, WIDTH, seed=8), "noise", ("not converging",))
    classes = torch.arange(N) % 2
    two = normal(2, WIDTH, seed=9)[classes] + 0.1 * normal(2, N, WIDTH, seed=10)
    yield Made("two classes, images forgotten", two, "few directions", (*FLAT, "not converging"))
    ten = normal(10, WIDTH, seed=11)[torch.arange(N) % 10] + 0.3 * normal(2, N, WIDTH, seed=12)
    yield Made("ten classes, images forgotten", ten, "classes differ, images do not", (*HEALTHY, UNSURE))
    broken = views.clone()
    broken[0, 3, 5] = torch.nan
    yield Made("one NaN", broken, "not finite", ("diverged",))
