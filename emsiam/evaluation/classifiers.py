"""How good are the features? Reference classifiers on a frozen backbone, and tasks without training."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ..objective import unit
from ..optim import LARS, lr_factor
from ..ranks import divided

QUERIES, ROWS = 2048, 65_536  # of a block of similarities: 512 MiB in fp32
TIED = 256  # rows of it whose ties are broken at once


def stacked(parts: Iterable[tuple[Tensor, ...]], number: int) -> tuple[Tensor, ...]:
    """Tensors [number, ...] of parts [B, ...], one after the other. torch.cat has all of them in memory twice."""
    whole: tuple[Tensor, ...] = ()
    filled = 0
    for part in parts:
        whole = whole or tuple(x.new_empty(number, *x.shape[1:]) for x in part)
        for there, x in zip(whole, part, strict=True):
            there[filled : filled + len(x)] = x
        filled += len(part[0])
    return whole


@torch.no_grad()
def knn_votes(
    features: Tensor, labels: Tensor, queries: Tensor, *, k: int, t: float, num_classes: int, in_place: bool = False
) -> Tensor:
    """Votes [Q, classes] of the k nearest of features [N, f] with labels [N], for queries [Q, f].

    Neighbours by cosine similarity s, the lower id first where they are equal, votes exp(s/t) (Wu et al. 2018; the
    monitor of the SimSiam paper, Fig. D.1). Beside arguments and votes it takes 2 GB at most in fp32, whatever N and Q.
    Inside `ranks.together` all processes call it, and each has its share of the queries.
    in_place: features become unit vectors where they lie; else a copy of them does.
    Raises ValueError where k exceeds N.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"k = {k} neighbours of {len(features)} vectors")
    if in_place:
        for part in features.split(ROWS):
            part.div_(part.norm(dim=-1, keepdim=True).clamp_min(1e-12))  # as `unit`
    else:
        features = unit(features)

    def votes(part: Tensor) -> tuple[Tensor]:
        similarity, neighbour = _nearest(features, unit(part), k)
        none = features.new_zeros(len(part), num_classes)
        return (none.scatter_add_(1, labels[neighbour], ((similarity - similarity[:, :1]) / t).exp()),)

    return stacked(divided(queries.split(QUERIES), votes), len(queries))[0]


def _nearest(features: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarities and ids [Q, k], by block of features; earlier blocks have lower ids."""
    values, ids = queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.int64)
    for i, part in enumerate(features.split(ROWS)):
        more, at = _top(queries @ part.T, k)
        values, ids = torch.cat([values, more], 1), torch.cat([ids, at + i * ROWS], 1)
        values, at = _top(values, k)
        ids = ids.gather(1, at)
    return values, ids


def _top(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of x [Q, N], descending, the first of equal ones first; all where there are fewer."""
    values, at = x.topk(min(k, x.shape[1]))
    least = values[:, -1:]
    tied = ((x == least).sum(1) > (values == least).sum(1)).nonzero()[:, 0]  # more of them than were taken
    for rows in tied.split(TIED):
        y, low = x[rows], least[rows]
        above, level = y > low, y == low
        first = level.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True)
        at[rows] = (above | level & first).nonzero()[:, 1].view(len(rows), at.shape[1])
    at = at.sort(1).values
    values, order = x.gather(1, at).sort(stable=True, dim=1, descending=True)
    return values, at.gather(1, order)


def knn_predict(features: Tensor, labels: Tensor, queries: Tensor, **options: Any) -> Tensor:
    """Labels [Q] with the most votes, see `knn_votes`."""
    return knn_votes(features, labels, queries, **options).argmax(1)


