"""Which array is this? Embeddings as people have them, brought to views of images, or refused in one line."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..streams import IDS, generator

LAYOUTS = ("views", "tokens")
VIEWS = 16  # of three axes, a first one up to this long is read as views
MOST = 1024  # images that are looked at; more are drawn from
FEW_TOKENS = 4  # of three axes, a second one up to this long may as well be views
WIDEST = 16384  # channels of a representation that anybody trains
FEWER = 5  # channels for each image from which on it is asked whether they are exchanged
SHAPES = "[N, d], one row an image, or [views, N, d]"


class Embeddings(NamedTuple):
    """Representations of images, as they are looked at."""

    x: Tensor  # [n, N, d], floating point, on the CPU
    images: int  # that were given; N of them are looked at
    rows: Tensor | None  # [N] which of those that were given, where not all are looked at
    tokens: Tensor | None  # [N, t, d], where x is their mean over tokens
    said: tuple[str, ...]  # how the array was read


def embeddings(name: str, given: Any, layout: str | None = None) -> Embeddings:
    """What was handed over under a name. layout: of three axes, one of LAYOUTS. Raises ConfigError."""
    x = _array(name, given)
    said: list[str] = []
    if isinstance(given, list | tuple) and x.ndim == 3 and all(isinstance(part, np.ndarray | Tensor) for part in given):
        layout = layout or "views"  # each of its own
    if layout not in (None, *LAYOUTS):
        raise ConfigError(f"layout: is {layout!r}; allowed is {' or '.join(map(repr, LAYOUTS))}")
    if 0 in x.shape:
        raise ConfigError(f"{name}: is empty, {list(x.shape)}; pass {SHAPES}")
    if x.ndim == 1:
        raise ConfigError(f"{name}: has one axis, {list(x.shape)}; pass {SHAPES}")
    if x.ndim not in (2, 3):
        flat = f"{name}.flatten(2) of views [views, N, C, H, W]"
        mean = f"{name}.mean((2, 3)) of feature maps [N, C, H, W], {name}.mean(2) of [views, N, tokens, d]"
        raise ConfigError(
            f"{name}: has {x.ndim} axes, {list(x.shape)}; pass {SHAPES}. That is {flat if name == 'pixels' else mean}"
        )
    if x.ndim == 3 and layout is None and len(x) > VIEWS and x.shape[1] <= FEW_TOKENS:
        raise ConfigError(
            f"{name}: {list(x.shape)} may be [N, views, d] or [N, tokens, d]; pass {name}.swapaxes(0, 1) for views, or "
            'layout="tokens"'
        )
    with_tokens = x.ndim == 3 and (layout == "tokens" or (layout is None and len(x) > VIEWS))
    if with_tokens:
        said.append(f"{name} {list(x.shape)} is read as [N, tokens, d]; the mean over tokens is looked at")
    elif x.ndim == 3 and layout is None:
        said.append(f"{name} {list(x.shape)} is read as [views, N, d]")
    axis = 0 if with_tokens or x.ndim == 2 else 1
    count, width = x.shape[axis], x.shape[-1]
    if count < 2:
        raise ConfigError(f"{name}: is of one image; its spread needs more, 100 or better 500: pass {SHAPES}")
    if name != "pixels" and width > FEWER * count:
        if width > WIDEST and count % 32 == 0:  # as widths are
            raise ConfigError(f"{name}: is {list(x.shape)}, {SHAPES}; it looks transposed: pass {name}.T")
        said.append(f"{name} has {count:,} rows, which are read as images, of {width:,} channels; else pass {name}.T")
    rows = None
    if count > MOST:
        rows = torch.randperm(count, generator=generator(0, IDS))[:MOST].sort().values
        said.append(f"{MOST:,} of {count:,} images are looked at, drawn with a fixed seed")
        which: Any = rows.to(x.device) if isinstance(x, Tensor) else rows.numpy()
        x = x[which] if axis == 0 else x[:, which]
    looked = as_tensor(name, x)
    looked = looked if looked.is_floating_point() and looked.element_size() > 1 else looked.float()
    if with_tokens:
        return Embeddings(looked.float().mean(1)[None], count, rows, looked, tuple(said))
    return Embeddings(looked if looked.ndim == 3 else looked[None], count, rows, None, tuple(said))


def _array(name: str, given: Any) -> np.ndarray | Tensor:
    """What was handed over, as an array of real numbers or a tensor; an array in a file stays there."""
    kind = type(given).__name__
    if isinstance(given, str | bytes):
        raise ConfigError(f"{name}: is a {kind}; pass an array, {SHAPES}")
    if hasattr(given, "to_numpy"):
        raise ConfigError(f"{name}: is a {kind}; pass its numbers, {name}.to_numpy()")
    if isinstance(given, list | tuple) and given and all(isinstance(part, np.ndarray | Tensor) for part in given):
        shapes = {tuple(part.shape) for part in given}
        if len(shapes) > 1:
            raise ConfigError(f"{name}: its views have the shapes {sorted(map(list, shapes))}; allowed is one")
        given = torch.stack([as_tensor(name, part) for part in given])
    if not isinstance(given, np.ndarray | Tensor | list | tuple):
        raise ConfigError(f"{name}: is a {kind}; pass an array, {SHAPES}")
    x = as_tensor(name, given) if isinstance(given, list | tuple) else given
    number = (
        x.dtype.kind if isinstance(x, np.ndarray) else "c" if x.is_complex() else "b" if x.dtype == torch.bool else ""
    )
    if number == "c":
        raise ConfigError(f"{name}: is complex; pass real numbers, such as {name}.real")
    if number == "b":
        raise ConfigError(f"{name}: is a mask (bool); pass numbers, {SHAPES}")
    return x


def as_tensor(name: str, given: Any) -> Tensor:
    """On the CPU. Raises ConfigError for what has no numbers."""
    if isinstance(given, Tensor):
        if given.is_meta or given.is_nested or given.is_quantized:
            kind = "meta" if given.is_meta else "nested" if given.is_nested else "quantised"
            raise ConfigError(f"{name}: is a {kind} tensor; pass one of plain numbers, {SHAPES}")
        whole = given.detach()
        return (whole.to_dense() if whole.layout != torch.strided else whole).cpu()
    if isinstance(given, np.ma.MaskedArray):
        raise ConfigError(f"{name}: is a masked array; pass its whole rows, numpy.ma.compress_rows({name})")
    try:
        x = np.asarray(given)
        long = x.dtype.kind == "f" and x.dtype.itemsize > np.dtype(np.float64).itemsize
        return torch.from_numpy(np.array(x, dtype=np.float64 if long else x.dtype.newbyteorder("=")))
    except (TypeError, ValueError):
        held = ("text" if x.dtype.kind in "US" else x.dtype) if isinstance(given, np.ndarray) else "other things"
        raise ConfigError(f"{name}: holds {held}, not numbers alone; pass {SHAPES}") from None
