"""What does a frozen backbone make of images? They are shown to it as it is used to see them."""

import hashlib
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import embedding, processor, ranks
from ..config import Config
from ..config.resolution import load_images
from ..data.folders import Files
from ..data.images import ImageSet
from ..data.sets import DATASETS, IMAGENET
from ..errors import ConfigError, one_line
from ..traits import hyperparameters
from .backbones import LoadedBackbone
from .classifiers import stacked

PART = 512  # images per pass


# ImageNet's validation images are resized to 256 pixels and cropped to 224, a linear classifier's crops have 0.08 to 1
# of an image: facebookresearch/simsiam, main_lincls.py
LARGE = 64  # side, pixels
MARGIN = (1 - 224 / 256) / 2
CROPS = (0.08, 1.0)


class WhichImages(NamedTuple):
    """The images to show; None: as the file says. option: the flag by which a command takes `dataset`."""

    dataset: str | None = None
    data_dir: str | None = None
    download: bool = False
    image_size: int | None = None  # side in pixels of what others' networks see
    option: str = "--dataset"


class Prepared(NamedTuple):
    """An encoder, on a device, and images to show it."""

    encoder: LoadedBackbone
    data: ImageSet
    shown: str  # how they are cropped and normalised, and where they may not be what one thinks, in words
    width: int  # f, of features


def prepared(encoder: LoadedBackbone, asked: WhichImages) -> Prepared:
    """An encoder, and images as it is used to see them. Raises ConfigError where it does not take them."""
    config, as_imagenet = encoder.config, not encoder.sized and not encoder.origin["stem"]
    if asked.image_size and encoder.sized and config is None:
        raise ConfigError(f"--image-size {asked.image_size}: an export sees images at the size it was trained on")
    data = _load(config, asked, as_imagenet)
    data.check_alike()
    if ranks.joined:
        ranks.check_told({"the weights": _digest(encoder.backbone)})
    if data.classes is not None:
        data = data._replace(labelled=data.images, labels=data.classes)  # all, where the monitor has a part
    if not encoder.sized:
        side = asked.image_size or data.shape[1]
        encoder = encoder._replace(shape=(3, side, side))
    channels, height, width = encoder.shape
    size = f"{data.shape[1]}×{data.shape[2]}"
    shown = [f"{height}×{width}" + (f", resized from {size}" if data.shape[1:] != (height, width) else "")]
    if channels < data.shape[0]:
        shown.append("made grey")
    of_run = config is not None and config.dataset == data.name and asked.data_dir in (None, config.data_dir)
    if of_run and data.digest != encoder.files:
        shown.append("not the images that the run began with, so that some tested on may have been trained on")
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
    if encoder.mean is not None and encoder.std is not None:
        data = data._replace(mean=encoder.mean, std=encoder.std)
        shown.append("normalised as in training")
    elif of_run:
        shown.append("normalised as in training")
    else:
        large = as_imagenet or isinstance(data.images, Files)
        shown.append("normalised as ImageNet" if large else "normalised by their mean and std")
    processor.for_measuring()
    device = torch.device(processor.best())
    (encoder.whole or encoder.backbone).to(memory_format=torch.channels_last).to(device)
    return Prepared(encoder, data.to(device), ", ".join(shown), _width(encoder))


def _digest(net: nn.Module) -> str:
    """SHA-256 of a network's weights and buffers, in hexadecimal."""
    seen = hashlib.sha256()
    for x in net.state_dict().values():
        seen.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return seen.hexdigest()


def _width(encoder: LoadedBackbone) -> int:
    """How many features it has. Raises ConfigError where it does not take images of its shape."""
    backbone = encoder.backbone
    try:
        with torch.no_grad():
            return backbone(torch.zeros(1, *encoder.shape).to(next(backbone.parameters()))).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        size = f"{encoder.shape[1]}×{encoder.shape[2]}"
        what = encoder.origin["from"]
        raise ConfigError(f"{what}: does not take images of {size} ({one_line(error)}); add --image-size") from None


def _load(config: Config | None, asked: WhichImages, as_imagenet: bool) -> ImageSet:
    """as_imagenet: images in a folder are read from their files, however few they are."""
    dataset = asked.dataset or (config.dataset if config else None)
    if asked.data_dir and not asked.dataset and not (dataset and "data_dir" in hyperparameters(DATASETS[dataset])):
        dataset = "folder"
    if dataset == "given":
        raise ConfigError(f"the run's images were handed over to it; --data-dir or {asked.option}: others")
    if dataset is None:
        raise ConfigError(f"{asked.option}: which images? the file does not say; or --data-dir, a folder of them")
    place: dict[str, Any] = {"data_dir": asked.data_dir} if asked.data_dir else {}
    place |= {"download": True} if asked.download else {}
    if asked.image_size and config is not None:
        raise ConfigError(f"--image-size {asked.image_size}: a run sees images at the size it was trained on")
    if config is None or config.dataset != dataset:
        folder: dict[str, Any] = {"image_size": asked.image_size, "workers": processor.own() if as_imagenet else None}
        wanted = Config(dataset=dataset, **place, **(folder if dataset == "folder" else {}))
    else:
        wanted = replace(config, **place, augment=None, labels=None if asked.data_dir else config.labels)
    try:
        _, data, notes = load_images(wanted)
        if unused := [note for note in notes if note not in data.notes]:
            raise ConfigError(unused[0])
    except ConfigError as error:
        raise ConfigError(str(error).replace("--dataset", asked.option, 1)) from None
    return data


def as_trained_on(encoder: LoadedBackbone, x: Tensor) -> Tensor:
    """Normalised images [B, C, H, W] as the encoder takes them: its channels, and the size it was trained on."""
    return embedding.shown(x, encoder.shape).to(next(encoder.backbone.parameters()))


@torch.no_grad()
def features(encoder: LoadedBackbone, data: ImageSet, images: Any) -> Tensor:
    """[N, f] of images as they are."""

    if not len(images):
        raise ConfigError(f"{data.name}: has no images to be shown here")

    def seen(ids: Tensor) -> tuple[Tensor]:
        return (encoder.backbone(as_trained_on(encoder, data.normalise(images[ids]))),)

    return stacked(ranks.divided(torch.arange(len(images)).split(PART), seen), len(images))[0]
