"""Whose network is in this file? Backbones from our runs and from others' checkpoints. Nothing in a file is run."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import networks
from ..build import network
from ..checkpoint import Checkpoint, load_checkpoint, read
from ..config import Config
from ..errors import ConfigError, Damaged, nearest
from ..runs.run import load_run

# How others name the encoder inside a state dict: SimSiam, MoCo and SwAV, solo-learn and lightly, and bare torchvision.
PREFIXES = (
    *("module.backbone.", "module.encoder.", "module.encoder_q.", "module.base_encoder."),
    *("backbone.", "encoder.", "module.", ""),
)
PADDED = "conv1 padded by 2 as in solo-learn"
SEQUENTIAL = ", numbered as in nn.Sequential"
# What follows the features, a projector included.
HEADS = (
    *("fc.", "classifier.", "head.", "heads."),
    *("projection_head.", "projector.", "predictor.", "prototypes."),
)


class LoadedBackbone(NamedTuple):
    """A backbone to evaluate: views [B, C, H, W], normalised, to features [B, f]; in eval mode."""

    backbone: networks.Backbone
    shape: tuple[int, int, int]  # of the images it was trained on; of others' checkpoints, of those it will see
    config: Config | None  # of our run
    origin: dict[str, Any]  # what it is and where it is from


def load_backbone(path: str, arch: str | None = None, side: int = 224) -> LoadedBackbone:
    """The backbone of a run's directory, of one of our checkpoints, an official SimSiam `.pth.tar`, a solo-learn or
    lightly `.ckpt`, or a torchvision state dict, alone or as "state_dict" or "model" of what was saved.

    arch: a torchvision classifier's name, for files that do not say. side: of the images it will see, pixels.
    Raises ConfigError where the file is not to be read safely, or is not of that network.
    """
    path = os.path.expanduser(path)
    if Path(path).is_dir():
        run = load_run(path)
        ours = load_checkpoint(run.path)
        if ours is None:
            raise ConfigError(f"{path}: has no checkpoint yet")
        return _own(path, ours, arch)
    saved = _read(path)
    if {"net", "config", "shape"} <= saved.keys():
        try:
            return _own(path, Checkpoint.of(saved), arch)
        except Damaged as error:
            raise ConfigError(f"{path}: {error}") from None
    arch = arch or saved.get("arch")
    if not isinstance(arch, str):
        raise ConfigError(f"{path}: does not say of which network it is; add --arch, such as --arch resnet50")
    theirs = networks.archs()[1:]  # without tiny
    if arch not in theirs:
        raise ConfigError(f"--arch {arch}: allowed is a torchvision classifier{nearest(arch, theirs)}")
    weights, kind = _weights(path, saved.get("state_dict", saved.get("model", saved)), arch)
    return _foreign(path, arch, weights, kind, side)


def _own(path: str, saved: Checkpoint, arch: str | None) -> LoadedBackbone:
    """The backbone of one of our checkpoints."""
    if arch:
        raise ConfigError(f"--arch {arch}: {path} says itself of which network it is")
    config = Config(**saved.config)
    net = network(config, saved.shape)
    saved.fill(net, path)
    origin = {"from": path, "kind": "emsiam", "arch": config.arch, "steps": saved.step}
    return LoadedBackbone(net.F.backbone.eval(), saved.shape, config, origin)


def _read(path: str) -> dict[str, Any]:
    try:
        saved = read(Path(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file or run") from None
    except Damaged as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"{path}: holds a {type(saved).__name__}, allowed is a checkpoint or a state dict")
    return saved


def _weights(path: str, state: Any, arch: str) -> tuple[dict[str, Tensor], str]:
    """The backbone's part of a state dict under torchvision's names, and how it was named."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ConfigError(f"{path}: has no state dict")
    tensors = {name: x for name, x in state.items() if isinstance(x, Tensor)}
    from torchvision import models

    plain = {"aux_logits": False, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        net = models.get_model(arch, weights=None, **plain)
    children = [name for name, _ in net.named_children()]
    for kind, named in (("", tensors), (SEQUENTIAL, {_own_name(name, children): x for name, x in tensors.items()})):
        matching = Counter({p: sum(p + name in named for name in net.state_dict()) for p in PREFIXES})
        prefix, number = matching.most_common(1)[0]
        if number:
            weights = {name.removeprefix(prefix): x for name, x in named.items() if name.startswith(prefix)}
            naming = f"state dict, names after {prefix!r}" + kind
            return {name: x for name, x in weights.items() if not name.startswith(HEADS)}, naming
    some = ", ".join(list(state)[:3])
    raise ConfigError(f"{path}: holds no weights of {arch} (it has {some or 'nothing'} …)")


def _own_name(name: str, children: list[str]) -> str:
    """A weight's name in nn.Sequential(*net.children()), as lightly's examples have it, as the network's own."""
    numbered = re.match(r"(\D*)(\d+)\.", name)
    if not numbered or int(numbered[2]) >= len(children):
        return name
    return f"{numbered[1]}{children[int(numbered[2])]}.{name[numbered.end() :]}"


def _foreign(path: str, arch: str, weights: dict[str, Tensor], kind: str, side: int) -> LoadedBackbone:
    first = weights.get("conv1.weight")
    cifar = networks.is_resnet(arch) and first is not None and first.shape[-1] == 3
    try:
        backbone, _ = networks.build_backbone(arch, "cifar" if cifar else None, (3, side, side))
        if cifar and kind.endswith("'backbone.'"):  # solo-learn has another CIFAR stem than the paper
            conv1 = backbone.trunk.get_submodule("conv1")
            assert isinstance(conv1, nn.Conv2d)
            conv1.padding = (2, 2)
            kind += f", {PADDED}"
        missing, unexpected = backbone.trunk.load_state_dict(weights, strict=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: is not of --arch {arch} ({' '.join(str(error).split())[:160]})") from None
    if not all(x.isfinite().all() for x in weights.values() if x.is_floating_point()):
        raise ConfigError(f"{path}: holds weights that are not finite")
    odd = [name for name in (*missing, *unexpected) if not name.startswith(HEADS) and "num_batches" not in name]
    if odd:
        raise ConfigError(f"{path}: is not of --arch {arch} ({odd[0]} and {len(odd) - 1} other weights do not match)")
    origin = {"from": path, "kind": kind, "arch": arch, "stem": "cifar" if cifar else ""}
    return LoadedBackbone(backbone.eval(), (3, side, side), None, origin)
