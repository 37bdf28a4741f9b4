"""Which images does a user hand over? Arrays, tensors and map-style Datasets become a data set in memory."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, refuse
from .folders import rgb
from .images import ImageSet
from .sets import image_set, recipe_of
from .tree import every_fifth, some

CHANNELS = (1, 3)
SHAPES = "[N, H, W], [N, H, W, C] or [N, C, H, W], with 1 or 3 channels C"
TYPES = "allowed is uint8, or floats from 0 to 1"


def handed_over(images: Any, labels: Any = None, *, use: bool | None = None) -> ImageSet:
    """A data set of images that are handed over, see `pixels`; T is that of a `folder`.

    labels: N whole numbers or names, in place of a Dataset's own; classes are their distinct values, sorted. Every
    fifth image is then left out of training, to test. Without two classes all are trained on, and where `use`, the
    option `labels`, is False. Raises ConfigError, also where it is True and there are no classes.
    """
    if images is None:
        raise ConfigError("labels: are given, but no images")
    x, found = pixels(images)
    classes = None if use is False else _classes(found if labels is None else labels, len(x))
    if use and classes is None:
        refuse("labels", True, "what is handed over has no labels of two classes or more")
    digest = hashlib.sha256(repr((tuple(x.shape), None if classes is None else len(classes))).encode())
    digest.update(x.numpy().data)
    kept = torch.ones(len(x), dtype=torch.bool)
    if classes is not None:
        digest.update(classes.numpy().data)
        kept = every_fifth(len(x), "images: what is handed over")
    options = {"digest": digest.hexdigest()} | ({"labels": False} if classes is None else {})
    y = torch.zeros(len(x), dtype=torch.int64) if classes is None else classes
    data = image_set("given", recipe_of(max(x.shape[2:])), (x[kept], y[kept]), (x[~kept], y[~kept]))
    data = data._replace(options=options, digest=digest.hexdigest())
    if classes is None:
        said = () if use is False else ("there are no labels, so accuracies are left out",)
        return data.without_labels()._replace(notes=said)
    notes = [f"every fifth of {len(x):,} images is not trained on, but to test"]
    for part, what in ((y[kept], "trained on"), (y[~kept], "to test")):
        if gone := sorted({*y.tolist()} - {*part.tolist()}):
            which = some([str(place) for place in gone])
            notes.append(f"no image of class {which}, counted from 0, is {what}; hand them over in another order")
    return data._replace(notes=tuple(notes))


def pixels(images: Any) -> tuple[Tensor, list[Any] | None]:
    """Images as uint8 [N, C, H, W], and labels where a Dataset's items have them.

    images: a numpy array or a tensor, uint8 or floats in [0, 1], of one of SHAPES; or a map-style Dataset or a list
    of such images, of PIL's, or of (image, label). Floats are rounded to 8 bits. Raises ConfigError.
    """
    labels = None
    if not isinstance(images, np.ndarray | Tensor) or (isinstance(images, np.ndarray) and images.dtype == object):
        images, labels = _stacked(images)
    x = images.detach().cpu() if isinstance(images, Tensor) else _tensor(images)
    if x.ndim and not len(x):
        raise ConfigError("images: there are none")
    if x.ndim == 3:
        if x.shape[2] in CHANNELS or x.shape[0] == 3:
            raise ConfigError(
                f"images: the shape {list(x.shape)} could be one image in colour; allowed is {SHAPES}, so image[None] "
                "for one"
            )
        x = x[:, None]
    elif x.ndim == 4:
        first, last = (x.shape[axis] in CHANNELS for axis in (1, 3))
        if first == last:
            why = "could be read in two ways; allowed is" if first else "is not of"
            raise ConfigError(f"images: the shape {list(x.shape)} {why} {SHAPES}")
        x = x if first else x.permute(0, 3, 1, 2)
    if x.ndim != 4 or not x.numel():
        raise ConfigError(f"images: the shape {list(x.shape)} is not of {SHAPES}")
    if x.is_floating_point():
        low, high = x.aminmax()
        if not (low >= 0 and high <= 1):  # NaN too
            raise ConfigError(f"images: floats from {low:g} to {high:g}; allowed is 0 to 1, or uint8")
        x = torch.cat([(part * 255).round().to(torch.uint8) for part in x.split(4096)])
    if x.dtype != torch.uint8:
        raise ConfigError(f"images: are {str(x.dtype).removeprefix('torch.')}; {TYPES}")
    return x.contiguous(), labels


def _stacked(items: Any) -> tuple[np.ndarray, list[Any] | None]:
    """The images of a Dataset or a list, and its labels."""
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__") or isinstance(items, str | bytes | dict):
        what = type(items).__name__
        raise ConfigError(f"images: is a {what}; allowed is an array, a tensor, or a Dataset with a length")
    if not len(items):
        raise ConfigError("images: there are none")
    images, labels = [], []
    for i in range(len(items)):
        item = items[i]
        image, *rest = item if isinstance(item, tuple | list) else (item,)
        images.append(_array(image, i))
        labels += rest[:1]
        if images[-1].shape != images[0].shape or images[-1].dtype != images[0].dtype:
            one, other = (f"{x.dtype} {list(x.shape)}" for x in (images[0], images[-1]))
            raise ConfigError(f"images: number 0 is {one}, but number {i} is {other}; allowed is one size and type")
    stacked = np.stack(images)
    grey = stacked[:, None] if stacked.ndim == 3 else stacked  # three of them are no image in colour
    return grey, labels if len(labels) == len(images) else None


def _tensor(images: np.ndarray) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("=")))
    except (TypeError, ValueError):  # types that PyTorch does not know
        raise ConfigError(f"images: are {images.dtype}; {TYPES}") from None


def _array(image: Any, number: int) -> np.ndarray:
    from PIL import Image

    if isinstance(image, Image.Image):
        try:
            return np.array(image if image.mode == "L" and not image.has_transparency_data else rgb(image))
        except ValueError as error:
            raise ConfigError(f"images: number {number}: {error}") from None
    if isinstance(image, np.ndarray | Tensor):
        return np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    raise ConfigError(
        f"images: number {number} is a {type(image).__name__}; allowed is an array, a tensor or a PIL image"
    )


def _classes(labels: Any, number: int) -> Tensor | None:
    """[N] positions of classes, sorted; None where there are fewer than two. Raises ConfigError."""
    if labels is None:
        return None
    y = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if y.ndim == 0:
        raise ConfigError(f"labels: is a {type(labels).__name__}; allowed is a list or an array, one for each image")
    if y.shape != (number,):
        raise ConfigError(f"labels: have the shape {list(y.shape)}; allowed is one for each of the {number} images")
    if y.dtype.kind not in "iubUS" and not all(isinstance(name, str) for name in y):
        raise ConfigError(f"labels: are {y.dtype}, the first {y[0]}; allowed are whole numbers, or names")
    classes, positions = np.unique(y, return_inverse=True)
    return torch.as_tensor(positions.astype(np.int64)) if len(classes) > 1 else None
