"""Which images have a known truth? Drawn ones: content that a representation should keep, nuisance that it should drop.

An image is a function of (seed, id), drawn when it is asked for, in batches, on the device: none is kept in memory.
Its content (shape, colour, texture) is its label. Its nuisance (position, scale, rotation, background, lighting,
occlusion) is what T may change. `Recipe.redraw = J` is a T of this data set's own: the content under one of J states of
nuisance, each with probability 1/J, the same J states for all images. So E_T is a mean of J terms, known exactly
(`Shapes.shown` makes them), and so is the ideal η: a function of the content alone.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .views import Draw

SIDE = 32  # pixels
# Outlines in polar coordinates: sides of a regular polygon (0: a circle), petals and their depth, radius of a hole.
OUTLINES = {
    "circle": (0, 0, 0.0, 0.0),
    "triangle": (3, 0, 0.0, 0.0),
    "cross": (0, 4, 0.35, 0.0),
    "ring": (0, 0, 0.0, 0.55),
}
COLOURS = {  # red, green, blue
    "red": (1.0, 0.25, 0.25),
    "yellow": (1.0, 1.0, 0.25),
    "cyan": (0.25, 1.0, 1.0),
    "blue": (0.25, 0.25, 1.0),
}
TEXTURES = ("plain", "stripes", "checks")
CONTENTS = list(itertools.product(OUTLINES, COLOURS, TEXTURES))  # by label
IMAGES, TEST, STATES = range(3)  # independent streams of random numbers
NUISANCE = 22  # numbers in [0, 1) that describe it, see `draw`


class Shapes:
    """Generated images [N, 3, 32, 32], by id. A training id and a test id never share their random numbers."""

    def __init__(self, num_images: int, seed: int = 0, *, test: bool = False, device: torch.device | str = "cpu"):
        self.seed, self.test, self.device = seed, test, torch.device(device)
        self.shape = torch.Size((num_images, 3, SIDE, SIDE))

    def __len__(self) -> int:
        return self.shape[0]

    def to(self, device: torch.device) -> "Shapes":
        return Shapes(len(self), self.seed, test=self.test, device=device)

    def labels(self, ids: Tensor) -> Tensor:
        """[B] ids to [B] labels: positions in CONTENTS, all equally likely."""
        stream = TEST if self.test else IMAGES
        return (_uniform(self.seed, stream, ids.to(self.device), 1, NUISANCE)[:, 0] * len(CONTENTS)).long()

    def __getitem__(self, ids: Tensor) -> Tensor:
        """[B] ids to the images as they are, [B, 3, 32, 32] uint8."""
        nuisance = _uniform(self.seed, TEST if self.test else IMAGES, ids.to(self.device), NUISANCE)
        return draw(self.labels(ids), nuisance)

    def shown(self, ids: Tensor, states: Tensor) -> Tensor:
        """The contents of images [B] under states of nuisance [B], 0 … J − 1 for a T of J states: uint8 images."""
        return draw(self.labels(ids), _uniform(self.seed, STATES, states.to(self.device), NUISANCE))

    def ask(self, ids: Tensor, draw: Draw, n: int) -> Callable[[Tensor, Draw], tuple[Tensor, Draw]]:
        """Images [B] for n·B views, see `images.ImageSet`: drawn when they are waited for."""

        def answer(ids: Tensor, draw: Draw) -> tuple[Tensor, Draw]:
            return self[ids].repeat(n, 1, 1, 1) if draw.state is None else self.shown(ids.repeat(n), draw.state), draw

        return answer


def _uniform(seed: int, stream: int, counters: Tensor, n: int, first: int = 0) -> Tensor:
    """[B, n] numbers in [0, 1), from the `first` on of 64 for each counter [B]; splitmix64 (Steele et al. 2014)."""
    key = int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
    x = counters[:, None] * 64 + torch.arange(first, first + n, device=counters.device)
    x = x * _signed(0x9E3779B97F4A7C15) + _signed(key)  # integers wrap around
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    x = x ^ _shift(x, 31)
    return _shift(x, 40) / 2**24


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _shift(x: Tensor, bits: int) -> Tensor:
    """x shifted to the right, filled with zeros."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def draw(labels: Tensor, nuisance: Tensor) -> Tensor:
    """Paint contents [B] under nuisance [B, NUISANCE]: [B, 3, 32, 32] uint8, edges smooth over a pixel."""
    colours, textures = len(COLOURS), len(TEXTURES)
    outline, colour, texture = labels // (colours * textures), labels // textures % colours, labels % textures
    parts = nuisance[:, :, None, None].split([2, 1, 1, 7, 5, 6], 1)
    position, scale, rotation, background, lighting, occlusion = parts
    axis = (torch.arange(SIDE, device=labels.device) + 0.5) / SIDE * 2 - 1  # the image is [-1, 1]²
    x, y = axis[None, None, :], axis[None, :, None]

    low, high = (0.3 + 0.4 * background[:, :6]).split(3, 1)
    across, _ = _turn(x, y, background[:, 6])
    image = low + (across / 2.8 + 0.5)[:, None] * (high - low)

    radius = 0.5 + 0.25 * scale[:, 0]
    room = 1.1 - radius
    u, v = _turn(x - (2 * position[:, 0] - 1) * room, y - (2 * position[:, 1] - 1) * room, rotation[:, 0])
    u, v = u / radius, v / radius
    paint = _on(labels.device, tuple(COLOURS.values()))[colour, :, None, None]
    paint = paint * (1 - 0.65 * _pattern(u, v, texture[:, None, None])[:, None])
    image = image + _inside(u, v, outline, radius)[:, None] * (paint - image)

    gain, tint = 0.8 + 0.4 * lighting[:, :1], 0.9 + 0.2 * lighting[:, 2:]
    across, _ = _turn(x, y, lighting[:, 1])
    image = image * (gain + 0.3 * across[:, None]) * tint

    across, _ = _turn(x, y, occlusion[:, 0])  # a bar
    covered = _edge((0.15 * occlusion[:, 1] - (across - (2 * occlusion[:, 2] - 1) * 0.8).abs()) * SIDE / 2)
    image = image + covered[:, None] * (occlusion[:, 3:] - image)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