@torch.no_grad()
def leave_one_out(features: Tensor, labels: Tensor, *, k: int, t: float, num_classes: int) -> Tensor:
    """Labels [N] of features [N, f], each by its k nearest among all others, voting as in `knn_votes`.

    All N² similarities are in memory. Raises ValueError where k is not below N.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"k = {k} neighbours of {len(features)} vectors, but the own")
    x = unit(features)
    similarity, neighbour = _top((x @ x.T).fill_diagonal_(-math.inf), k)
    votes = x.new_zeros(len(x), num_classes)
    votes.scatter_add_(1, labels[neighbour], ((similarity - similarity[:, :1]) / t).exp())
    return votes.argmax(1)


class Score(NamedTuple):
    """How many test images were classified right: shares in [0, 1]."""

    acc1: float
    acc5: float  # NaN for fewer than six classes
    per_class: list[float]  # NaN where a class has no image


def score(scores: Tensor, labels: Tensor) -> Score:
    """scores [Q, classes], labels [Q]."""
    right = scores.argmax(1) == labels
    classes = scores.shape[1]
    top = (scores.topk(5).indices == labels[:, None]).any(1).double().mean().item() if classes > 5 else math.nan
    per_class = [right[labels == c].double().mean().item() if (labels == c).any() else math.nan for c in range(classes)]
    return Score(right.double().mean().item(), top, per_class)


def logistic(features: Tensor, labels: Tensor, queries: Tensor, *, seed: int = 0) -> tuple[Tensor, float]:
    """Scores [Q, classes] of multinomial logistic regression by L-BFGS on standardised features, and its C.

    C, the inverse regularisation, rises from 1e-4 to 1e4 by tens until two in a row are no better on a fifth of the
    training images, kept aside; with the best all of them are fitted. Queries play no part in it.
    Raises ValueError where images are so few that each class cannot be on both sides.
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    x, q = (((part - mean) / std).double().cpu().numpy() for part in (features, queries))
    y = labels.cpu().numpy()
    fit, kept = _fifth_aside(y, seed, "C")

    def fitted(c: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=1000).fit(x[rows], y[rows])

    tried: dict[float, float] = {}
    for c in np.logspace(-4, 4, 9):
        tried[c] = fitted(c, fit).score(x[kept], y[kept])
        best = max(tried, key=tried.__getitem__)
        if list(tried).index(best) < len(tried) - 2:
            break
    model = fitted(best, np.arange(len(y)))
    scores = torch.full((len(q), int(y.max()) + 1), -math.inf, dtype=torch.float64)
    scores[:, model.classes_] = torch.from_numpy(model.predict_log_proba(q))
    return scores.to(queries.device), float(best)


