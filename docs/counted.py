"""What does a training keep and send on many processes? Counted for docs/scaling.md, see scaling.py.

One step of each mode is taken on the meta device, in a group of processes of which only this one exists: shapes are
real, and nothing is computed or sent.
"""

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing._internal.distributed.fake_pg import FakeStore

from emsiam import optim, ranks
from emsiam.alternate import Step, alternate
from emsiam.build import loop_options, network, objective_of, solver_of
from emsiam.config import PRESETS, Config, preset, resolve
from emsiam.data.batches import Batch, views_of
from emsiam.eta import bank
from emsiam.networks import Siamese
from emsiam.traits import hyperparameters, of_solver, value

PRESET, SHAPE = "simsiam-imagenet", (3, 224, 224)
IMAGES = 1_281_167
SEVERAL = 8  # processes: the paper's GPUs
PER_PROCESS = PRESETS[PRESET]["batch_size"] // SEVERAL  # images
FP32 = torch.float32.itemsize


class Sent(NamedTuple):
    """What one process takes part in at a step: bytes for each image of its share of the batch, and passes."""

    gathered: int  # all-gather
    reduced: int  # all-reduce of what has been gathered: its gradient
    rows: int  # of a bank, in all exchanges
    F: tuple[int, int]  # forward passes, and those of them that have a backward pass
    h: tuple[int, int]


def resolved(**options: Any) -> Config:
    """The paper's settings on ImageNet, with other options."""
    return resolve(preset(Config(preset=PRESET, device="cpu", precision="fp32", **options)), IMAGES, SHAPE)[0]


def shapes(c: Config) -> Siamese:
    """Its network, on the meta device."""
    with torch.device("meta"):
        return network(c, SHAPE)


@functools.cache
def of_mode(name: str) -> Siamese:
    return shapes(resolved(mode=name))


def step(c: Config, net: Siamese, processes: int) -> Step:
    """The first step of one of several processes, on the meta device."""
    ids = torch.arange(processes * PER_PROCESS)

    def views(n: int) -> Tensor:
        return torch.empty(n, PER_PROCESS, *SHAPE, device="meta")

    own, seen = ids[:PER_PROCESS].to("meta"), views(views_of(c.symmetry))
    several = {"gather": ranks.gather, "all_ids": ids, "ranks": processes}
    batch = Batch.of(0, own, seen, c.symmetry, draw=views, num_images=len(ids), **several)
    optimizer = optim.SGD(net, lr=0.1, momentum=0.9, wd=0.0, steps=1)
    loop = alternate(net, solver_of(c), objective_of(c), optimizer, [batch], **loop_options(c))
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        # autocast knows no meta device; in bf16, too, z, gradients and statistics travel in fp32
        with patch.object(torch, "autocast", lambda *_, **__: nullcontext()):
            return next(loop)
    finally:
        dist.destroy_process_group()


@functools.cache
def sent(processes: int = SEVERAL, **options: Any) -> Sent:
    """What a step of a configuration sends. Its backbone is a small one: z and the heads are as wide as always."""
    c = resolved(arch="tiny", **options)
    net = shapes(c)
    passes = {"F": [0, 0], "h": [0, 0]}

    def count(part: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            passes[part][0] += 1
            passes[part][1] += torch.is_grad_enabled()

        return hook

    net.F.backbone.register_forward_hook(count("F"))
    net.h.register_forward_hook(count("h"))
    with (
        patch.object(dist, "all_gather", wraps=dist.all_gather) as gathers,
        patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reductions,
        patch.object(dist, "all_to_all_single", wraps=dist.all_to_all_single) as exchanges,
    ):
        step(c, net, processes)
    gathered = sum(call.args[1].nbytes for call in gathers.call_args_list) // PER_PROCESS
    reduced = sum(call.args[0].nbytes for call in reductions.call_args_list) // PER_PROCESS // processes
    rows = sum(call.args[0].shape[1] for call in exchanges.call_args_list)
    return Sent(gathered, reduced, rows, (passes["F"][0], passes["F"][1]), (passes["h"][0], passes["h"][1]))


def parameters(module: nn.Module, *, trained: bool = False) -> int:
    return sum(x.numel() for x in module.parameters() if x.requires_grad or not trained)


def statistics(net: Siamese, s: Sent) -> tuple[int, int]:
    """Numbers that this process hands over for batch normalisation at a step: to be gathered, and to be summed.

    Forward: mean, 1/std of each channel, and a count. Backward: two sums for each channel. Source: PyTorch's
    SyncBatchNorm, nn/modules/_functions.py.
    """
    forward = backward = 0
    for part, (all_passes, with_gradient) in ((net.F, s.F), (net.h, s.h)):
        channels = [layer.num_features for layer in part.modules() if isinstance(layer, _BatchNorm)]
        forward += all_passes * sum(2 * c + 1 for c in channels)
        backward += with_gradient * sum(2 * c for c in channels)
    return forward, backward


def traffic(net: Siamese, s: Sent, processes: int) -> list[float]:
    """Bytes that a process sends at a step: gradients, batch normalisation, what is gathered, rows of a bank."""
    others = processes - 1
    forward, backward = statistics(net, s)
    return [
        2 * others / processes * FP32 * parameters(net, trained=True),
        others * FP32 * forward + 2 * others / processes * FP32 * backward,
        others * PER_PROCESS * (s.gathered + 2 * s.reduced),
        others / processes * PER_PROCESS * s.rows,
    ]


def keeps(c: Config, images: int, processes: int, P: int) -> float:
    """Bytes that a solver says it keeps in each process: its trait `memory`, for the rows that the process has."""
    solve = solver_of(c)
    n = bank.shared(images, processes) if of_solver(solve).spread else images
    own = {**hyperparameters(solve.func), **solve.keywords}
    return value(of_solver(solve).memory, {"N": n, "d": c.width, "pixels": math.prod(SHAPE), "P": P, **own})