@functools.cache
def _on(device: torch.device, rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """Rows of numbers on a device, sent once."""
    return torch.tensor(rows, device=device)


def _turn(x: Tensor, y: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    return cos * x + sin * y, cos * y - sin * x


def _edge(distance: Tensor) -> Tensor:
    """Share of a pixel that lies inside, from the distance to the edge in pixels, inside > 0."""
    return (distance + 0.5).clamp(0, 1)


def _inside(u: Tensor, v: Tensor, outline: Tensor, radius: Tensor) -> Tensor:
    """[B, H, W]: share of each pixel inside the outline of radius 1."""
    table = _on(u.device, tuple(OUTLINES.values()))[outline]
    sides, petals, depth, hole = table[:, :, None, None].unbind(1)
    r, angle = torch.hypot(u, v), torch.atan2(v, u)
    sector = 2 * math.pi / sides.clamp_min(3)
    polygon = torch.cos(sector / 2) / torch.cos(torch.remainder(angle, sector) - sector / 2)
    reach = torch.where(sides > 0, polygon * 1.15, 1 - depth + depth * torch.cos(petals * angle))
    return _edge(torch.minimum(reach - r, torch.where(hole > 0, r - hole, math.inf)) * radius * SIDE / 2)


def _pattern(u: Tensor, v: Tensor, texture: Tensor) -> Tensor:
    """[B, H, W] in [0, 1]: where the texture is dark."""
    wave = torch.where(texture == 1, torch.sin(7 * u), 2 * torch.sin(6 * u) * torch.sin(6 * v))
    return torch.where(texture == 0, 0, (0.5 + 2 * wave).clamp(0, 1))
