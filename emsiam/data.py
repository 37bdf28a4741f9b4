"""Which images, and which views of them at a step? Both follow from (seed, step) alone.

Images live on the device as uint8 and are addressed by id: a batch is a tensor of distinct ids.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from . import views
from .ranks import gather, shard

PROBE_SIZE = 512
IDS, VIEWS, ETA, BACKBONE, PROJECTOR, PREDICTOR = range(6)  # independent streams of random numbers


class ImageSet(NamedTuple):
    """A data set in memory. images: [N, C, H, W] uint8; labels: [N] int64; test images are never trained on."""

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: float  # of the training pixels, in [0, 1]
    std: float
    recipe: views.Recipe  # T

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.images.shape[1:])  # type: ignore[return-value]

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def to(self, device: torch.device) -> "ImageSet":
        return self._replace(
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def normalise(self, x: Tensor) -> Tensor:
        """The network's input: pixels, uint8 or in [0, 1], to zero mean and unit standard deviation."""
        return ((x / 255 if x.dtype == torch.uint8 else x) - self.mean) / self.std


def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8: 1,437 to train on, 360 to test, stratified, always the same."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    images, labels, test_images, test_labels = (
        torch.from_numpy(a) for a in (x, y.astype(np.int64), x_test, y_test.astype(np.int64))
    )
    return ImageSet(
        "digits",
        *(images, labels, test_images, test_labels),
        mean=float(x.mean() / 255),
        std=float(x.std() / 255),
        recipe=views.Recipe((0.3, 1.0), (3 / 4, 4 / 3), degrees=15, brightness=0.4, contrast=0.4, noise=0.05),
    )


DATASETS = {"digits": digits}


class Batch(NamedTuple):
    """What a step sees. V views are run, S ≤ V of them train θ; with a symmetric loss S = V = 2."""

    step: int
    ids: Tensor  # [B] distinct image ids
    views: Tensor  # [V, B, C, H, W]
    trained: tuple[int, ...]  # S positions in views: what θ trains on
    partners: tuple[int, ...]  # for each of them the position of another view of the same images
    others: Tensor  # [S, B, C, H, W] = views[partners]: T′(x)
    draw: Callable[[int], Tensor]  # draw(n) -> [n, B, C, H, W]: n further views, independent of `views`
    num_images: int  # ids are in 0 … num_images − 1
    gather: Callable[[Tensor], Tensor]  # [B, ...] of this process -> the rows of every process, in order


# How a loss is symmetrised (§4.6): the views that train θ, and for each the view that its target comes from.
SYMMETRY = {
    "sym": ((0, 1), (1, 0)),
    "asym": ((0,), (1,)),
    "asym2x": ((0, 2), (1, 3)),
}


def generator(seed: int, stream: int, step: int = 0) -> Generator:
    """Random numbers of one purpose at one step. Streams and steps do not overlap (numpy's SeedSequence)."""
    state = int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def batches(
    data: ImageSet, *, seed: int, batch_size: int, start: int, stop: int, symmetry: str, dtype
) -> Iterator[Batch]:
    """Batches `start` to `stop` − 1. Every epoch has a new order; its incomplete last batch is left out.

    batch_size: images a step over all processes, at most the number of images.
    """
    trained, partners = SYMMETRY[symmetry]
    num_views = len(set(trained + partners))
    num_images = len(data.images)
    per_epoch = num_images // batch_size
    order, epoch = torch.empty(0), -1
    for step in range(start, stop):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(num_images, generator=generator(seed, IDS, epoch))
        first = step % per_epoch * batch_size
        ids = order[first : first + batch_size]
        draw = _drawer(data, ids, dtype, generator(seed, VIEWS, step))
        x = draw(num_views)
        yield Batch(
            step,
            shard(ids).to(data.images.device),
            x,
            trained,
            partners,
            x[list(partners)],
            _drawer(data, ids, dtype, generator(seed, ETA, step)),
            num_images,
            gather,
        )


def _drawer(data: ImageSet, ids: Tensor, dtype, rng: Generator) -> Callable[[int], Tensor]:
    """draw(n): n new views of this process's images. Draws are made for all images, so any number of ranks agrees."""
    images = data.images[shard(ids).to(data.images.device)]

    def draw(n: int) -> Tensor:
        everyone = views.sample(data.recipe, n * len(ids), data.shape, rng)
        mine = everyone.map(lambda field: shard(field.unflatten(0, (n, len(ids))), axis=1).flatten(0, 1))
        x = data.normalise(views.apply(images.repeat(n, 1, 1, 1), mine))
        return x.unflatten(0, (n, len(images))).to(dtype)

    return draw


def probe(data: ImageSet, n: int, dtype) -> Tensor:
    """[n, P, C, H, W]: n views of min(512, N) training images, the same images and draws in every run."""
    ids = torch.randperm(len(data.images), generator=generator(0, IDS))[:PROBE_SIZE]
    images = data.images[ids.to(data.images.device)]
    draw = views.sample(data.recipe, n * len(ids), data.shape, generator(0, VIEWS))
    return data.normalise(views.apply(images.repeat(n, 1, 1, 1), draw)).unflatten(0, (n, len(ids))).to(dtype)
