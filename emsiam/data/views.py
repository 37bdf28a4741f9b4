"""What is T? An augmentation whose draw is a value: sampled, applied, kept, replayed.

A `Draw` holds the parameters of T for N images, each image with its own. Parameters are sampled on the CPU
from a generator, so a seed gives the same views on every device; they are applied to the whole batch at once
where the images are. The paper writes T for the distribution and x₁ = T(x) for a view.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ..recipes import Recipe
from . import pixels

NEUTRAL = tuple(map(torch.tensor, (1.0, 1.0, 1.0, 0.0)))  # brightness, contrast, saturation, hue: no change
COLOURED = 2**18  # pixel values that T changes at once on a CPU, so that what it makes on the way stays in the cache
TRIES = 10  # crops proposed before the centre crop is taken, as torchvision's RandomResizedCrop


class Draw(NamedTuple):
    """One draw of T for each of N images. None: the recipe leaves the operation out for all of them."""

    box: Tensor | None = None  # [N, 4] top, left, height, width as fractions of the image
    angle: Tensor | None = None  # [N] degrees, counter-clockwise
    jitter: Tensor | None = None  # [N, J] factors of brightness, contrast; colour images: of saturation; shift of hue
    flip: Tensor | None = None  # [N] bool
    order: Tensor | None = None  # [N, J] which of the jitter's operations comes first, second, …; None: as listed
    grayscale: Tensor | None = None  # [N] bool
    sigma: Tensor | None = None  # [N] pixels, 0 for no blur
    noise: Tensor | None = None  # [N, C, H, W] added last
    state: Tensor | None = None  # [N] which state of nuisance; read by the source of the images, before all else

    def map(self, f: Callable[[Tensor], Tensor]) -> "Draw":
        """f of every field that is there: pick images, replay."""
        return Draw(*(None if field is None else f(field) for field in self))


def sample(
    recipe: Recipe, n: int, shape: tuple[int, int, int], generator: Generator, tall: Tensor | None = None
) -> Draw:
    """Draw T for n images of `shape` [C, H, W], on the CPU.

    tall: height / width [n] of what is cropped, where that is not of `shape`.
    """

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.empty(n, *size).uniform_(low, high, generator=generator)

    colour = shape[0] == 3
    cropped = {*recipe.scale, *recipe.ratio} != {1.0}
    box = _boxes(recipe, torch.full([n], shape[1] / shape[2]) if tall is None else tall, uniform) if cropped else None
    angle = uniform(-recipe.degrees, recipe.degrees) if recipe.degrees else None
    strengths = (recipe.brightness, recipe.contrast, *((recipe.saturation,) if colour else ()))
    shift = recipe.hue if colour else 0.0
    jitter = []
    if recipe.jitter and any((*strengths, shift)):
        jitter = [uniform(max(0.0, 1 - s), 1 + s) for s in strengths] + ([uniform(-shift, shift)] if colour else [])
    if jitter and recipe.jitter < 1:
        jittered = uniform(0, 1) < recipe.jitter
        jitter = [torch.where(jittered, f, neutral) for f, neutral in zip(jitter, NEUTRAL, strict=False)]
    return Draw(
        box,
        angle,
        torch.stack(jitter, 1) if jitter else None,
        flip=uniform(0, 1) < recipe.flip if recipe.flip else None,
        order=uniform(0, 1, len(jitter)).argsort(1) if recipe.shuffle and jitter else None,
        grayscale=uniform(0, 1) < recipe.grayscale if recipe.grayscale and colour else None,
        sigma=uniform(*recipe.sigma) * (uniform(0, 1) < recipe.blur) if recipe.blur else None,
        noise=recipe.noise * torch.randn(n, *shape, generator=generator) if recipe.noise else None,
        state=torch.randint(recipe.redraw, [n], generator=generator) if recipe.redraw else None,
    )


def endless(recipe: Recipe, channels: int) -> str:
    """The strengths of T that have infinitely many values, as `--augment` would end them; nothing where T is finite."""
    jittered = ("brightness", "contrast", *(("saturation", "hue") if channels == 3 else ())) if recipe.jitter else ()
    ranges = [name for name in ("degrees", "blur", "noise", *jittered) if getattr(recipe, name)]
    ranges += [name for name in ("scale", "ratio") if {*recipe.scale, *recipe.ratio} != {1.0}]
    return ",".join(f"{name}={'1:1' if name in ('scale', 'ratio') else 0}" for name in ranges)


def count(recipe: Recipe, channels: int) -> int:
    """How many draws a finite T has."""
    coins = (recipe.flip, recipe.grayscale if channels == 3 else 0)
    return (recipe.redraw or 1) * math.prod(2 if 0 < coin < 1 else 1 for coin in coins)


def every(recipe: Recipe, n: int, shape: tuple[int, int, int]) -> Iterator[tuple[float, Draw]]:
    """Each draw of a finite T, for n images alike, and its probability. Raises ValueError where there is no end."""
    if ranges := endless(recipe, shape[0]):
        raise ValueError(f"T has infinitely many draws; --augment {ranges} would make it finite")
    grayscale = recipe.grayscale if shape[0] == 3 else 0.0
    for state, flip, grey in itertools.product(range(recipe.redraw or 1), (True, False), (True, False)):
        p, q = (share if side else 1 - share for side, share in ((flip, recipe.flip), (grey, grayscale)))
        if p * q:
            drawn = Draw(
                flip=torch.full([n], flip) if recipe.flip else None,
                grayscale=torch.full([n], grey) if grayscale else None,
                state=torch.full([n], state) if recipe.redraw else None,
            )
            yield p * q / (recipe.redraw or 1), drawn


def _boxes(recipe: Recipe, tall: Tensor, uniform) -> Tensor:
    """[n, 4]: the first of TRIES proposals that fits into the image, else the largest centred crop. tall [n]: H / W."""
    area = uniform(*recipe.scale, TRIES)
    ratio = torch.exp(uniform(math.log(recipe.ratio[0]), math.log(recipe.ratio[1]), TRIES))
    height = (area / ratio / tall[:, None]).sqrt()
    width = (area * ratio * tall[:, None]).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.int().argmax(1, keepdim=True)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    nearest = (1 / tall).clamp(*recipe.ratio) * tall  # width / height, as fractions
    none = ~fits.any(1)
    places = [torch.where(none, 0.5, uniform(0, 1)) for _ in range(2)]  # of what does not fit, the middle
    height = torch.where(none, (1 / nearest).clamp_max(1), height)
    width = torch.where(none, nearest.clamp_max(1), width)
    top, left = ((1 - length) * place for length, place in zip((height, width), places, strict=True))
    return torch.stack([top, left, height, width], 1)


def apply(images: Tensor, draw: Draw, *, static: bool | None = None) -> Tensor:
    """T(x): images [N, C, H, W], uint8 or float in [0, 1], to float views of the same shape.

    Crop, resize, rotation and flip are one bilinear resampling; colours change as by torchvision's functions.
    static: each operation runs on all images and keeps those that it concerns, so that no shape depends on the draw: a
    GPU never waits, and T can be compiled. Otherwise it runs on these alone, which is faster on a CPU. The numbers are
    the same; by default the device decides.
    """
    draw = draw.map(lambda field: field.to(images.device))
    if images.is_cuda if static is None else static:
        x = _colour(images, draw, static=True)
        x = x if draw.sigma is None else pixels.blur_all(x, draw.sigma.to(x))
    else:
        kind = torch.float32 if images.dtype == torch.uint8 else images.dtype
        x = torch.empty(images.shape, dtype=kind, device=images.device)
        # without orders the jitter asks whether it changes any image of the batch
        size = len(x) if draw.jitter is not None and draw.order is None else pixels.at_once(x, COLOURED)
        for part in (slice(i, i + size) for i in range(0, len(x), max(1, size))):
            x[part] = _colour(images[part], draw.map(itemgetter(part)), static=False)
        x = x if draw.sigma is None else pixels.blur(x, draw.sigma.to(x))
    return x if draw.noise is None else x + draw.noise.to(x)


def _colour(images: Tensor, draw: Draw, *, static: bool) -> Tensor:
    """T but for its blur and noise."""
    x = images / 255 if images.dtype == torch.uint8 else images
    if draw.box is not None or draw.angle is not None:
        x = functional.grid_sample(x, _grid(draw, x), padding_mode="border", align_corners=False)
    elif draw.flip is not None:
        x = pixels.where(draw.flip, lambda x: x.flip(-1), x, static)
    if draw.jitter is not None:
        x = (pixels.jitter_all if static else pixels.jitter)(x, draw.jitter.to(x), draw.order)
    if draw.grayscale is not None:
        x = pixels.where(draw.grayscale, lambda x: pixels.grey(x).expand_as(x), x, static)
    return x


def _grid(draw: Draw, x: Tensor) -> Tensor:
    """[N, H, W, 2] where each output pixel looks: rotated about the centre, then placed in the box.

    Positions are clamped to the centres of the box's outer pixels: a crop does not see beyond its border.
    """
    height, width = x.shape[-2:]
    device = x.device
    box = torch.cat([torch.zeros(1, 2, device=device), torch.ones(1, 2, device=device)], 1)
    box = box if draw.box is None else draw.box
    angle = torch.zeros(1, device=device) if draw.angle is None else torch.deg2rad(draw.angle)
    rows = (torch.arange(height, device=device) + 0.5) / height - 0.5
    columns = (torch.arange(width, device=device) + 0.5) / width - 0.5
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    v, u = rows[None, :, None] * height, columns[None, None, :] * width  # in pixels, so that angles are kept
    if draw.flip is not None:
        u = torch.where(draw.flip[:, None, None], -u, u)
    top, left, tall, wide = box[:, :, None, None].unbind(1)
    y = (top + ((cos * v + sin * u) / height + 0.5) * tall) * height
    x_ = (left + ((cos * u - sin * v) / width + 0.5) * wide) * width
    y = torch.minimum(torch.maximum(y, top * height + 0.5), (top + tall) * height - 0.5)
    x_ = torch.minimum(torch.maximum(x_, left * width + 0.5), (left + wide) * width - 0.5)
    return torch.stack([x_ / width * 2 - 1, y / height * 2 - 1], -1).to(x.dtype)
