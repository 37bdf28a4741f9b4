"""What is T? An augmentation whose draw is a value: sampled, applied, kept, replayed.

A `Draw` holds the parameters of T for N images, each image with its own. Parameters are sampled on the CPU
from a generator, so a seed gives the same views on every device; they are applied to the whole batch at once
where the images are. The paper writes T for the distribution and x₁ = T(x) for a view.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

TRIES = 10  # crops proposed before the centre crop is taken, as torchvision's RandomResizedCrop


class Recipe(NamedTuple):
    """Strengths of T. An operation of strength 0 changes nothing; so does a crop of scale and ratio 1 of a square."""

    scale: tuple[float, float] = (1.0, 1.0)  # area of the crop / area of the image
    ratio: tuple[float, float] = (1.0, 1.0)  # width / height of the crop, log-uniform
    degrees: float = 0.0  # rotation, uniform in ±degrees
    brightness: float = 0.0  # factor, uniform in 1 ± brightness
    contrast: float = 0.0  # factor, uniform in 1 ± contrast
    noise: float = 0.0  # standard deviation of Gaussian noise; pixel values are in [0, 1]


class Draw(NamedTuple):
    """One draw of T for each of N images."""

    box: Tensor  # [N, 4] top, left, height, width as fractions of the image
    angle: Tensor  # [N] degrees, counter-clockwise
    brightness: Tensor  # [N] factor
    contrast: Tensor  # [N] factor
    noise: Tensor  # [N, C, H, W] added last

    def __getitem__(self, index) -> "Draw":  # type: ignore[override]  # images, not fields, are indexed
        return Draw(*(field[index] for field in self))


def sample(recipe: Recipe, n: int, shape: tuple[int, int, int], generator: Generator) -> Draw:
    """Draw T for n images of `shape` [C, H, W]."""

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.empty(n, *size).uniform_(low, high, generator=generator)

    return Draw(
        box=_boxes(recipe, n, shape[1] / shape[2], uniform),
        angle=uniform(-recipe.degrees, recipe.degrees),
        brightness=uniform(max(0.0, 1 - recipe.brightness), 1 + recipe.brightness),
        contrast=uniform(max(0.0, 1 - recipe.contrast), 1 + recipe.contrast),
        noise=recipe.noise * torch.randn(n, *shape, generator=generator),
    )


def _boxes(recipe: Recipe, n: int, tall: float, uniform) -> Tensor:
    """[n, 4]: the first of TRIES proposals that fits into the image, else the largest centred crop."""
    area = uniform(*recipe.scale, TRIES)
    ratio = torch.exp(uniform(math.log(recipe.ratio[0]), math.log(recipe.ratio[1]), TRIES))
    height = (area / ratio / tall).sqrt()
    width = (area * ratio * tall).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.int().argmax(1, keepdim=True)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    nearest = min(max(1 / tall, recipe.ratio[0]), recipe.ratio[1]) * tall  # width / height, as fractions
    none = ~fits.any(1)
    height = torch.where(none, torch.tensor(min(1.0, 1 / nearest)), height)
    width = torch.where(none, torch.tensor(min(1.0, nearest)), width)
    top, left = (1 - height) * uniform(0, 1), (1 - width) * uniform(0, 1)
    return torch.stack([top, left, height, width], 1)


def apply(images: Tensor, draw: Draw) -> Tensor:
    """T(x): images [N, C, H, W], uint8 or float in [0, 1], to float views of the same shape.

    Crop, resize and rotation are one bilinear resampling; brightness and contrast act as torchvision's.
    """
    x = images / 255 if images.dtype == torch.uint8 else images
    if images.device.type != "cpu":
        draw = Draw(*(field.to(images.device, non_blocking=True) for field in draw))
    x = functional.grid_sample(x, _grid(draw, x), padding_mode="border", align_corners=False)
    factor = draw.brightness.to(x)[:, None, None, None]
    x = (x * factor).clamp_(0, 1)
    factor = draw.contrast.to(x)[:, None, None, None]
    x = (factor * x + (1 - factor) * _grey(x).mean((1, 2, 3), keepdim=True)).clamp_(0, 1)
    return x.add_(draw.noise)


def _grid(draw: Draw, x: Tensor) -> Tensor:
    """[N, H, W, 2] where each output pixel looks: rotated about the centre, then placed in the box.

    Positions are clamped to the centres of the box's outer pixels: a crop does not see beyond its border.
    """
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) + 0.5) / height - 0.5
    columns = (torch.arange(width, device=x.device) + 0.5) / width - 0.5
    cos, sin = torch.deg2rad(draw.angle).cos()[:, None, None], torch.deg2rad(draw.angle).sin()[:, None, None]
    v, u = rows[None, :, None] * height, columns[None, None, :] * width  # in pixels, so that angles are kept
    top, left, tall, wide = draw.box[:, :, None, None].unbind(1)
    y = (top + ((cos * v + sin * u) / height + 0.5) * tall) * height
    x_ = (left + ((cos * u - sin * v) / width + 0.5) * wide) * width
    y = torch.minimum(torch.maximum(y, top * height + 0.5), (top + tall) * height - 0.5)
    x_ = torch.minimum(torch.maximum(x_, left * width + 0.5), (left + wide) * width - 0.5)
    return torch.stack([x_ / width * 2 - 1, y / height * 2 - 1], -1).to(x.dtype)


def _grey(x: Tensor) -> Tensor:
    """Luma [N, 1, H, W] (ITU-R 601-2, as torchvision)."""
    if x.shape[1] != 3:
        return x
    return (x * x.new_tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
