"""Whose network is in this file? Backbones from our runs and from others' checkpoints. Nothing in a file is run."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import networks
from .config import Config, ConfigError, nearest
from .run import build, load_checkpoint, load_run

# How others name the encoder inside a state dict: official SimSiam, MoCo, solo-learn and lightly, and bare torchvision.
PREFIXES = ("module.encoder.", "module.encoder_q.", "module.base_encoder.", "backbone.", "encoder.", "module.", "")
HEADS = ("fc.", "classifier.", "head.", "heads.")  # what follows the features, a projector included


class Encoder(NamedTuple):
    """A backbone to evaluate: views [B, C, H, W], normalised, to features [B, f]; in eval mode."""

    backbone: networks.Backbone
    shape: tuple[int, int, int]  # of the images it was trained on; of others' checkpoints, of those it will see
    config: Config | None  # of our run
    told: dict[str, Any]  # what it is and where it is from


def load_encoder(path: str, arch: str | None = None, side: int = 224) -> Encoder:
    """The backbone of a run's directory, of one of our checkpoints, an official SimSiam `.pth.tar`, a solo-learn
    `.ckpt`, or a torchvision state dict.

    arch: a torchvision classifier's name, for files that do not say. side: of the images it will see, pixels.
    Raises ConfigError where the file is not to be read safely, or is not of that network.
    """
    if Path(path).is_dir():
        run = load_run(path)
        saved = load_checkpoint(run.path)
        if saved is None:
            raise ConfigError(f"{path}: has no checkpoint yet")
    else:
        saved = _read(path)
    if {"net", "config", "shape"} <= saved.keys():
        config = Config(**saved["config"])
        net = build(config, saved["shape"])
        net.load_state_dict(saved["net"])
        told = {"from": path, "kind": "emsiam", "arch": config.arch, "steps": saved["step"]}
        return Encoder(net.F.backbone.eval(), tuple(saved["shape"]), config, told)
    arch = arch or saved.get("arch")
    if not isinstance(arch, str):
        raise ConfigError(f"{path}: does not say of which network it is; add --arch, such as --arch resnet50")
    if arch == "tiny" or arch not in networks.archs():
        raise ConfigError(f"--arch {arch}: allowed is a torchvision classifier{nearest(arch, networks.archs())}")
    weights, prefix = _weights(path, saved.get("state_dict", saved), arch)
    return _foreign(path, arch, weights, prefix, side)


def _read(path: str) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file or run") from None
    except pickle.UnpicklingError as error:
        what = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL" in str(error) else "what is no tensor"
        raise ConfigError(
            f"{path}: holds {what}, which could run code, and is not loaded; save its state_dict alone"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]})") from None
    if not isinstance(saved, dict):
        raise ConfigError(f"{path}: holds a {type(saved).__name__}, allowed is a checkpoint or a state dict")
    return saved


def _weights(path: str, state: Any, arch: str) -> tuple[dict[str, Tensor], str]:
    """The backbone's part of a state dict under torchvision's names, and the prefix that it had."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ConfigError(f"{path}: has no state dict")
    tensors = {name: x for name, x in state.items() if isinstance(x, Tensor)}
    plain = {"aux_logits": False, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        names = set(networks.torchvision.models.get_model(arch, weights=None, **plain).state_dict())
    found = Counter({p: sum(p + name in tensors for name in names) for p in PREFIXES})
    prefix, number = found.most_common(1)[0]
    if not number:
        some = ", ".join(list(tensors)[:3])
        raise ConfigError(f"{path}: holds no weights of {arch} (it has {some or 'no tensors'} …)")
    own = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    return {name: x for name, x in own.items() if not name.startswith(HEADS)}, prefix


def _foreign(path: str, arch: str, weights: dict[str, Tensor], prefix: str, side: int) -> Encoder:
    first = weights.get("conv1.weight")
    cifar = networks.is_resnet(arch) and first is not None and first.shape[-1] == 3
    try:
        backbone, _ = networks.build_backbone(arch, "cifar" if cifar else None, (3, side, side))
        missing, unexpected = backbone.trunk.load_state_dict(weights, strict=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: is not of --arch {arch} ({' '.join(str(error).split())[:160]})") from None
    odd = [name for name in (*missing, *unexpected) if not name.startswith(HEADS) and "num_batches" not in name]
    if odd:
        raise ConfigError(f"{path}: is not of --arch {arch} ({odd[0]} and {len(odd) - 1} other weights do not match)")
    told = {"from": path, "kind": f"state dict, names after {prefix!r}", "arch": arch, "stem": "cifar" if cifar else ""}
    return Encoder(backbone.eval(), (3, side, side), None, told)
