"""What does a trained network make of images? Features, z and p, of images shown as they were in training."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import ranks
from .networks import Siamese


class Feeding(NamedTuple):
    """How images are fed to a network."""

    shape: tuple[int, int, int]  # [C, H, W] of those that it was trained on
    mean: Tensor  # [C, 1, 1] of their pixels in [0, 1]
    std: Tensor


class Embeddings(NamedTuple):
    """What a network makes of N images, in fp32; z and p are not made unit vectors."""

    features: np.ndarray  # [N, f], of the backbone
    z: np.ndarray  # [N, d], of F
    p: np.ndarray  # [N, d], of h; the same as z where there is none


def embed(net: Siamese, images: Tensor, feeding: Feeding, *, batch_size: int = 512) -> Embeddings:
    """Embeddings of images [N, C, H, W], uint8."""
    parts = list(embedded(net, images, feeding, batch_size))
    return Embeddings(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@torch.no_grad()
def embedded(net: Siamese, images: Any, feeding: Feeding, batch_size: int = 512) -> Iterator[Embeddings]:
    """Embeddings, a batch at a time, of images that are indexed by id, in eval mode."""
    like = next(net.parameters())

    def made(ids: Tensor) -> tuple[Tensor, ...]:
        x = images[ids].to(like.device) / 255
        if len(feeding.mean) < x.shape[1]:
            x = x.mean(1, keepdim=True)
        x = (x - feeding.mean.to(like.device)) / feeding.std.to(like.device)
        features = net.F.backbone(shown(x, feeding.shape).to(like))
        e = net.F.projector(features)
        return tuple(y.float() for y in (features, net.F.score(e), net.F.score(net.h(e))))

    for tensors in ranks.divided(torch.arange(len(images)).split(batch_size), made):
        yield Embeddings(*(y.cpu().numpy() for y in tensors))


def shown(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Normalised images [B, C, H, W] at the size of `shape`, grey where it is."""
    channels, *size = shape
    if channels < x.shape[1]:
        x = x.mean(1, keepdim=True)
    if list(x.shape[2:]) != size:
        x = functional.interpolate(x, size, mode="bilinear", antialias=True)
    return x
