"""Which images are looked at? The same ones in every run, under the same draws of T."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..streams import ETA, IDS, VIEWS, generator
from .batches import Batch, views_of
from .images import ImageSet

PROBE_SIZE = 512


def probe_ids(data: ImageSet) -> Tensor:
    """[P] ids of min(512, N) training images, the same in every run: what is looked at."""
    return torch.randperm(len(data.images), generator=generator(0, IDS))[:PROBE_SIZE]


def probe(data: ImageSet, n: int, dtype: torch.dtype, stream: int = VIEWS) -> Tensor:
    """[n, P, C, H, W]: n views of the probe set, the same draws in every run. Streams do not overlap."""
    ids = probe_ids(data)
    return data.ask(ids, data.sample(ids, n, generator(0, stream)), n, dtype)()


PROBE_VIEWS = 8  # of each image of the probe set


class ProbeSet(NamedTuple):
    """The probe set: the same images and views in every run."""

    ids: Tensor  # [P] of the training images
    batch: Batch  # the first views as a batch that any solver takes; there ids are 0 … P − 1
    views: Tensor  # [8, P, C, H, W]


def probe_set(data: ImageSet, symmetry: str, dtype: torch.dtype, *, labels: bool = False) -> ProbeSet:
    """min(512, N) training images with 8 views each. labels: whether the batch has them."""
    views, ids = probe(data, PROBE_VIEWS, dtype), probe_ids(data)
    positions = torch.arange(len(ids), device=views.device)

    def draw(n: int) -> Tensor:
        return probe(data, n, dtype, ETA)

    classes = data.classes if labels else None
    batch = Batch.of(
        0,
        positions,
        views[: views_of(symmetry)],
        symmetry,
        draw=draw,
        num_images=len(ids),
        every=lambda: data.every(ids, dtype),
        labels=None if classes is None else classes[ids.to(classes.device)],
    )
    return ProbeSet(ids, batch, views)
