"""Where does a bank of η live? Rows by image id, on the device, in host memory or in a memory-mapped file.

Several processes share the rows: image i is row i // R of process i mod R. At each step rows travel to the process that
sees their image, and back.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ranks
from ..sending import together

# fp32 stands for the precision of z, which is wider in an fp64 run
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AT_ONCE = 2**26  # bytes of rows that processes hand over at once, for a checkpoint


def zeros(shape: Sequence[int], dtype: torch.dtype, place: str, device: torch.device | str) -> Tensor:
    """Zeros of a shape.

    place: `device`, `host`, or a directory: a file there, mapped, whose space is taken at once and which goes with the
    process. Raises OSError, with the directory's name, where there is no room.
    """
    size = torch.Size(shape)
    if place in ("device", "host") or not size.numel():
        return torch.zeros(size, dtype=dtype, device=device if place == "device" else "cpu")
    with tempfile.NamedTemporaryFile(dir=place, prefix="eta-", suffix=".bin") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a bus error later
            needed = size.numel() * dtype.itemsize
            try:
                os.posix_fallocate(file.fileno(), 0, needed)
            except OSError as error:
                raise OSError(error.errno, f"no room for {needed:,} bytes of η ({error.strerror})", place) from error
        return torch.from_file(file.name, shared=True, size=size.numel(), dtype=dtype).view(size)


def rows(batch, shape: Sequence[int], dtype: torch.dtype, place: str, device: torch.device | str) -> Tensor:
    """Zeros [n, *shape]: a row for each image that this process keeps, see `zeros`."""
    return zeros((shared(batch.num_images, batch.ranks), *shape), dtype, place, device)


def shared(num_images: int, processes: int) -> int:
    """The number of rows that each process keeps."""
    return -(-num_images // processes)


def dtype_of(name: str, of_z: torch.dtype) -> torch.dtype:
    """A name of DTYPES, for representations of precision `of_z`."""
    return of_z if name == "fp32" else DTYPES[name]


def needed(num_images: int, dim: int, dtype: str, of_z: torch.dtype) -> int:
    """Bytes of the rows that each process keeps."""
    return shared(num_images, ranks.world_size()) * dim * dtype_of(dtype, of_z).itemsize


class Route(NamedTuple):
    """Which rows of a batch travel where."""

    order: Tensor  # [B] this process's images, by the process that keeps their rows
    sizes: list[int]  # how many of them each process keeps
    kept: Tensor  # rows of this process that others see the images of, by the process that does
    kept_sizes: list[int]


def route(batch) -> Route:
    """All processes know all ids, so nothing is asked for."""
    parts, me = _ids_on_host(batch).chunk(batch.ranks), ranks.rank()
    keeper = parts[me] % batch.ranks
    kept = [part[part % batch.ranks == me] // batch.ranks for part in parts]
    sizes = torch.bincount(keeper, minlength=batch.ranks).tolist()
    return Route(keeper.argsort(stable=True), sizes, torch.cat(kept), [len(part) for part in kept])


def _ids_on_host(batch) -> Tensor:
    return batch.gather(batch.ids).cpu() if batch.all_ids is None else batch.all_ids


def _of(batch, bank: Tensor) -> Tensor:
    """A batch's ids where a bank is."""
    return batch.ids if bank.device == batch.ids.device else _ids_on_host(batch)


def _near(x: Tensor, other: Tensor) -> Tensor:
    """x where another tensor is."""
    return x if x.device == other.device else together([x], other.device)[0]


def read(bank: Tensor, batch) -> Tensor:
    """[B, ...]: the rows of a batch's images, in the bank's precision, where batch.ids are."""
    if batch.ranks == 1:
        return _near(bank[_of(batch, bank)], batch.ids)
    way = route(batch)
    found = ranks.exchange(_near(bank[_near(way.kept, bank)], batch.ids), way.kept_sizes, way.sizes)
    return found[_near(way.order.argsort(), found)]


def write(bank: Tensor, batch, values: Tensor) -> None:
    """values [B, ...] of a batch's images become their rows, in the bank's precision.

    From a GPU to the host they travel while the loop goes on to the backward pass, and are stored after it.
    """
    values = values.to(bank.dtype)
    if batch.ranks == 1:
        at = _of(batch, bank)
    else:
        way = route(batch)
        values = ranks.exchange(values[_near(way.order, values)], way.sizes, way.kept_sizes)
        at = _near(way.kept, bank)
    if bank.device == values.device:
        bank[at] = values
        return
    arrived = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    arrived.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record()

    def store() -> None:
        event.synchronize()
        bank[at] = arrived

    if batch.later is None:
        store()
    else:
        batch.later.append(store)


def of_ids(bank: Tensor, ids: Tensor, processes: int) -> Tensor:
    """[P, ...]: rows of images that every process asks for, the same ones, in every process, where the bank is."""
    if processes == 1:
        return bank[ids.to(bank.device)]
    ids = ids.cpu()
    out = torch.zeros(len(ids), *bank.shape[1:], dtype=bank.dtype, device=bank.device)
    own = ids % processes == ranks.rank()
    out[own.to(out.device)] = bank[(ids[own] // processes).to(bank.device)]
    return ranks.sum_of_disjoint(out.to(ranks.device())).to(bank.device)


def own_part(whole: Tensor, processes: int) -> Tensor:
    """The rows that this process keeps, of all [num_images, ...]."""
    if processes == 1:
        return whole
    part = whole[ranks.rank() :: processes].contiguous()
    missing = shared(len(whole), processes) - len(part)  # every process has as many
    return torch.cat([part, part.new_zeros(missing, *part.shape[1:])])


def whole(bank: Tensor, num_images: int, folder: str | None) -> Tensor:
    """The rows of all processes in the order of ids, [num_images, ...], on the host: `own_part` undone.

    They are collected a piece at a time, in a mapped file in `folder`, which goes with the tensor. folder None: this
    process only hands its rows over, and gets them back as they are.
    """
    n = ranks.world_size()
    out = None if folder is None else zeros((num_images, *bank.shape[1:]), bank.dtype, folder, "cpu")
    piece = max(1, AT_ONCE // max(1, n * bank[0].numel() * bank.element_size()))
    for first in range(0, len(bank), piece):
        parts = ranks.to_first(bank[first : first + piece].to(ranks.device()))
        if out is not None:
            mixed = torch.stack([part.cpu() for part in parts], 1).flatten(0, 1)
            out[first * n : first * n + len(mixed)] = mixed[: num_images - first * n]
    return bank if out is None else out


def placed(saved: Tensor, place: str, device: torch.device | str) -> Tensor:
    """Rows of a checkpoint, where they were."""
    if place == "device":
        return saved.to(device)
    if place == "host":
        return saved
    return zeros(saved.shape, saved.dtype, place, device).copy_(saved)
