"""Which images, and which views of them, at a step? Both follow from (seed, step) alone."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ..ranks import gather, shard, world_size
from ..streams import ETA, IDS, VIEWS, generator
from .images import ImageSet

AHEAD = 2  # batches asked for before they are needed


class Batch(NamedTuple):
    """What a step sees. V views are run, S ≤ V of them train θ; with a symmetric loss S = V = 2."""

    step: int
    ids: Tensor  # [B] distinct image ids, of this process's images
    views: Tensor  # [V, B, C, H, W]
    trained: tuple[int, ...]  # S positions in views: what θ trains on
    partners: tuple[int, ...]  # for each of them the position of another view of the same images
    others: Tensor  # [S, B, C, H, W] = views[partners]: T′(x)
    draw: Callable[[int], Tensor]  # draw(n) -> [n, B, C, H, W]: n further views, independent of `views`
    num_images: int  # ids are in 0 … num_images − 1
    # [B, ...] of this process -> the rows of every process, in order
    gather: Callable[[Tensor], Tensor] = lambda rows: rows
    total: int = 0  # steps of the whole training, where something follows a schedule
    # all of a finite T, a draw at a time: its probability, and views [B, C, H, W]; raises ValueError where T has no end
    every: Callable[[], Iterator[tuple[float, Tensor]]] | None = None
    labels: Tensor | None = None  # [B], for a solver that says it needs them
    all_ids: Tensor | None = None  # ids of all processes' images, in order, on the host; None: not known
    ranks: int = 1  # processes that share the batch, and the rows of a bank
    later: list[Callable[[], None]] | None = None  # what the loop calls after the θ-step; None: nothing can wait

    @classmethod
    def of(cls, step: int, ids: Tensor, views: Tensor, symmetry: str = "sym", **more: Any) -> "Batch":
        """A batch of `views_of(symmetry)` views, of one process unless `gather` says otherwise; more: other fields."""
        trained, partners = SYMMETRY[symmetry]
        others = torch.stack([views[partner] for partner in partners])  # a list as index would be sent to a GPU
        return cls(step, ids, views, trained, partners, others, **more)

    def own(self, rows: Tensor, axis: int = 0) -> Tensor:
        """The rows of this process, of those that `gather` gives. Of a probe set every process has all."""
        return shard(rows, axis) if self.ranks > 1 else rows


# How a loss is symmetrised (§4.6): the views that train θ, and for each the view that its target comes from.
SYMMETRY = {
    "sym": ((0, 1), (1, 0)),
    "asym": ((0,), (1,)),
    "asym2x": ((0, 2), (1, 3)),
}


def views_of(symmetry: str) -> int:
    """V, how many views of an image a step needs."""
    return len({view for part in SYMMETRY[symmetry] for view in part})


def batches(
    data: ImageSet,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    symmetry: str,
    dtype: torch.dtype,
    total: int | None = None,
    labels: Tensor | None = None,
) -> Iterator[Batch]:
    """Batches `start` to `stop` − 1. Every epoch has a new order; its incomplete last batch is left out.

    batch_size: images per step over all processes, at most the number of images. total: steps of the whole training, by
    default `stop`. labels: of all images, for a solver that needs them.
    """
    num_images = len(data.images)
    per_epoch = num_images // batch_size
    order, epoch = torch.empty(0), -1
    asked: deque[Callable[[], Batch]] = deque()
    for step in range(start, stop):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(num_images, generator=generator(seed, IDS, epoch))
        first = step % per_epoch * batch_size
        ids = order[first : first + batch_size]
        asked.append(_ask_batch(data, seed, step, ids, symmetry, dtype, total or stop, labels))
        if len(asked) > AHEAD:
            yield asked.popleft()()
    for batch in asked:
        yield batch()


def _ask_batch(
    data: ImageSet,
    seed: int,
    step: int,
    ids: Tensor,
    symmetry: str,
    dtype: torch.dtype,
    total: int,
    labels: Tensor | None,
) -> Callable[[], Batch]:
    asked = _ask_views(data, ids, views_of(symmetry), generator(seed, VIEWS, step), dtype)
    further = generator(seed, ETA, step)

    def batch() -> Batch:
        there, x = asked()
        return Batch.of(
            step,
            there,
            x,
            symmetry,
            draw=lambda n: _ask_views(data, ids, n, further, dtype)()[1],
            num_images=len(data.images),
            gather=gather,
            total=total,
            every=lambda: data.every(shard(ids), dtype),
            labels=None if labels is None else labels[there.to(labels.device)],
            all_ids=ids,
            ranks=world_size(),
            later=[],
        )

    return batch


def _ask_views(data: ImageSet, ids: Tensor, n: int, rng: Generator, dtype) -> Callable[[], tuple[Tensor, Tensor]]:
    """Ids of this process's images and n new views. Draws are made for all images, so any number of ranks agrees."""
    of_all = data.sample(ids, n, rng)
    of_this_process = of_all.map(lambda field: shard(field.unflatten(0, (n, len(ids))), axis=1).flatten(0, 1))
    return data.ask_with_ids(shard(ids), of_this_process, n, dtype)
