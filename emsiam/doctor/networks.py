"""What does a network make of images, and what of the same images before training? Runs, checkpoints, any module."""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..build import dtype, network
from ..checkpoint import load_checkpoint
from ..config import Config
from ..config.resolution import load_images
from ..data.images import ImageSet
from ..data.probe_set import PROBE_VIEWS, probe, probe_ids
from ..errors import ConfigError, one_line
from ..evaluation.backbones import LoadedBackbone, WhichNetwork, load_backbone
from ..evaluation.features import WhichImages, as_trained_on, prepared
from ..evaluation.heads import Heads
from ..networks import Siamese, build_backbone, initialised
from ..runs.run import Run, load_run
from ..streams import BACKBONE, IDS, PROJECTOR, generator
from ..training.observe import look

VIEWS = 2
MOST = 256  # images that somebody's module is shown
FEW = 128  # of one view with running statistics, and of untrained weights: to be compared with
LARGE, PART = 64, 64  # images of a larger side go through a network PART at a time, each part with its own statistics


class Networks(NamedTuple):
    """Representations [n, N, width] of the same images by name: `z`, `p`, `features`."""

    what: str  # in words
    batch: Mapping[str, Tensor]  # with the statistics of these images
    running: Mapping[str, Tensor]  # with those that BN has kept; nothing where no layer keeps any
    untrained: Mapping[str, Tensor]  # of the same network before its first step, with batch statistics
    pixels: Tensor | None = None  # [n, N, C·H·W] of the views
    images: Tensor | None = None  # [N, C, H, W] uint8
    steps: int | None = None


def networks(
    what: Any,
    images: Any = None,
    *,
    arch: str | None = None,
    weights: str | None = None,
    stem_padding: int | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    image_size: int | None = None,
) -> Networks:
    """What a run, its directory, a file of weights, or a module makes of images. Raises ConfigError."""
    asked = WhichImages(dataset, data_dir, download, image_size)
    which = WhichNetwork(arch, weights, stem_padding)
    if isinstance(what, Run):
        what = what.path
    if isinstance(what, str | os.PathLike):
        path = Path(what).expanduser()
        if path.is_dir() and asked == WhichImages() and which == WhichNetwork():
            return of_run(load_run(path))
        return of_checkpoint(str(path), which, asked)
    for name, value in (asked._asdict() | which._asdict()).items():
        if value and name != "option":
            raise ConfigError(f"{name}: is of a run or a file of weights, and here is a module; leave it out")
    return of_module(what, images)


def of_run(run: Run) -> Networks:
    """A run's network at its last checkpoint. Raises ConfigError where there is none, or the images are not there."""
    net, c, saved = run.model(), run.config, load_checkpoint(run.path)
    assert saved is not None
    if c.dataset == "given":
        raise ConfigError(f"{run.path}: its images were handed over; pass what they become: run.embed(images).z")
    _, data, _ = load_images(c)
    views = probe(data, PROBE_VIEWS, dtype(c))[:VIEWS]  # those that a run is watched on
    diverged = run.finished and run.summary["verdict"] == "diverged"
    what = f"{run.path}: {c.mode} on {c.dataset}, {saved.step:,} steps" + ("; it diverged later" if diverged else "")
    what += "; its images are not those that it began with" if data.digest != saved.files else ""
    return _whole(what, net, c, views, data, saved.step)


def _whole(what: str, net: Siamese, c: Config, views: Tensor, data: ImageSet, steps: int) -> Networks:
    """What F and h of ours make of views, trained and untrained."""
    shape = (views.shape[2], views.shape[3], views.shape[4])
    return Networks(
        what,
        of_siamese(net.train(), views),
        of_siamese(net.eval(), views),
        of_siamese(network(c, shape).to(views.device).train(), views),
        views.flatten(2),
        shown_images(data),
        steps,
    )


def shown_images(data: ImageSet) -> Tensor | None:
    """[P, C, H, W] uint8 of the probe set, on the CPU; None where they are in files."""
    return data.images[probe_ids(data)].cpu() if isinstance(data.images, Tensor) else None


@torch.no_grad()
def of_siamese(net: Siamese, views: Tensor) -> dict[str, Tensor]:
    """What F and h make of views [n, N, C, H, W], in the mode that the network is in; no p where h is the identity."""
    features = torch.stack([look(net.F.backbone, x) for x in views])
    z, p = look(net, views, tuple(range(len(views))))
    return {"z": z, "features": features} | ({} if isinstance(net.h, nn.Identity) else {"p": p})


def of_checkpoint(path: str, which: WhichNetwork, asked: WhichImages) -> Networks:
    """A network that somebody else trained, as far as its backbone. Raises ConfigError."""
    encoder = load_backbone(path, which)
    if encoder.whole and encoder.config:
        return _of_ours(path, encoder, asked)
    encoder, data, shown, _ = prepared(encoder, asked)
    views = torch.stack([as_trained_on(encoder, x) for x in probe(data, VIEWS, torch.float32)])
    origin = encoder.origin
    what = f"{path}: {origin['arch']} ({origin['kind']}), {some(views, data)}, {shown}"
    with initialised(generator(0, BACKBONE)):
        fresh, _ = build_backbone(origin["arch"], origin["stem"] or None, encoder.shape)
    return Networks(
        what,
        _layered(encoder.backbone, encoder.heads, views),
        {"features": passed(encoder.backbone.eval(), views[:1, :FEW])},
        _layered(fresh, _untrained(encoder.heads), views[:, :FEW]),
        views.flatten(2),
        shown_images(data),
    )


