"""Whose network is in this file? Backbones from our runs and from others' checkpoints. Nothing in a file is run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import networks
from ..build import network
from ..checkpoint import Checkpoint, load_checkpoint, read
from ..config import Config
from ..errors import ConfigError, Damaged, nearest, refuse
from ..runs.run import load_run
from .heads import Heads, heads
from .layouts import Place, find

CARRIED = "emsiam"  # where an export of ours says what feeds it, see `exports.about`


LAYERS = {  # of which features may be taken, and what they are
    "backbone": "features before the last layer",
    "hidden": "features before the projector's last layer",
    "z": "channels of z",
    "p": "channels of p",
}


class WhichNetwork(NamedTuple):
    """What is said of a file that does not say it; None: as the file says."""

    arch: str | None = None  # a torchvision classifier
    weights: str | None = None  # part of the name that a network has in a file with several
    stem_padding: int | None = None  # of config.STEM_PADDINGS


class LoadedBackbone(NamedTuple):
    """A backbone to evaluate: views [B, C, H, W], normalised, to features [B, f]; in eval mode."""

    backbone: nn.Module  # `networks.Backbone`, or more, see `at`
    shape: tuple[int, int, int]  # of the images it was trained on, or will see where its file does not say (`sized`)
    config: Config | None  # of our run
    origin: dict[str, Any]  # what it is and where it is from
    mean: Tensor | None = None  # [C, 1, 1] of the pixels in [0, 1] that it was trained on, where the file says them
    std: Tensor | None = None
    whole: networks.Siamese | None = None  # of our run: F and h
    sized: bool = True
    heads: Heads = Heads()  # of somebody else's checkpoint
    files: str = ""  # digest of the images that our run was trained on


def load_backbone(path: str, which: WhichNetwork | None = None, side: int = 224) -> LoadedBackbone:
    """The backbone of a run's directory, of one of our checkpoints or exports, or of anybody's checkpoint of a
    torchvision classifier, under whatever names it stands there.

    side: of the images it will see, pixels. Raises ConfigError where the file is not to be read safely, is not of that
    network, or has several and none is chosen.
    """
    which = which or WhichNetwork()
    path = os.path.expanduser(path)
    if Path(path).is_dir():
        run = load_run(path)
        ours = load_checkpoint(run.path)
        if ours is None:
            raise ConfigError(f"{path}: has no checkpoint yet")
        return _own(path, ours, which)
    saved = _read(path)
    if {"net", "config", "shape"} <= saved.keys():
        try:
            return _own(path, Checkpoint.of(saved), which)
        except Damaged as error:
            raise ConfigError(f"{path}: {error}") from None
    carried = getattr(saved, "_metadata", {}).get("", {}).get(CARRIED)
    if carried:
        return _exported(path, saved, carried, which, side)
    arch = which.arch or saved.get("arch")
    if not isinstance(arch, str):
        raise ConfigError(f"{path}: does not say of which network it is; add --arch, such as --arch resnet50")
    theirs = networks.archs()[1:]  # without tiny
    if arch not in theirs:
        raise ConfigError(f"--arch {arch}: allowed is a torchvision classifier{nearest(arch, theirs)}")
    return _foreign(path, saved, arch, which, side)


def at(layer: str, encoder: LoadedBackbone) -> LoadedBackbone:
    """The network up to one of LAYERS in the backbone's place. Raises ConfigError where it has no such layer."""
    if layer == "backbone":
        return encoder
    net, what = encoder.whole, encoder.origin["from"]
    if net is None:
        refuse("features", layer, f"{what} holds a backbone alone; runs and their checkpoints have F and h")
    projector = list(net.F.projector.children())
    last = max(i for i, module in enumerate(projector) if isinstance(module, nn.Linear))
    if layer == "hidden" and not last:
        refuse("features", layer, f"the projector of {what} has one layer")
    if layer == "p" and isinstance(net.h, nn.Identity):
        refuse("features", layer, f"{what} has no predictor, so p is z")
    after = {"hidden": projector[:last], "z": [*projector, net.F.prototypes]}
    after["p"] = [*projector, net.h, net.F.prototypes]
    return encoder._replace(backbone=nn.Sequential(encoder.backbone, *after[layer]))


def _own(path: str, saved: Checkpoint, which: WhichNetwork) -> LoadedBackbone:
    """The backbone of one of our checkpoints."""
    _refuse(path, which)
    config = Config(**saved.config)
    net = network(config, saved.shape)
    saved.fill(net, path)
    origin = {"from": path, "kind": "emsiam", "arch": config.arch, "steps": saved.step, "stem": config.stem or ""}
    return LoadedBackbone(
        net.F.backbone.eval(), saved.shape, config, origin, saved.mean, saved.std, net.eval(), files=saved.files
    )