def _fifth_aside(y: np.ndarray, seed: int, chosen: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to choose by, stratified. Raises ValueError where they are too few for that."""
    from sklearn.model_selection import train_test_split

    counts = np.unique(y, return_counts=True)[1]
    few, classes, aside = counts.min() < 2, len(counts), math.ceil(len(y) / 5)
    if classes < 2:
        raise ValueError(f"all {len(y)} training images are of one class; a classifier tells two or more apart")
    if classes > min(aside, len(y) - aside):
        raise ValueError(
            f"{len(y)} training images of {classes} classes are too few to keep a fifth of them aside, "
            f"which chooses {chosen}: {classes * 5} would do; or --protocol sgd, which keeps none aside, or knn"
        )
    return train_test_split(np.arange(len(y)), test_size=0.2, stratify=None if few else y, random_state=seed)


def ridge(features: Tensor, labels: Tensor, queries: Tensor, *, seed: int = 0) -> tuple[Tensor, float]:
    """Scores [Q, classes] of least squares to one-hot labels on standardised features, and the penalty, in closed form.

    The penalty, a share of the number of images, is the one of 1e-6 to 100 by tens that is best on a fifth of the
    training images, kept aside, the largest of equal ones; with it all are fitted. Cost N·f² + f³, memory beside the
    features f². Raises ValueError as `logistic`.
    """
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    classes = int(labels.max()) + 1

    def standardised(x: Tensor) -> Tensor:
        return ((x - mean) / std).double()

    def fitted(rows: Tensor, penalties: Sequence[float]) -> list[Callable[[Tensor], Tensor]]:
        """Classifiers, a penalty each: (XᵀX + penalty·n)⁻¹ XᵀY with X and Y centred."""
        n, d = len(rows), features.shape[1]
        gram, cross = features.new_zeros(d, d, dtype=torch.float64), features.new_zeros(d, classes, dtype=torch.float64)
        sums, counts = features.new_zeros(d, dtype=torch.float64), labels[rows].bincount(minlength=classes).double()
        for part in rows.split(4096):
            x, y = standardised(features[part]), functional.one_hot(labels[part], classes).double()
            gram, cross, sums = gram + x.T @ x, cross + x.T @ y, sums + x.sum(0)
        centre, share = sums / n, counts / n
        values, vectors = torch.linalg.eigh(gram - n * centre[:, None] * centre)
        turned = vectors.T @ (cross - n * centre[:, None] * share)

        def classifier(penalty: float) -> Callable[[Tensor], Tensor]:
            w = vectors @ (turned / (values.clamp_min(0) + penalty * n)[:, None])
            return lambda q: (standardised(q) - centre) @ w + share

        return [classifier(penalty) for penalty in penalties]

    fit, kept = (
        torch.from_numpy(rows).to(labels.device) for rows in _fifth_aside(labels.cpu().numpy(), seed, "the penalty")
    )
    penalties = [10.0**i for i in range(2, -7, -1)]
    right = [(f(features[kept]).argmax(1) == labels[kept]).sum().item() for f in fitted(fit, penalties)]
    best = penalties[right.index(max(right))]
    return fitted(torch.arange(len(labels), device=labels.device), [best])[0](queries), best


class Protocol(NamedTuple):
    """How a linear classifier is trained: §4 and Appendix A of the paper, cosine lr, momentum 0.9, no decay."""

    lr: float  # base, × batch/256
    batch_size: int  # at most all images
    epochs: int
    lars: bool

    def batches(self, images: int) -> tuple[int, int]:
        """Images per step, and steps per epoch."""
        size = min(self.batch_size, images)
        return size, -(-images // size)


EXACT, RIDGE = "exact", "ridge"  # no epochs: on the features, see `logistic` and `ridge`
PROTOCOLS = {"lars": Protocol(0.02, 4096, 90, True), "sgd": Protocol(30.0, 256, 90, False)}


def train_linear(
    views: Callable[[Tensor, Generator], Tensor],
    labels: Tensor,
    width: int,
    num_classes: int,
    protocol: Protocol,
    *,
    seed: int = 0,
) -> Iterator[nn.Linear]:
    """A linear classifier, after each epoch. views(ids [B], rng) -> features [B, width] of new views of images."""
    rng = torch.Generator().manual_seed(seed)
    layer = nn.Linear(width, num_classes)
    nn.init.normal_(layer.weight, std=0.01, generator=rng)
    nn.init.zeros_(layer.bias)
    layer.to(labels.device)
    size, per_epoch = protocol.batches(len(labels))
    optimizer = (LARS if protocol.lars else torch.optim.SGD)(layer.parameters(), lr=protocol.lr, momentum=0.9)
    peak, step = protocol.lr * size / 256, 0
    for _ in range(protocol.epochs):
        for ids in torch.randperm(len(labels), generator=rng).split(size):
            factor = lr_factor(step, steps=protocol.epochs * per_epoch, warmup=0, schedule="cosine")
            optimizer.param_groups[0]["lr"] = peak * factor
            loss = functional.cross_entropy(layer(views(ids, rng)), labels[ids.to(labels.device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        yield layer


class OnlineProbe(nn.Module):
    """A linear classifier that follows features as they are learned, from zero: SGD, cross-entropy, a step a batch.

    Features are standardised by a BN without scale, as in He et al. 2022 (MAE, Appendix A.1), so that one learning rate
    serves any network. It never moves what the features come from: they are given without gradient.
    """

    def __init__(self, width: int, num_classes: int, *, lr: float):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, num_classes))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.sgd = torch.optim.SGD(self.parameters(), lr, momentum=0.9)

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """A step on features [B, width] and labels [B] of the whole batch."""
        self.train()
        self.sgd.zero_grad()
        functional.cross_entropy(self.layers(features.detach()), labels).backward()
        self.sgd.step()

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Scores [Q, classes]."""
        return self.eval().layers(features)


def episodes(
    features: Tensor, labels: Tensor, *, ways: int, shots: int, number: int = 600, queries: int = 15, seed: int = 0
) -> np.ndarray:
    """Accuracy [number] of n-way k-shot episodes: queries go to the class whose mean of shots is nearest.

    features: [N, f]; labels: [N], whole numbers. Each draws `ways` classes, and of each shots and queries, which are
    different images.
    Source: Snell et al. 2017, with cosine similarity. Raises ValueError where classes or images are too few.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels.cpu().numpy() == c) for c in range(int(labels.max()) + 1)]
    members = [rows for rows in members if len(rows) > shots]
    if len(members) < ways:
        raise ValueError(f"{ways} ways of {len(members)} classes with more than {shots} images")
    z, accuracies = unit(features).double().cpu().numpy(), []
    for _ in range(number):
        chosen = [rng.permutation(members[c])[: shots + queries] for c in rng.choice(len(members), ways, replace=False)]
        means = np.stack([z[rows[:shots]].mean(0) for rows in chosen])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right = [(z[rows[shots:]] @ means.T).argmax(1) == c for c, rows in enumerate(chosen)]
        accuracies.append(np.concatenate(right).mean())
    return np.array(accuracies)


def verification(features: Tensor, labels: Tensor, *, pairs: int = 10_000, seed: int = 0) -> float:
    """ROC-AUC of the cosine of two images as a sign of one class; half of the pairs are of one.

    features: [N, f]; labels: [N], of whole numbers. Raises ValueError where no two images are of one class, or of two.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    y, z = labels.cpu().numpy(), unit(features).double().cpu().numpy()
    a, b = rng.integers(len(y), size=(2, 50 * pairs))
    a, b = a[a != b], b[a != b]
    same = y[a] == y[b]
    number = min(pairs // 2, same.sum(), (~same).sum())
    if not number:
        raise ValueError("verification needs pairs of one class and of two")
    rows = np.concatenate([np.flatnonzero(same)[:number], np.flatnonzero(~same)[:number]])
    return float(roc_auc_score(same[rows], (z[a[rows]] * z[b[rows]]).sum(1)))
