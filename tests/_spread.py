"""Run by _trains.py: solvers whose rows processes share, on two processes against one, to the bit."""

from functools import partial
from tempfile import gettempdir

import torch
import torch.distributed as dist

from emsiam import eta, ranks
from emsiam.data.batches import Batch
from emsiam.traits import of_solver

IMAGES, D, B = 37, 5, 12
ASKED = [*((name, {}) for name, solve in eta.SOLVERS.items() if of_solver(solve).spread)]
ASKED += [("moving_average", {"first": first, "bank": "host"}) for first in ("random", "theta0")]
ASKED += [(name, {"w": 1}) for name in ("window", "recomputed")]


class Scaled:
    """F_θ(x) = θ·x, of a θ that follows from the step."""

    def __init__(self, step):
        self.theta = {"scale": torch.tensor(1.0 + step, dtype=torch.float64)}

    def __call__(self, x):
        return self.under(self.theta, x)

    def under(self, weights, x):
        return weights["scale"] * x


def follow(solve, parted):
    """η of every step, [steps, 2, B of this process, D]."""
    rng, state, given = torch.Generator().manual_seed(0), {}, []
    for step in range(12):
        ids = torch.randperm(IMAGES, generator=rng)[:B]
        views = torch.randn(2, B, D, generator=rng, dtype=torch.float64)
        own = {"draw": lambda _: None, "num_images": IMAGES, "total": 12}
        if parted:
            own |= {"gather": ranks.gather, "all_ids": ids, "ranks": 2}
            ids, views = ranks.shard(ids), ranks.shard(views, 1)
        target, state = solve(state, Scaled(step), Batch.of(step, ids, views, **own))
        given.append(target)
    return torch.stack(given), state


with ranks.together("cpu"):
    for name, more in ASKED:
        solve = partial(eta.SOLVERS[name], **more)
        parted, whole = (follow(solve, parted) for parted in (True, False))
        assert torch.equal(parted[0], ranks.shard(whole[0], 2)), (name, more)
        for of in of_solver(eta.SOLVERS[name]).per_image:
            own = whole[1][of][dist.get_rank() :: 2]  # image i is row i // 2 of process i mod 2
            assert torch.equal(parted[1][of][: len(own)], own), (name, more, of)
            collected = eta.bank.whole(parted[1][of], IMAGES, gettempdir() if dist.get_rank() == 0 else None)
            assert dist.get_rank() or torch.equal(collected, whole[1][of]), (name, more, of)
    print(f"rank {dist.get_rank()} of 2 has the η of one: {len(ASKED)} solvers")
