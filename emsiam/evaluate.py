"""python -m emsiam.evaluate: how good are the features of a run, or of anybody's checkpoint?"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from . import probes
from .checkpoints import Encoder, load_encoder
from .compare import plain
from .config import Config, ConfigError, Parser, check_folder, given_flag, load_images, real, whole
from .data import DATASETS, IMAGENET, ImageSet
from .folders import BadImage, Files
from .train import one_line
from .views import Recipe

PART, QUERIES = 512, 2048  # images a pass, and of kNN
EXACT = "exact"
READS = {"linear": ("protocol", "epochs"), "knn": ("knn_k", "knn_t"), "episodes": ("ways", "shots")}
# ImageNet's validation images are resized to 256 pixels and cropped to 224, a linear classifier's crops have 0.08 to 1
# of an image: facebookresearch/simsiam, main_lincls.py
LARGE, MARGIN, CROPS = 64, (1 - 224 / 256) / 2, (0.08, 1.0)


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    try:
        given = parser().parse_args(arguments)
        check_folder("json", given.json)
        found = evaluate(**{name: value for name, value in vars(given).items() if name != "json"})
        if given.json:
            Path(given.json).write_text(json.dumps(plain(found), indent=2) + "\n")
    except (ConfigError, BadImage, OSError, ValueError) as error:
        print(f"emsiam.evaluate: {one_line(error)}", file=sys.stderr)
        return 2
    print(report(found))
    return 0


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m emsiam.evaluate", description=__doc__, allow_abbrev=False)
    p.add_argument(
        "task",
        choices=TASKS,
        help="; ".join(f"{name}: {(task.__doc__ or '').split('.')[0]}" for name, task in TASKS.items()),
    )
    p.add_argument("what", metavar="RUN|CHECKPOINT", help="a run's directory, or a file")
    p.add_argument("--arch", help="network of a file that does not say, such as resnet50")
    p.add_argument("--eval-dataset", choices=DATASETS, help="images to evaluate on (the run's)")
    p.add_argument("--data-dir", help="where they are")
    p.add_argument("--download", action="store_true", help="fetch a torchvision data set there")
    p.add_argument(
        "--image-size", type=whole(8, 4096).of_argument, help="others' networks: side in pixels of what they see"
    )
    p.add_argument(
        "--protocol",
        choices=(EXACT, *probes.PROTOCOLS),
        default=EXACT,
        help="linear: exact (L-BFGS on features), or the paper's lars or sgd",
    )
    p.add_argument("--epochs", type=whole(1).of_argument, help="linear lars and sgd: other than 90")
    p.add_argument("--knn-k", type=whole(1).of_argument, default=20, help="knn: neighbours (20)")
    p.add_argument("--knn-t", type=real(0, above=True).of_argument, default=0.1, help="knn: temperature (0.1)")
    p.add_argument("--ways", type=whole(2).of_argument, default=5, help="episodes: classes (5)")
    p.add_argument("--shots", type=whole(1).of_argument, default=1, help="episodes: images of each (1)")
    p.add_argument("--seed", type=whole(0, 2**32 - 1).of_argument, default=0, help="of what is drawn (0)")
    p.add_argument("--json", metavar="FILE", help="write the result there")
    return p


def evaluate(task: str, what: str, **options: Any) -> dict[str, Any]:
    """The result of a task as a dictionary; options as on the command line: `knn_k=5`.

    Raises ConfigError, BadImage, ValueError.
    """
    p = parser()
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    o = vars(p.parse_args([task, what, *(given_flag(*item).replace(" ", "=", 1) for item in given.items())]))
    for reader, names in READS.items():
        for name in names:
            if reader != task and o[name] != p.get_default(name):
                raise ConfigError(f"{given_flag(name, o[name])}: is not used by {task}, only by {reader}")
    if o["protocol"] == EXACT and o["epochs"]:
        raise ConfigError(f"--epochs {o['epochs']}: is not used by --protocol {EXACT}")
    encoder, data, shown = _prepare(load_encoder(what, o["arch"]), o)
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
    return head | {"features": told, "side": encoder.shape[1]} | TASKS[task](encoder, data, o)


def _prepare(encoder: Encoder, o: dict[str, Any]) -> tuple[Encoder, ImageSet, str]:
    """An encoder, images to evaluate it on, cropped and normalised as it is used to, and how that is, in words."""
    config, foreign = encoder.config, encoder.config is None
    as_imagenet = foreign and not encoder.told["stem"]
    data = _load(config, o, as_imagenet)
    if data.classes is not None:
        data = data._replace(labelled=data.images, labels=data.classes)  # all, where the monitor has a part
    if foreign:
        side = o["image_size"] or data.shape[1]
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
    if config is not None and config.dataset == data.name and o["data_dir"] in (None, config.data_dir):
        shown.append("normalised as in training")
    else:
        large = as_imagenet or isinstance(data.images, Files)
        shown.append("normalised as ImageNet" if large else "normalised by their mean and std")
    return encoder, data, ", ".join(shown)


def _load(config: Config | None, o: dict[str, Any], as_imagenet: bool) -> ImageSet:
    """as_imagenet: images in a folder are read from their files, however few they are."""
    dataset = o["eval_dataset"] or (config.dataset if config else None)
    if dataset is None:
        raise ConfigError("--eval-dataset: which images? the file does not say")
    here = {name: o[name] for name in ("data_dir", "download") if o[name]}
    if o["image_size"] and config is not None:
        raise ConfigError(f"--image-size {o['image_size']}: a run sees images at the size it was trained on")
    if config is None or config.dataset != dataset:
        folder = {"image_size": o["image_size"], "workers": os.cpu_count() if as_imagenet else None}
        asked = Config(dataset=dataset, **here, **(folder if dataset == "folder" else {}))
    else:
        asked = replace(config, **here, augment=None)
    _, data, unused = load_images(asked)
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


def knn(encoder: Encoder, data: ImageSet, o: dict[str, Any]) -> dict[str, Any]:
    """k nearest neighbours by cosine. Test images among the training images."""
    z, queries = features(encoder, data, data.labelled), features(encoder, data, data.test_images)
    k, t = o["knn_k"], o["knn_t"]
    if k > len(z):
        raise ConfigError(f"--knn-k {k}: allowed is at most {len(z)}, the training images")
    parts = queries.split(QUERIES)
    votes = [probes.knn_votes(z, data.labels, q, k=k, t=t, num_classes=data.num_classes) for q in parts]
    return _scores(torch.cat(votes), data) | {"settings": f"k {k}, T {t:g}, {len(z):,} training images"}


def linear(encoder: Encoder, data: ImageSet, o: dict[str, Any]) -> dict[str, Any]:
    """linear classification of frozen features."""
    queries = features(encoder, data, data.test_images)
    if o["protocol"] == EXACT:
        scores, c = probes.logistic(features(encoder, data, data.labelled), data.labels, queries, seed=o["seed"])
        chosen = f"logistic regression, L-BFGS, C {c:g} by a fifth of the training images, kept aside"
        return _scores(scores, data) | {"settings": chosen}
    protocol = probes.PROTOCOLS[o["protocol"]]
    protocol = protocol._replace(epochs=o["epochs"] or protocol.epochs)
    trained = probes.train_linear(
        _views(encoder, data), data.labels, queries.shape[1], data.num_classes, protocol, seed=o["seed"]
    )
    best = -math.inf
    for layer in trained:
        with torch.no_grad():
            scores = layer(queries)
        best = max(best, probes.score(scores, data.test_labels).acc1)
    size = min(protocol.batch_size, len(data.labels))
    steps = f"{protocol.epochs} epochs of {-(-len(data.labels) // size)} steps"
    said = f"{o['protocol']}, base lr {protocol.lr:g}, batch {size}, {steps}, cosine, crops and flips"
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


def few_shot(encoder: Encoder, data: ImageSet, o: dict[str, Any]) -> dict[str, Any]:
    """n-way k-shot episodes on test images, by the nearest class mean. Nothing is trained."""
    z = features(encoder, data, data.test_images)
    found = probes.episodes(z, data.test_labels, ways=o["ways"], shots=o["shots"], seed=o["seed"])
    half = 1.96 * found.std(ddof=1) / math.sqrt(len(found))
    settings = f"{o['ways']}-way {o['shots']}-shot, {len(found)} episodes, cosine to class means, test images"
    return {"acc1": float(found.mean()), "half_interval": float(half), "settings": settings}


def verify(encoder: Encoder, data: ImageSet, o: dict[str, Any]) -> dict[str, Any]:
    """are two test images of one class? ROC-AUC of their cosine."""
    z = features(encoder, data, data.test_images)
    auc = probes.verification(z, data.test_labels, seed=o["seed"])
    return {"roc_auc": auc, "settings": "cosine of pairs of test images, half of them of one class"}


TASKS = {"knn": knn, "linear": linear, "episodes": few_shot, "verify": verify}


def _scores(scores: Tensor, data: ImageSet) -> dict[str, Any]:
    return probes.score(scores, data.test_labels)._asdict()


def report(found: dict[str, Any]) -> str:
    """A result in a few lines."""
    e = found["encoder"]
    lines = [
        f"{found['task']} of {e['arch']} ({e['kind']}) on {found['dataset']}, {found['test_images']:,} test images"
    ]
    names = {"acc1": "top-1", "acc1_best": "best over epochs", "acc5": "top-5", "roc_auc": "ROC-AUC"}
    shown = [f"{said} {found[name]:.3f}" for name, said in names.items() if np.isfinite(found.get(name, math.nan))]
    if "half_interval" in found:
        shown[0] += f" ± {found['half_interval']:.3f}"
    lines.append("  " + "   ".join(shown))
    if "per_class" in found and len(found["per_class"]) <= 20:
        lines.append("  per class " + " ".join(f"{x:.2f}" for x in found["per_class"]))
    return "\n".join([*lines, f"  {found['settings']}", f"  {found['features']}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
