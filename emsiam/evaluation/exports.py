"""How does a backbone leave? As a state dict under torchvision's or Detectron2's names, with what feeds it."""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError
from ..files import replacing
from ..networks import is_resnet
from .backbones import CARRIED, LoadedBackbone


def about(encoder: LoadedBackbone) -> dict[str, Any]:
    """What feeds a backbone: arch, stem and its padding, channels, side in pixels (height and width where they are not
    equal), mean and std of pixels in [0, 1]. None where its file does not say.
    """
    origin, (_, height, width) = encoder.origin, encoder.shape
    cifar = origin["stem"] == "cifar"
    return {
        "arch": origin["arch"],
        "stem": origin["stem"],
        "stem_padding": origin.get("stem_padding", 1 if cifar else None),
        "channels": encoder.shape[0],
        "image_size": (height if height == width else [height, width]) if encoder.sized else None,
        "mean": None if encoder.mean is None else encoder.mean.flatten().tolist(),
        "std": None if encoder.std is None else encoder.std.flatten().tolist(),
    }


def write(encoder: LoadedBackbone, out: Path) -> dict[str, Any]:
    """A state dict whose `_metadata[""]["emsiam"]` is `about`, which is returned. Raises OSError."""
    said, given = about(encoder), encoder.backbone.get_submodule("trunk").state_dict()
    state = OrderedDict((name, x.clone().contiguous()) for name, x in given.items())
    state._metadata = given._metadata  # type: ignore[attr-defined]  # as Module.state_dict sets it, and torch.save keeps
    state._metadata[""][CARRIED] = said  # type: ignore[attr-defined]  # likewise
    with replacing(out) as new:
        torch.save(state, new)
    return said


def write_detectron2(encoder: LoadedBackbone, out: Path) -> int:
    """A pickle for MODEL.WEIGHTS; how many arrays. Raises ConfigError where it is no ResNet of theirs, OSError."""
    name, state = encoder.origin["arch"], encoder.backbone.get_submodule("trunk").state_dict()
    first = state.get("conv1.weight")
    if not is_resnet(name) or first is None or first.shape[-1] != 7:
        what = encoder.origin["from"]
        raise ConfigError(f"{what}: --detectron2 takes ResNets with the ImageNet stem, this is {name}")
    model = {detectron2_name(key): x.numpy() for key, x in state.items() if "num_batches" not in key}
    with replacing(out) as new:
        new.write_bytes(pickle.dumps({"model": model, "__author__": "emsiam", "matching_heuristics": True}))
    return len(model)


def detectron2_name(key: str) -> str:
    """torchvision's name of a ResNet's weight as Detectron2's, which has the stage conv2 for layer1 and so on."""
    stage = re.match(r"layer(\d)", key)
    key = f"res{int(stage[1]) + 1}{key[stage.end() :]}" if stage else f"stem.{key}"
    key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return re.sub(r"\bbn(\d)\.", r"conv\1.norm.", key)
