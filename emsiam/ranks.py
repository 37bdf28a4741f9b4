"""What is different when several processes train one network? Each has its share of every batch.

Every process samples the draws of the whole batch and keeps its own rows, batch normalisation sees the whole
batch, gradients are averaged, and the rows of a bank are exchanged: the numbers are those of one process.
Processes are started by torchrun. Without it, what is computed here is that of one process.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import ConfigError, launched

# What a process waits for another: the first may write a checkpoint of many GB, or draw. Then it counts as hanging.
PATIENCE = timedelta(minutes=30)
joined = False  # whether inside `together`; elsewhere a process of a user's own group may be alone


def rank() -> int:
    """This process's number; before they meet and after they part, as torchrun says."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ["RANK"]) if launched() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ["WORLD_SIZE"]) if launched() else 1


@contextmanager
def together(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, over nccl on CUDA and gloo elsewhere; leave them at the end.

    Inside, every process does the same. Processes that have met before, and will go on together, stay so.
    """
    global joined
    if world_size() == 1 or joined:
        yield
        return
    met = dist.is_initialized()
    if not met:
        if device == "cuda":
            # each process may be shown one device alone, as by Slurm
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    joined = True
    try:
        yield
    finally:
        joined = False
    if not met:
        dist.destroy_process_group()  # not after an error: the others may be gone, and it would wait for them


def place() -> tuple[int, int]:
    """This process's number and how many there are, inside `together`; elsewhere it is the only one."""
    return (rank(), world_size()) if joined else (0, 1)


def check_met(what: str) -> None:
    """Raises ConfigError where torchrun started several processes that have not met: each would train alone."""
    if world_size() > 1 and not dist.is_initialized():
        reason = "do not know of each other yet; call it inside emsiam.ranks.together(device), or emsiam.fit"
        raise ConfigError(f"{what}: the {world_size()} processes of torchrun {reason}")


def parted(error: RuntimeError) -> str:
    """Why processes cannot go on together, in a line; nothing where an error is about something else."""
    if not isinstance(error, dist.DistError) and not (dist.is_initialized() and "gloo" in str(error)):
        return ""
    if "Duplicate GPU" in str(error):  # nccl's words
        return "two processes are on one GPU; allowed are as many processes as GPUs"
    return f"another process has gone, or does not answer ({str(error).strip().splitlines()[0]})"


def shard(x: Tensor, axis: int = 0) -> Tensor:
    """This process's rows of what holds the whole batch; the batch size is a multiple of the processes."""
    return x.chunk(world_size(), axis)[rank()] if dist.is_initialized() else x


def gather(x: Tensor) -> Tensor:
    """[B, ...] of each process -> [world_size·B, ...], in the order of the whole batch.

    Gradients pass: of the sum of all processes' losses, which the backward pass of `wrap` then averages.
    """
    return _Gather.apply(x) if dist.is_initialized() else x


def exchange(x: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Rows of each process to the others: of x [Σ sent, ...] sent[r] rows, in order, go to process r.

    Returns those that arrive, [Σ received, ...], received[r] of them from process r. No gradient passes.
    """
    out = x.new_empty(sum(received), *x.shape[1:])
    dist.all_to_all_single(_bytes(out), _bytes(x.contiguous()), received, sent)
    return out


def _bytes(x: Tensor) -> Tensor:
    """[N, ...] as [N, bytes] on the same memory: back ends differ in which types they carry."""
    return (x.flatten(1) if x.ndim > 1 else x[:, None]).view(torch.uint8)


def sum_of_disjoint(x: Tensor) -> Tensor:
    """x of all processes where each has numbers of its own and zeros elsewhere, to the bit."""
    dist.all_reduce(_bytes(x))
    return x


def to_first(x: Tensor) -> list[Tensor]:
    """x of every process, of one shape, in the first; in the others nothing."""
    parts = [torch.empty_like(x) for _ in range(world_size())] if rank() == 0 else None
    dist.gather(_bytes(x), None if parts is None else [_bytes(part) for part in parts])
    return parts or []


def divided(parts: Sequence, f: Callable[[Any], tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """f of each part, in order, in every process of `together`: part i is computed by process i mod their number, and
    sent to the others.
    """
    own, processes = place()
    if processes == 1:
        yield from map(f, parts)
        return
    for first in range(0, len(parts), processes):
        group = parts[first : first + processes]
        made = f(group[own]) if own < len(group) else ()
        for sender in range(len(group)):
            yield _from_one(made if sender == own else None, sender)


def _from_one(tensors: tuple[Tensor, ...] | None, sender: int) -> tuple[Tensor, ...]:
    """The tensors of one process, in every process."""
    box = [tensors and [(x.shape, x.dtype) for x in tensors]]
    dist.broadcast_object_list(box, sender)
    of_sender = tensors or tuple(torch.empty(shape, dtype=dtype, device=device()) for shape, dtype in box[0] or ())
    of_sender = tuple(x.contiguous() for x in of_sender)
    for x in of_sender:
        dist.broadcast(_bytes(x), sender)
    return of_sender


def device() -> str:
    """Where tensors are that processes send each other."""
    return "cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu"


def mean(x: Tensor) -> Tensor:
    """The mean over the processes of a tensor that each has. No gradient passes."""
    if not dist.is_initialized():
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def any_of(flag: bool, step: int) -> bool:
    """Whether any process says so; with several, asked every tenth step, all at once."""
    if not dist.is_initialized():
        return flag
    if step % 10:
        return False
    votes = torch.tensor(float(flag), device=device())
    dist.all_reduce(votes)
    return votes.item() > 0


def agree(text: str) -> str:
    """The first process's text, in every process."""
    if not dist.is_initialized():
        return text
    box = [text]
    dist.broadcast_object_list(box)
    return box[0]


def union(names: Iterable[str]) -> set[str]:
    """The names that any process of `together` has, in every one."""
    parts: list[Iterable[str]] = [()] * world_size()
    if not joined:
        return set(names)
    dist.all_gather_object(parts, list(names))
    return set().union(*parts)


def same(text: str) -> bool:
    """Whether all processes of `together` have one text."""
    return len(union([text])) == 1


def check_told(told: Mapping[str, Any]) -> None:
    """Raises ConfigError where several processes have different values under a name, or not the same names."""
    own = {f"{name}: {json.dumps(value, default=str)}" for name, value in told.items()}
    if differ := sorted({text.partition(": ")[0] for text in union(own) - own}):
        raise ConfigError(f"the processes differ in {', '.join(differ)}; allowed is the same in all")


def wrap(net: nn.Module) -> nn.Module:
    """The network whose backward pass averages gradients over the processes. BN must be converted before."""
    if not dist.is_initialized():
        return net
    with warnings.catch_warnings():  # newer releases rename the argument that older ones need
        warnings.filterwarnings("ignore", message="`broadcast_buffers`", category=FutureWarning)
        return nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)


def unwrap(net: nn.Module):
    return net.module if isinstance(net, nn.parallel.DistributedDataParallel) else net


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return shard(grad)


class _Sum(torch.autograd.Function):
    """Σ over the processes; the gradient of a sum of all their losses is again a sum."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes, of equal size, on any device.

    torch.nn.SyncBatchNorm refuses CPU tensors. Same parameters, buffers and formula as nn.BatchNorm1d/2d.
    """

    num_batches_tracked: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def _check_input_dim(self, input):
        pass  # [B, C] and [B, C, H, W] alike

    def forward(self, input):
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        n = x.numel() // x.shape[1] * world_size()
        mean = (_Sum.apply(x.sum(axes, dtype=torch.float64)) / n).to(x.dtype)  # sums in fp64, as PyTorch's own on CPUs
        x = x - mean.view(shape)
        var = (_Sum.apply(x.square().sum(axes, dtype=torch.float64)) / n).to(x.dtype)
        if self.num_batches_tracked is not None:  # see `networks.counted`
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(var.detach() * (n / (n - 1)), self.momentum)
        x = x * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)


def convert(net: nn.Module) -> None:
    """Replace every BN layer inside by its synchronised form, with the same values, where several processes train."""
    if not dist.is_initialized():
        return
    if dist.get_backend() == "nccl":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            dtype = next(child.buffers()).dtype
            sync = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine, dtype=dtype)
            sync.load_state_dict(child.state_dict())
            sync.weight, sync.bias = child.weight, child.bias  # which may be fixed
            setattr(net, name, sync)
        else:
            convert(child)