def _layered(backbone: nn.Module, heads: Heads, views: Tensor) -> dict[str, Tensor]:
    """Features, and z and p where there are heads that take them, with batch statistics."""
    made = {"features": passed(with_batch_statistics(backbone), views)}
    for name, of, head in (("z", "features", heads.projector), ("p", "z", heads.predictor)):
        first = next((m for m in head if isinstance(m, nn.Linear)), None) if head else None
        if head and first and of in made and made[of].shape[-1] == first.in_features:
            with torch.no_grad():
                made[name] = torch.stack([look(head.train(), x) for x in made[of]])
    return {name: made[name] for name in ("z", "p", "features") if name in made}


def _untrained(heads: Heads) -> Heads:
    """The same layers with weights as PyTorch begins."""
    fresh = copy.deepcopy(heads)
    with initialised(generator(0, PROJECTOR)):
        for head in fresh:
            for layer in head or ():
                if isinstance(layer, nn.Linear | nn.BatchNorm1d):
                    layer.reset_parameters()
    return fresh


def _of_ours(path: str, encoder: LoadedBackbone, asked: WhichImages) -> Networks:
    """A checkpoint of ours, F and h and all."""
    encoder, data, _, _ = prepared(encoder, asked)
    net, c = encoder.whole, encoder.config
    assert net is not None
    assert c is not None
    views = probe(_as_seen(data, encoder), PROBE_VIEWS, dtype(c))[:VIEWS]
    what = f"{path}: {c.mode}, {encoder.origin['steps']:,} steps, {some(views, data)}"
    return _whole(what, net, c, views, data, encoder.origin["steps"])


def some(views: Tensor, data: ImageSet) -> str:
    """Which images are shown, in words."""
    return f"{views.shape[1]:,} of {len(data.images):,} images of {data.name}"


def _as_seen(data: ImageSet, encoder: LoadedBackbone) -> ImageSet:
    if data.shape != encoder.shape:
        raise ConfigError(f"--dataset {data.name}: images are {list(data.shape)}, the run's {list(encoder.shape)}")
    return data


def of_module(module: Callable[[Tensor], Any], images: Any) -> Networks:
    """Anybody's module or function of a batch, on images [N, C, H, W] or views [n, N, C, H, W] as it takes them."""
    if not isinstance(images, Tensor) or images.ndim not in (4, 5):
        shape = f"of {list(images.shape)}" if hasattr(images, "shape") else f"a {type(images).__name__}"
        raise ConfigError(
            f"images: are {shape}; pass a tensor [N, C, H, W], or views [views, N, C, H, W], as the model takes it"
        )
    if 0 in images.shape or not images.isfinite().all():
        fault = f"are of {list(images.shape)}" if 0 in images.shape else "hold values that are not finite"
        raise ConfigError(f"images: {fault}; pass images as the model takes them")
    views = images[None] if images.ndim == 4 else images
    name = type(module).__name__ if isinstance(module, nn.Module) else getattr(module, "__name__", "a function")
    if (count := views.shape[1]) > MOST:
        views = views[:, torch.randperm(count, generator=generator(0, IDS))[:MOST].to(views.device)]
        name += f", {MOST} of {count:,} images, drawn with a fixed seed"
    if not isinstance(module, nn.Module):
        return Networks(name, {"z": passed(module, views)}, {}, {}, views.flatten(2), pictured(views[0]))
    modes = {part: part.training for part in module.modules()}
    with torch.random.fork_rng(devices=[]):
        try:
            keeps = any(getattr(m, "running_mean", None) is not None for m in module.modules())
            batch = {"z": passed(with_batch_statistics(module), views)}
            running = {"z": passed(module.eval(), views[:1, :FEW])} if keeps else {}
        finally:
            for part, mode in modes.items():
                part.training = mode
    return Networks(name, batch, running, {}, views.flatten(2), pictured(views[0]))


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """The module in eval mode but for BN: dropout would spread what is a constant."""
    module.eval()
    for part in module.modules():
        if hasattr(part, "running_mean"):
            part.train()
    return module


def pictured(images: Tensor) -> Tensor | None:
    """[N, C, H, W] uint8, from the least value to the largest; None for what is no picture."""
    if images.shape[1] not in (1, 3) or not images.isfinite().all():
        return None
    x = images.detach().cpu().float()
    low, high = x.aminmax()
    return (255 * (x - low) / (high - low).clamp_min(1e-12)).round().to(torch.uint8)


@torch.no_grad()
def passed(module: Callable[[Tensor], Any], views: Tensor) -> Tensor:
    """[n, N, width] of views [n, N, C, H, W], which leaves no trace in a module. Raises ConfigError."""
    large = max(views.shape[-2:]) > LARGE
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    made = []
    for view in views:
        parts = []
        for x in view.split(PART if large else len(view)):
            x = x if parameter is None else x.to(parameter.device)
            try:
                y = look(module, x) if isinstance(module, nn.Module) else module(x)
            except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
                kind = type(error).__name__
                raise ConfigError(
                    f"the model does not take images {list(x.shape)}: {kind}, {one_line(error)[:200]}"
                ) from error
            if not isinstance(y, Tensor) or y.ndim != 2 or len(y) != len(x):
                said = f"{list(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
                asked = "pass a function that gives [N, d], such as lambda x: model(x)[0]"
                raise ConfigError(f"the model gives {said} for {len(x)} images; {asked}")
            parts.append(y.float().cpu())
        made.append(torch.cat(parts))
    return torch.stack(made)
