"""How do a batch's numbers reach the device? Together: one copy, which nobody waits for."""

from collections.abc import Sequence

import torch
from torch import Tensor

WORD = 8  # bytes: every number begins at a multiple of its own size


def together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host, of any types, on a device.

    To a GPU they travel as one block of page-locked bytes: a copy of its own for each would make the host wait each
    time until all work before it is done.
    """
    if device.type != "cuda":
        return [x.to(device) for x in tensors]
    sizes = [x.numel() * x.element_size() for x in tensors]
    places = [-(-size // WORD) * WORD for size in sizes]
    block = torch.empty(sum(places), dtype=torch.uint8, pin_memory=True)
    for x, part, size in zip(tensors, block.split(places), sizes, strict=True):
        part[:size].view(x.dtype).view(x.shape).copy_(x)
    parts = block.to(device, non_blocking=True).split(places)
    return [part[:n].view(x.dtype).view(x.shape) for x, part, n in zip(tensors, parts, sizes, strict=True)]
