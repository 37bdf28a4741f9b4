"""Which array is this? Embeddings as people have them, brought to views of images, or refused in one line."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..streams import IDS, generator

LAYOUTS = ("views", "tokens")
VIEWS = 16  # of three axes, a first one up to this long is read as views
MOST = 4096  # images that are looked at; more are drawn from
WIDEST = 16384  # channels of a representation that anybody trains
SHAPES = "[N, d], one row an image, or [views, N, d]"


class Embeddings(NamedTuple):
    """Representations of images, as they are looked at."""

    x: Tensor  # [n, N, d], floating point, on the CPU
    rows: Tensor | None  # [N] which of those that were given, where not all are looked at
    tokens: Tensor | None  # [N, t, d], where x is their mean over tokens
    said: tuple[str, ...]  # how the array was read


def embeddings(name: str, given: Any, layout: str | None = None) -> Embeddings:
    """What was handed over under a name. layout: of three axes, one of LAYOUTS. Raises ConfigError."""
    x = _whole(name, given)
    said: list[str] = []
    if layout not in (None, *LAYOUTS):
        raise ConfigError(f"layout: is {layout!r}; allowed is {' or '.join(map(repr, LAYOUTS))}")
    tokens = None
    if x.ndim == 3 and (layout == "tokens" or (layout is None and len(x) > VIEWS)):
        said.append(f"{name} {list(x.shape)} is read as [N, tokens, d]; the mean over tokens is looked at")
        x, tokens = x[None], x
    elif x.ndim == 3:
        said.append(f"{name} {list(x.shape)} is read as [views, N, d]")
    elif x.ndim == 2:
        x = x[None]
    elif x.ndim == 1:
        raise ConfigError(f"{name}: has one axis, {list(x.shape)}; pass {SHAPES}")
    else:
        raise ConfigError(
            f"{name}: has {x.ndim} axes, {list(x.shape)}; pass {SHAPES}. Of feature maps [N, C, H, W] that is "
            f"{name}.mean((2, 3))"
        )
    count, width = x.shape[1], x.shape[-1]
    if count < 2:
        raise ConfigError(f"{name}: is of one image; its spread needs more, 100 or better 500: pass {SHAPES}")
    if width > WIDEST and count * 8 < width:
        raise ConfigError(f"{name}: {width:,} channels of {count:,} images look transposed; pass {name}.T, {SHAPES}")
    rows = None
    if count > MOST:
        rows = torch.randperm(count, generator=generator(0, IDS))[:MOST].sort().values
        said.append(f"{MOST:,} of {count:,} images are looked at, drawn with a fixed seed")
        x, tokens = x[:, rows], None if tokens is None else tokens[rows]
    if tokens is not None:
        x = x.float().mean(2)
    return Embeddings(x if x.is_floating_point() else x.float(), rows, tokens, tuple(said))


def _whole(name: str, given: Any) -> Tensor:
    """The numbers that were handed over, as a tensor of real numbers with two channels of one image or more."""
    kind = type(given).__name__
    if isinstance(given, str | bytes):
        raise ConfigError(f"{name}: is a {kind}; pass an array, {SHAPES}")
    if hasattr(given, "to_numpy"):
        raise ConfigError(f"{name}: is a {kind}; pass its numbers, {name}.to_numpy()")
    if isinstance(given, list | tuple) and given and all(isinstance(part, np.ndarray | Tensor) for part in given):
        shapes = {tuple(part.shape) for part in given}
        if len(shapes) > 1:
            raise ConfigError(f"{name}: its views have the shapes {sorted(map(list, shapes))}; allowed is one")
        given = torch.stack([_tensor(name, part) for part in given])
    if not isinstance(given, np.ndarray | Tensor | list | tuple):
        raise ConfigError(f"{name}: is a {kind}; pass an array, {SHAPES}")
    x = _tensor(name, given)
    if x.is_complex():
        raise ConfigError(f"{name}: is complex; pass real numbers, such as {name}.real")
    if x.dtype == torch.bool:
        raise ConfigError(f"{name}: is a mask (bool); pass numbers, {SHAPES}")
    if not x.numel():
        raise ConfigError(f"{name}: is empty, {list(x.shape)}; pass {SHAPES}")
    return x


def _tensor(name: str, given: Any) -> Tensor:
    if isinstance(given, Tensor):
        whole = given.detach()
        return (whole.to_dense() if whole.layout != torch.strided else whole).cpu()
    try:
        x = np.asarray(given)
        if isinstance(given, np.ma.MaskedArray):
            raise TypeError
        return torch.from_numpy(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")))
    except (TypeError, ValueError):
        of = f"of {x.dtype}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise ConfigError(f"{name}: is {of}, not of numbers alone; pass {SHAPES}") from None
