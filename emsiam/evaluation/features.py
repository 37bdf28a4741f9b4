"""What does a frozen backbone make of images? They are shown to it as it is used to see them."""

import os
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import embedding
from ..config import Config
from ..config.resolution import load_images
from ..data.folders import Files
from ..data.images import ImageSet
from ..data.sets import DATASETS, IMAGENET
from ..errors import ConfigError
from ..methods import hyperparameters
from .backbones import LoadedBackbone
from .classifiers import stacked

PART = 512  # images per pass


# ImageNet's validation images are resized to 256 pixels and cropped to 224, a linear classifier's crops have 0.08 to 1
# of an image: facebookresearch/simsiam, main_lincls.py
LARGE = 64  # side, pixels


MARGIN = (1 - 224 / 256) / 2


CROPS = (0.08, 1.0)


class WhichImages(NamedTuple):
    """The images to show; None: as the file says."""

    dataset: str | None = None
    data_dir: str | None = None
    download: bool = False
    image_size: int | None = None  # side in pixels of what others' networks see


def prepared(encoder: LoadedBackbone, asked: WhichImages) -> tuple[LoadedBackbone, ImageSet, str]:
    """An encoder, images to evaluate it on, cropped and normalised as it is used to, and how that is, in words."""
    config, foreign, said = encoder.config, encoder.config is None, encoder.mean is not None
    as_imagenet = foreign and not encoder.origin["stem"] and not said
    if asked.image_size and said and foreign:
        raise ConfigError(f"--image-size {asked.image_size}: an export sees images at the size it was trained on")
    data = _load(config, asked, as_imagenet)
    if data.classes is not None:
        data = data._replace(labelled=data.images, labels=data.classes)  # all, where the monitor has a part
    if foreign and not said:
        side = asked.image_size or data.shape[1]
        encoder = encoder._replace(shape=(3, side, side))
    channels, side, _ = encoder.shape
    shown = [f"{side}×{side}" + (f", resized from {data.shape[1]}" if data.shape[1] != side else "")]
    if channels < data.shape[0]:
        shown.append("made grey")
    if isinstance(data.images, Files) and data.shape[1] > LARGE:
        parts = (data.images, data.labelled, data.test_images)
        images, labelled, tested = (part.without(MARGIN) if isinstance(part, Files) else part for part in parts)
        recipe = data.recipe._replace(scale=CROPS)
        data = data._replace(images=images, labelled=labelled, test_images=tested, recipe=recipe)
        shown.append("centre crop as of 224 pixels from 256")
    elif data.name == "folder":
        shown.append("centre square")
    if as_imagenet:
        data = data._replace(mean=IMAGENET[0, :, None, None], std=IMAGENET[1, :, None, None])
    if foreign and encoder.mean is not None and encoder.std is not None:
        data = data._replace(mean=encoder.mean, std=encoder.std)
        shown.append("normalised as in training")
    elif config is not None and config.dataset == data.name and asked.data_dir in (None, config.data_dir):
        shown.append("normalised as in training")
    else:
        large = as_imagenet or isinstance(data.images, Files)
        shown.append("normalised as ImageNet" if large else "normalised by their mean and std")
    return encoder, data, ", ".join(shown)


def _load(config: Config | None, asked: WhichImages, as_imagenet: bool) -> ImageSet:
    """as_imagenet: images in a folder are read from their files, however few they are."""
    dataset = asked.dataset or (config.dataset if config else None)
    if asked.data_dir and not asked.dataset and not (dataset and "data_dir" in hyperparameters(DATASETS[dataset])):
        dataset = "folder"
    if dataset == "given":
        raise ConfigError(
            "the run's images were handed over to it; --data-dir or --dataset (evaluate: --eval-dataset): others"
        )
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
        wanted = replace(config, **place, augment=None, labels=None if asked.data_dir else config.labels)
    _, data, notes = load_images(wanted)
    if unused := [note for note in notes if note not in data.notes]:
        raise ConfigError(unused[0])
    return data


def as_trained_on(encoder: LoadedBackbone, x: Tensor) -> Tensor:
    """Normalised images [B, C, H, W] as the encoder takes them: its channels, and the size it was trained on."""
    return embedding.shown(x, encoder.shape).to(next(encoder.backbone.parameters()))


@torch.no_grad()
def features(encoder: LoadedBackbone, data: ImageSet, images: Any) -> Tensor:
    """[N, f] of images as they are."""
    parts = torch.arange(len(images)).split(PART)
    seen = (encoder.backbone(as_trained_on(encoder, data.normalise(images[ids]))) for ids in parts)
    return stacked(seen, len(images))
