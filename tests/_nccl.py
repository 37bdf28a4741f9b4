"""Run by each of two processes: trains as over nccl, on the device of cuda_dry_run.py. Each argument: PORT OPTIONS

Numbers go over gloo. As with nccl, only what is on the device may be sent, and PyTorch's own synchronised BN and
DistributedDataParallel are asked for. These need a driver: the BN for CPUs and a mean of gradients stand in.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

import _warm
import cuda_dry_run
import torch
import torch.distributed as dist
from cuda_dry_run import Gpu
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import emsiam.plots
from emsiam import ranks
from emsiam.train import main

DEVICES = 1  # as where Slurm shows each process its own


class Nccl(TorchDispatchMode):
    """What is exchanged is on the device; what is not a tensor, PyTorch brings there."""

    of_objects, sent = False, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d" and not self.of_objects:
            assert all(isinstance(x, Gpu) for x in tree_leaves(args) if isinstance(x, torch.Tensor)), func
            self.sent += 1
        return func(*args, **kwargs or {})

    def objects(self, function, *args, **kwargs):
        self.of_objects = True
        try:
            function(*args, **kwargs)
        finally:
            self.of_objects = False


class Averaged(nn.Module):
    """Each gradient is the mean over the processes, once it is whole."""

    def __init__(self, module, **_):
        super().__init__()
        self.module = module
        for p in module.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(self.average)

    def forward(self, *args):
        return self.module(*args)

    @staticmethod
    def average(p):
        dist.all_reduce(p.grad)
        p.grad.div_(dist.get_world_size())


@contextmanager
def nccl():
    """Inside, a training on "cuda" is one over nccl. Yields who counts what is sent, and the devices chosen."""
    join, backend, seen, chosen = dist.init_process_group, dist.get_backend, Nccl(), []

    def joined(asked, **options):
        assert asked == "nccl"
        join("gloo", **options)

    def synchronised(net):
        with mock.patch("torch.distributed.get_backend", backend):
            ranks.convert(net)
        net.to("cuda")

    with ExitStack() as stack:
        stack.enter_context(cuda_dry_run.pretended())
        for name in ("broadcast_object_list", "all_gather_object"):
            by = partial(seen.objects, getattr(dist, name))
            stack.enter_context(mock.patch(f"torch.distributed.{name}", by))
        for name, by in {
            "distributed.init_process_group": joined,
            "distributed.get_backend": lambda _=None: "nccl",
            "nn.SyncBatchNorm.convert_sync_batchnorm": synchronised,
            "nn.parallel.DistributedDataParallel": Averaged,
            "cuda.device_count": lambda: DEVICES,
            "cuda.get_device_capability": lambda _=None: (8, 0),
            "cuda.set_device": chosen.append,
        }.items():
            stack.enter_context(mock.patch(f"torch.{name}", by))
        stack.enter_context(seen)
        yield seen, chosen


if __name__ == "__main__":
    emsiam.plots.trajectory = _warm.no_picture
    _warm.look_seldom(setattr)
    for line in sys.argv[1:]:
        os.environ["MASTER_PORT"], *options = line.split()
        with nccl() as (seen, chosen):
            if status := main([*options, "--device", "cuda"]):
                sys.exit(status)
        assert chosen == [int(os.environ["LOCAL_RANK"]) % DEVICES]
        print(f"rank {os.environ['RANK']} sent {seen.sent} times")
