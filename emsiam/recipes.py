"""How strong is T? A recipe holds the strength of each operation; `data.views` draws from it and applies it."""

from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """Strengths of T, applied in this order, `redraw` first; a strength or probability of 0 leaves one out."""

    scale: tuple[float, float] = (1.0, 1.0)  # area of the crop / area of the image
    ratio: tuple[float, float] = (1.0, 1.0)  # width / height of the crop, log-uniform
    degrees: float = 0.0  # rotation, uniform in ±degrees
    flip: float = 0.0  # probability of a horizontal flip
    jitter: float = 1.0  # probability of the four that follow
    shuffle: bool = False  # whether each image has them in an order of its own
    brightness: float = 0.0  # factor, uniform in 1 ± brightness
    contrast: float = 0.0  # factor, uniform in 1 ± contrast
    saturation: float = 0.0  # factor, uniform in 1 ± saturation; colour images
    hue: float = 0.0  # shift, uniform in ±hue, in turns of the colour circle; colour images
    grayscale: float = 0.0  # probability; colour images
    blur: float = 0.0  # probability of a Gaussian blur
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, pixels, uniform
    noise: float = 0.0  # standard deviation of Gaussian noise; pixel values are in [0, 1]
    redraw: int = 0  # generated images: show their content under one of so many states of nuisance, all equally likely


# Smallest and largest value of each; two of them where a range is meant.
LIMITS: dict[str, tuple[float, float]] = {
    "scale": (0.001, 1),
    "ratio": (0.01, 100),
    "degrees": (0, 180),
    "flip": (0, 1),
    "jitter": (0, 1),
    "shuffle": (False, True),
    "brightness": (0, 10),
    "contrast": (0, 10),
    "saturation": (0, 10),
    "hue": (0, 0.5),
    "grayscale": (0, 1),
    "blur": (0, 1),
    "sigma": (0.01, 100),
    "noise": (0, 10),
    "redraw": (0, 10**6),
}


def strength(name: str, value) -> Any:
    """A field of Recipe from what a user writes: 0.5, or 0.2:1 for a range. Raises ValueError, KeyError."""
    low, high = LIMITS[name]
    ranged = isinstance(Recipe._field_defaults[name], tuple)
    parts = value.split(":") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    numbers = [float(part) for part in parts]
    kind = type(Recipe._field_defaults[name])
    if len(numbers) != 1 + ranged or not all(low <= x <= high for x in numbers) or sorted(numbers) != numbers:
        raise ValueError
    if kind is int and numbers[0] % 1:
        raise ValueError
    return numbers if ranged else kind(numbers[0])


# The paper's T (§4): MoCo v2's. CIFAR leaves the blur out (Appendix D).
PAPER = Recipe(
    scale=(0.2, 1.0),
    ratio=(3 / 4, 4 / 3),
    flip=0.5,
    jitter=0.8,
    shuffle=True,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale=0.2,
    blur=0.5,
)