def _exported(
    path: str, saved: Mapping[str, Tensor], said: dict[str, Any], which: WhichNetwork, side: int
) -> LoadedBackbone:
    """The backbone of an export of ours."""
    _refuse(path, which)
    size = said["image_size"] or side
    height, width = size if isinstance(size, list) else (size, size)
    shape = (said["channels"], height, width)
    backbone = _built(path, said["arch"], said["stem"] or None, shape)
    _pad(backbone, said["stem_padding"])
    _fill(path, backbone, saved, said["arch"], strict=True)
    origin = {"from": path, "kind": "exported by emsiam", **{n: said[n] for n in ("arch", "stem", "stem_padding")}}
    mean, std = (None if said[n] is None else torch.tensor(said[n]).view(-1, 1, 1) for n in ("mean", "std"))
    return LoadedBackbone(backbone.eval(), shape, None, origin, mean, std, sized=said["image_size"] is not None)


def _refuse(path: str, which: WhichNetwork) -> None:
    for name, value in which._asdict().items():
        if value is not None:
            refuse(name, value, f"{path} says itself of which network it is")


def _read(path: str) -> Any:
    try:
        saved = read(Path(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file or run") from None
    except Damaged as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{path}: holds a {type(saved).__name__}, allowed is a checkpoint or a state dict")
    return saved


def _foreign(path: str, saved: Any, arch: str, which: WhichNetwork, side: int) -> LoadedBackbone:
    """The backbone of anybody's checkpoint: every weight comes from the file."""
    backbone = _built(path, arch, None, (3, side, side))
    place = find(path, saved, backbone.trunk, arch, which.weights)
    first = place.weights.get("conv1.weight")
    cifar = networks.is_resnet(arch) and first is not None and first.shape[-1] == 3
    padding = (which.stem_padding or (2 if _of_solo_learn(place) else 1)) if cifar else None
    if which.stem_padding and not cifar:
        raise ConfigError(f"--stem-padding {which.stem_padding}: {path} is not of a ResNet with a CIFAR stem (3×3)")
    if cifar:
        backbone = _built(path, arch, "cifar", (3, side, side))
        _pad(backbone, padding)
    _fill(path, backbone, place.weights, arch)
    kind = place.kind + (f", stem 3×3 padded by {padding}" if cifar else "")
    stem = {"stem": "cifar" if cifar else "", "stem_padding": padding}
    origin = {"from": path, "kind": kind, "arch": arch, **stem}
    return LoadedBackbone(backbone.eval(), (3, side, side), None, origin, sized=False, heads=heads(place))


def _of_solo_learn(place: Place) -> bool:
    """solo-learn's methods/base.py: `backbone` beside a linear `classifier` and projectors; conv1 is padded by 2."""
    others = {name.split(".")[0] for name in place.beside}
    return place.label == "backbone" and {"classifier", "projector"} <= others


def _built(path: str, arch: str, stem: str | None, shape: tuple[int, int, int]) -> networks.Backbone:
    try:
        return networks.build_backbone(arch, stem, shape, try_it=False)[0]
    except ValueError as error:
        raise ConfigError(f"{path}: --arch {arch}: {error}") from None


def _pad(backbone: networks.Backbone, padding: int | None) -> None:
    if padding is not None:
        conv1 = backbone.trunk.get_submodule("conv1")
        assert isinstance(conv1, nn.Conv2d)
        conv1.padding = (padding, padding)


def _fill(
    path: str, backbone: networks.Backbone, weights: Mapping[str, Tensor], arch: str, strict: bool = False
) -> None:
    """Load weights, of which none of the trunk's may lack, and none be of a trunk's part that it does not have."""
    trunk = backbone.trunk
    own = trunk.state_dict().keys()
    parts = {name.split(".")[0] for name in own}
    heads = tuple(f"{name}." for name, m in trunk.named_modules() if name and isinstance(m, nn.Identity))
    odd = [n for n in weights if n not in own and (strict or (n.split(".")[0] in parts and not n.startswith(heads)))]
    try:
        missing, _ = trunk.load_state_dict(weights, strict=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{path}: is not of --arch {arch} ({' '.join(str(error).split())[:160]})") from None
    odd += [name for name in missing if not name.endswith("num_batches_tracked")]
    if odd:
        raise ConfigError(f"{path}: is not of --arch {arch} ({odd[0]} and {len(odd) - 1} other weights do not match)")
    if not all(x.isfinite().all() for x in trunk.state_dict().values() if x.is_floating_point()):
        raise ConfigError(f"{path}: holds weights that are not finite")
