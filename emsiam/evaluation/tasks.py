"""How good are features? An encoder and images in, a task's result out: `emsiam.evaluate` is the command."""

import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import Generator, Tensor

from ..data.images import ImageSet
from ..data.views import Draw
from ..diagnostics.statistics import mean_interval
from ..errors import ConfigError
from ..ranks import divided, place
from ..recipes import Recipe
from . import classifiers
from .backbones import LAYERS, LoadedBackbone, WhichNetwork, at, load_backbone
from .features import PART, WhichImages, as_trained_on, features, prepared

FEW = 5  # images of a class, by which C is hardly chosen
LARS_STEPS = 10_000  # ImageNet's 90 epochs are 28,170
CLOSED = {  # protocols without epochs: scores and what was chosen, of features, labels and queries
    classifiers.EXACT: (classifiers.logistic, "logistic regression, L-BFGS, C"),
    classifiers.RIDGE: (classifiers.ridge, "ridge regression to one-hot labels, penalty per image"),
}


def evaluate(
    task: str, what: str, which: WhichNetwork, asked: WhichImages, layer: str = "backbone", **parameters: Any
) -> dict[str, Any]:
    """The result of a task as a dictionary; layer: one of LAYERS; parameters: those that the task takes.

    Raises as `emsiam.evaluate`.
    """
    encoder, data, shown, width = prepared(at(layer, load_backbone(what, which)), asked)
    if not data.num_classes:
        where = f" in {asked.data_dir}" if asked.data_dir else ""
        raise ConfigError(
            f"{task}: the images of {data.name}{where} have no labels; --data-dir or {asked.option}: others"
        )
    head = {"task": task, "encoder": encoder.origin, "dataset": data.name, "test_images": len(data.test_images)}
    features = f"{width} {LAYERS[layer]}, eval mode; images {shown}"
    return head | {"features": features, "side": encoder.shape[1]} | TASKS[task](encoder, data, **parameters)


def knn(encoder: LoadedBackbone, data: ImageSet, *, knn_k: int = 20, knn_t: float = 0.1) -> dict[str, Any]:
    """k nearest neighbours by cosine. Test images among the training images."""
    z, queries = features(encoder, data, data.labelled), features(encoder, data, data.test_images)
    k, t = knn_k, knn_t
    if k > len(z):
        raise ConfigError(f"--knn-k {k}: allowed is at most {len(z)}, the training images")
    votes = classifiers.knn_votes(z, data.labels, queries, k=k, t=t, num_classes=data.num_classes, in_place=True)
    return _scores(votes, data) | {"settings": f"k {k}, T {t:g}, {len(z):,} training images"}


def linear(
    encoder: LoadedBackbone,
    data: ImageSet,
    *,
    protocol: str = classifiers.EXACT,
    epochs: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """linear classification of frozen features."""
    queries = features(encoder, data, data.test_images)
    if protocol in CLOSED:
        fit, words = CLOSED[protocol]
        scores, strength = fit(features(encoder, data, data.labelled), data.labels, queries, seed=seed)
        least = int(data.labels.bincount(minlength=data.num_classes).min())
        chosen = f"{words} {strength:g} by a fifth of the {len(data.labels):,} training images, kept aside"
        if least < FEW:
            chosen += f"; a class has {least}, so that it and the result are uncertain"
        return _scores(scores, data) | {"settings": chosen}
    queries, p = queries.float(), classifiers.PROTOCOLS[protocol]
    p = p._replace(epochs=epochs or p.epochs)
    trained = classifiers.train_linear(
        _views(encoder, data), data.labels, queries.shape[1], data.num_classes, p, seed=seed
    )
    best = -math.inf
    for layer in trained:
        with torch.no_grad():
            scores = layer(queries)
        best = max(best, classifiers.score(scores, data.test_labels).acc1)
    size, per_epoch = p.batches(len(data.labels))
    steps = f"{p.epochs} epochs of {per_epoch} steps"
    settings = f"{protocol}, base lr {p.lr:g}, batch {size}, {steps}, cosine, crops and flips"
    if p.lars and p.epochs * per_epoch < LARS_STEPS:
        settings += f"; {p.epochs * per_epoch:,} steps are too few for LARS at this learning rate (ImageNet: 28,170), "
        settings += "so the result is too low: --protocol exact or sgd"
    return _scores(scores, data) | {"acc1_best": best, "settings": settings}


def _views(encoder: LoadedBackbone, data: ImageSet) -> Callable[[Tensor, Generator], Tensor]:
    """Features of new crops and flips of training images; each process has its share of the passes."""
    r, (first, processes) = data.recipe, place()
    plain = data._replace(images=data.labelled, recipe=Recipe(scale=r.scale, ratio=r.ratio, flip=r.flip))

    @torch.no_grad()
    def views(ids: Tensor, rng: Generator) -> Tensor:
        pieces: list[tuple[Tensor, Draw]] = []
        for part in ids.split(PART):
            draw = plain.sample(part, 1, rng)  # the same in all processes
            pieces += [(part[rows], draw.map(itemgetter(rows))) for rows in torch.arange(len(part)).chunk(processes)]
        # all of its own at once, so that files are read while the network works
        asked = {i: plain.ask(*pieces[i], 1, torch.float32) for i in range(first, len(pieces), processes)}

        def seen(i: int) -> tuple[Tensor]:
            return (encoder.backbone(as_trained_on(encoder, asked[i]()[0])).float(),)

        return torch.cat([z for (z,) in divided(range(len(pieces)), seen)])

    return views


def few_shot(
    encoder: LoadedBackbone, data: ImageSet, *, ways: int = 5, shots: int = 1, seed: int = 0
) -> dict[str, Any]:
    """n-way k-shot episodes on test images, by the nearest class mean. Nothing is trained."""
    z = features(encoder, data, data.test_images)
    accuracies = classifiers.episodes(z, data.test_labels, ways=ways, shots=shots, seed=seed)
    span = mean_interval(accuracies.tolist())
    assert span["mean"] is not None
    assert span["high"] is not None  # of hundreds
    settings = f"{ways}-way {shots}-shot, {len(accuracies)} episodes, cosine to class means, test images"
    return {"acc1": span["mean"], "half_interval": span["high"] - span["mean"], "settings": settings}


def verify(encoder: LoadedBackbone, data: ImageSet, *, seed: int = 0) -> dict[str, Any]:
    """are two test images of one class? ROC-AUC of their cosine."""
    z = features(encoder, data, data.test_images)
    auc = classifiers.verification(z, data.test_labels, seed=seed)
    return {"roc_auc": auc, "settings": "cosine of pairs of test images, half of them of one class"}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"knn": knn, "linear": linear, "episodes": few_shot, "verify": verify}


def _scores(scores: Tensor, data: ImageSet) -> dict[str, Any]:
    return classifiers.score(scores, data.test_labels)._asdict()
