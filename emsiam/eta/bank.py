"""Where does a bank of η live? Rows by image id, on the device, in host memory or in a memory-mapped file."""

import os
import tempfile

import torch
from torch import Tensor

# fp32 stands for the precision of z, which is wider in an fp64 run
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def rows(num_images: int, dim: int, dtype: torch.dtype, place: str, device: torch.device | str) -> Tensor:
    """Zeros [num_images, dim].

    place: `device`, `host`, or a directory: a file there, mapped, whose space is taken at once and which goes with the
    process. Raises OSError where a disk has no room.
    """
    size = num_images, dim
    if place in ("device", "host"):
        return torch.zeros(size, dtype=dtype, device=device if place == "device" else "cpu")
    with tempfile.NamedTemporaryFile(dir=place, prefix="eta-", suffix=".bin") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a bus error later
            os.posix_fallocate(file.fileno(), 0, num_images * dim * dtype.itemsize)
        return torch.from_file(file.name, shared=True, size=num_images * dim, dtype=dtype).view(size)


def dtype_of(name: str, of_z: torch.dtype) -> torch.dtype:
    """A name of DTYPES, for representations of precision `of_z`."""
    return of_z if name == "fp32" else DTYPES[name]


def needed(num_images: int, dim: int, dtype: str, of_z: torch.dtype) -> int:
    """Bytes of a bank."""
    return num_images * dim * dtype_of(dtype, of_z).itemsize


def placed(saved: Tensor, place: str, device: torch.device | str) -> Tensor:
    """Rows of a checkpoint, where they were."""
    if place == "device":
        return saved.to(device)
    if place == "host":
        return saved
    return rows(len(saved), saved.shape[1], saved.dtype, place, device).copy_(saved)


def read(bank: Tensor, ids: Tensor, like: Tensor) -> Tensor:
    """Rows [B, d] of a bank, where `like` is and in its precision (fp32 or wider)."""
    return bank[ids.to(bank.device)].to(like)


def write(bank: Tensor, ids: Tensor, values: Tensor) -> None:
    bank[ids.to(bank.device)] = values.to(bank)
