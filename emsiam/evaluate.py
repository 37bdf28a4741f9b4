"""python -m emsiam.evaluate: how good are the features of a run, or of anybody's checkpoint?"""

import argparse
import json
import math
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
from .config import Config, ConfigError, load_images, preset
from .data import DATASETS, ImageSet
from .folders import BadImage
from .train import one_line
from .views import Recipe

PART = 512  # images a pass
EXACT = "exact"


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    try:
        given = parser().parse_args(arguments)
        found = evaluate(**{name: value for name, value in vars(given).items() if name != "json"})
        if given.json:
            Path(given.json).write_text(json.dumps(plain(found), indent=2) + "\n")
    except (ConfigError, BadImage, OSError, ValueError) as error:
        print(f"emsiam.evaluate: {one_line(error)}", file=sys.stderr)
        return 2
    print(report(found))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ConfigError(message)


def parser() -> argparse.ArgumentParser:
    p = _Parser(prog="python -m emsiam.evaluate", description=__doc__, allow_abbrev=False)
    p.add_argument(
        "task",
        choices=TASKS,
        help="; ".join(f"{name}: {(task.__doc__ or '').split('.')[0]}" for name, task in TASKS.items()),
    )
    p.add_argument("what", metavar="RUN|CHECKPOINT", help="a run's directory, or a file")
    p.add_argument("--arch", help="network of a file that does not say, such as resnet50")
    p.add_argument("--eval-dataset", choices=DATASETS, help="images to evaluate on (the run's)")
    p.add_argument("--data-dir", help="where they are")
    p.add_argument("--image-size", type=int, help="folder: side in pixels")
    p.add_argument(
        "--protocol",
        choices=(EXACT, *probes.PROTOCOLS),
        default=EXACT,
        help="linear: exact (L-BFGS on features), or the paper's lars or sgd",
    )
    p.add_argument("--epochs", type=int, help="linear lars and sgd: other than 90")
    p.add_argument("--knn-k", type=int, default=20)
    p.add_argument("--knn-t", type=float, default=0.1)
    p.add_argument("--ways", type=int, default=5, help="episodes: classes (5)")
    p.add_argument("--shots", type=int, default=1, help="episodes: images of each (1)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", metavar="FILE", help="write the result there")
    return p


def evaluate(task: str, what: str, *, arch: str | None = None, **options: Any) -> dict[str, Any]:
    """The result of a task as a dictionary; options as on the command line. Raises ConfigError, ValueError."""
    o = vars(parser().parse_args([task, what])) | options
    encoder = load_encoder(what, arch)
    data = _load(encoder.config, o)
    if encoder.config is None:  # another's network sees the images at their size
        encoder = encoder._replace(shape=(3, *data.shape[1:]))
    backbone = encoder.backbone.to(memory_format=torch.channels_last)
    with torch.no_grad():
        width = backbone(torch.zeros(1, *encoder.shape).to(next(backbone.parameters()))).shape[1]
    head = {"task": task, "encoder": encoder.told, "dataset": data.name, "test_images": len(data.test_images)}
    side = encoder.shape[1]
    told = f"{width} features before the last layer, eval mode; images {_shown(data, encoder)}"
    return head | {"features": told, "side": side} | TASKS[task](encoder, data, o)


def _load(config: Config | None, o: dict[str, Any]) -> ImageSet:
    dataset = o["eval_dataset"]
    if dataset is None and config is None:
        raise ConfigError("--eval-dataset: which images? the file does not say")
    if config is not None and dataset in (None, config.dataset):
        config = replace(config, data_dir=o["data_dir"] or config.data_dir, augment=None)
    else:
        config = preset(Config(dataset=dataset, data_dir=o["data_dir"], image_size=o["image_size"]))
    return load_images(config)[1]


def _shown(data: ImageSet, encoder: Encoder) -> str:
    channels, side, _ = encoder.shape
    how = [f"{side}×{side}"]
    if data.shape[1] != side:
        how[0] += f", resized from {data.shape[1]}"
    if channels < data.shape[0]:
        how.append("made grey")
    if data.name == "folder":
        how.append("centre crop")
    return ", ".join(how)


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
    votes = probes.knn_votes(z, data.labels, queries, k=k, t=t, num_classes=data.num_classes)
    return _scores(votes, data) | {"settings": f"k {k}, T {t:g}, {len(z):,} training images"}


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
    said = f"{o['protocol']}, base lr {protocol.lr:g}, batch {size}, {protocol.epochs} epochs, cosine, crops and flips"
    return _scores(scores, data) | {"acc1_best": best, "settings": said}


def _views(encoder: Encoder, data: ImageSet) -> Callable[[Tensor, Generator], Tensor]:
    """Features of new crops and flips of training images."""
    r = data.recipe
    plain = data._replace(images=data.labelled, recipe=Recipe(scale=r.scale, ratio=r.ratio, flip=r.flip))

    @torch.no_grad()
    def views(ids: Tensor, rng: Generator) -> Tensor:
        found = []
        for part in ids.split(PART):
            (x,) = plain.ask(part, plain.sample(part, 1, rng), 1, torch.float32)()
            found.append(encoder.backbone(seen(encoder, x)).float())
        return torch.cat(found)

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
