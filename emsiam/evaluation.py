"""How good are features? An encoder and images in, a task's result out: `emsiam.evaluate` is the command."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

from . import probes
from .checkpoints import Encoder, load_encoder
from .config import Config
from .config.resolution import load_images
from .data import IMAGENET, ImageSet
from .errors import ConfigError, one_line
from .folders import Files
from .recipes import Recipe

PART = 512  # images per pass
QUERIES = 2048  # per pass of kNN
# ImageNet's validation images are resized to 256 pixels and cropped to 224, a linear classifier's crops have 0.08 to 1
# of an image: facebookresearch/simsiam, main_lincls.py
LARGE = 64  # side, pixels
MARGIN = (1 - 224 / 256) / 2
CROPS = (0.08, 1.0)


class Asked(NamedTuple):
    """Which network of a file, and which images to evaluate it on; None: as the file says."""

    arch: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    download: bool = False
    image_size: int | None = None  # side in pixels of what others' networks see


def evaluate(task: str, what: str, asked: Asked, **parameters: Any) -> dict[str, Any]:
    """The result of a task as a dictionary; parameters: those that the task takes. Raises as `emsiam.evaluate`."""
    encoder, data, shown = prepared(load_encoder(what, asked.arch), asked)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone, data = encoder.backbone.to(memory_format=torch.channels_last).to(device), data.to(device)
    try:
        with torch.no_grad():
            width = backbone(torch.zeros(1, *encoder.shape).to(next(backbone.parameters()))).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        size = f"{encoder.shape[1]}×{encoder.shape[2]}"
        raise ConfigError(f"{what}: does not take images of {size} ({one_line(error)}); add --image-size") from None
    head = {"task": task, "encoder": encoder.told, "dataset": data.name, "test_images": len(data.test_images)}
    told = f"{width} features before the last layer, eval mode; images {shown}"
    return head | {"features": told, "side": encoder.shape[1]} | TASKS[task](encoder, data, **parameters)


def prepared(encoder: Encoder, asked: Asked) -> tuple[Encoder, ImageSet, str]:
    """An encoder, images to evaluate it on, cropped and normalised as it is used to, and how that is, in words."""
    config, foreign = encoder.config, encoder.config is None
    as_imagenet = foreign and not encoder.told["stem"]
    data = _load(config, asked, as_imagenet)
    if data.classes is not None:
        data = data._replace(labelled=data.images, labels=data.classes)  # all, where the monitor has a part
    if foreign:
        side = asked.image_size or data.shape[1]
        encoder = encoder._replace(shape=(3, side, side))
    channels, side, _ = encoder.shape
    shown = [f"{side}×{side}" + (f", resized from {data.shape[1]}" if data.shape[1] != side else "")]
    if channels < data.shape[0]:
        shown.append("made grey")
    if isinstance(data.images, Files) and data.shape[1] > LARGE:
        inner = {name: getattr(data, name).without(MARGIN) for name in ("labelled", "test_images")}
        data = data._replace(**inner, recipe=data.recipe._replace(scale=CROPS))
        shown.append("centre crop as of 224 pixels from 256")
    elif data.name == "folder":
        shown.append("centre square")
    if as_imagenet:
        data = data._replace(mean=IMAGENET[0, :, None, None], std=IMAGENET[1, :, None, None])
    if config is not None and config.dataset == data.name and asked.data_dir in (None, config.data_dir):
        shown.append("normalised as in training")
    else:
        large = as_imagenet or isinstance(data.images, Files)
        shown.append("normalised as ImageNet" if large else "normalised by their mean and std")
    return encoder, data, ", ".join(shown)


def _load(config: Config | None, asked: Asked, as_imagenet: bool) -> ImageSet:
    """as_imagenet: images in a folder are read from their files, however few they are."""
    dataset = asked.dataset or (config.dataset if config else None)
    if dataset is None:
        raise ConfigError("--eval-dataset: which images? the file does not say")
    place: dict[str, Any] = {"data_dir": asked.data_dir} if asked.data_dir else {}
    place |= {"download": True} if asked.download else {}
    if asked.image_size and config is not None:
        raise ConfigError(f"--image-size {asked.image_size}: a run sees images at the size it was trained on")
    if config is None or config.dataset != dataset:
        folder: dict[str, Any] = {"image_size": asked.image_size, "workers": os.cpu_count() if as_imagenet else None}
        wanted = Config(dataset=dataset, **place, **(folder if dataset == "folder" else {}))
    else:
        wanted = replace(config, **place, augment=None)
    _, data, unused = load_images(wanted)
    if unused:
        raise ConfigError(unused[0])
    return data


def seen(encoder: Encoder, x: Tensor) -> Tensor:
    """Normalised images [B, C, H, W] as the encoder takes them: its channels, and the size it was trained on."""
    channels, side, _ = encoder.shape
    if channels < x.shape[1]:
        x = x.mean(1, keepdim=True)
    if x.shape[-1] != side:
        x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
    return x.to(next(encoder.backbone.parameters()))


@torch.no_grad()
def features(encoder: Encoder, data: ImageSet, images: Any) -> Tensor:
    """[N, f] of images as they are."""
    parts = torch.arange(len(images)).split(PART)
    return torch.cat([encoder.backbone(seen(encoder, data.normalise(images[ids]))) for ids in parts])


def knn(encoder: Encoder, data: ImageSet, *, knn_k: int = 20, knn_t: float = 0.1) -> dict[str, Any]:
    """k nearest neighbours by cosine. Test images among the training images."""
    z, queries = features(encoder, data, data.labelled), features(encoder, data, data.test_images)
    k, t = knn_k, knn_t
    if k > len(z):
        raise ConfigError(f"--knn-k {k}: allowed is at most {len(z)}, the training images")
    parts = queries.split(QUERIES)
    votes = [probes.knn_votes(z, data.labels, q, k=k, t=t, num_classes=data.num_classes) for q in parts]
    return _scores(torch.cat(votes), data) | {"settings": f"k {k}, T {t:g}, {len(z):,} training images"}


def linear(
    encoder: Encoder, data: ImageSet, *, protocol: str = probes.EXACT, epochs: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """linear classification of frozen features."""
    queries = features(encoder, data, data.test_images)
    if protocol == probes.EXACT:
        scores, c = probes.logistic(features(encoder, data, data.labelled), data.labels, queries, seed=seed)
        chosen = f"logistic regression, L-BFGS, C {c:g} by a fifth of the training images, kept aside"
        return _scores(scores, data) | {"settings": chosen}
    p = probes.PROTOCOLS[protocol]
    p = p._replace(epochs=epochs or p.epochs)
    trained = probes.train_linear(_views(encoder, data), data.labels, queries.shape[1], data.num_classes, p, seed=seed)
    best = -math.inf
    for layer in trained:
        with torch.no_grad():
            scores = layer(queries)
        best = max(best, probes.score(scores, data.test_labels).acc1)
    size = min(p.batch_size, len(data.labels))
    steps = f"{p.epochs} epochs of {-(-len(data.labels) // size)} steps"
    said = f"{protocol}, base lr {p.lr:g}, batch {size}, {steps}, cosine, crops and flips"
    return _scores(scores, data) | {"acc1_best": best, "settings": said}


def _views(encoder: Encoder, data: ImageSet) -> Callable[[Tensor, Generator], Tensor]:
    """Features of new crops and flips of training images."""
    r = data.recipe
    plain = data._replace(images=data.labelled, recipe=Recipe(scale=r.scale, ratio=r.ratio, flip=r.flip))

    @torch.no_grad()
    def views(ids: Tensor, rng: Generator) -> Tensor:
        # all at once, so that files are read while the network works
        asked = [plain.ask(part, plain.sample(part, 1, rng), 1, torch.float32) for part in ids.split(PART)]
        return torch.cat([encoder.backbone(seen(encoder, x[0])).float() for x in (answer() for answer in asked)])

    return views


def few_shot(encoder: Encoder, data: ImageSet, *, ways: int = 5, shots: int = 1, seed: int = 0) -> dict[str, Any]:
    """n-way k-shot episodes on test images, by the nearest class mean. Nothing is trained."""
    z = features(encoder, data, data.test_images)
    found = probes.episodes(z, data.test_labels, ways=ways, shots=shots, seed=seed)
    half = 1.96 * found.std(ddof=1) / math.sqrt(len(found))
    settings = f"{ways}-way {shots}-shot, {len(found)} episodes, cosine to class means, test images"
    return {"acc1": float(found.mean()), "half_interval": float(half), "settings": settings}


def verify(encoder: Encoder, data: ImageSet, *, seed: int = 0) -> dict[str, Any]:
    """are two test images of one class? ROC-AUC of their cosine."""
    z = features(encoder, data, data.test_images)
    auc = probes.verification(z, data.test_labels, seed=seed)
    return {"roc_auc": auc, "settings": "cosine of pairs of test images, half of them of one class"}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"knn": knn, "linear": linear, "episodes": few_shot, "verify": verify}


def _scores(scores: Tensor, data: ImageSet) -> dict[str, Any]:
    return probes.score(scores, data.test_labels)._asdict()
