"""What is a data set? Images by id, on the device or read as they are asked for, and how they are normalised.

Small sets live on the device as uint8; generated ones and large folders make or read a batch when it is asked for.
All are addressed by id: a batch is a tensor of distinct ids.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from .. import processor, ranks
from ..errors import ConfigError
from ..recipes import Recipe
from ..sending import together
from . import views
from .folders import Broken, Files
from .shapes import Shapes


class ImageSet(NamedTuple):
    """A data set by id. Images: [N, C, H, W] uint8; labels: [N] int64; test images are never trained on.

    Images are a tensor, or something that is indexed like one (`Files`, `Shapes`) and can be asked for views:
    ask(ids [B], draw of n·B views) returns at once a function of ids and draw, both on the device by then, that waits
    for pixels [n·B, C, H, W] uint8 (views of the first draw first) and what of the draw is still to be applied to them.
    """

    name: str
    images: Tensor | Files | Shapes  # trained on
    labelled: Tensor | Files | Shapes  # what kNN compares test images with: the same, or a part that has labels
    labels: Tensor  # of `labelled`
    test_images: Tensor | Files | Shapes
    test_labels: Tensor
    recipe: Recipe  # T
    mean: Tensor  # [C, 1, 1] of the training pixels, in [0, 1]
    std: Tensor
    options: Mapping[str, Any] = MappingProxyType({})  # those that the loader has chosen
    digest: str = ""  # of the files' names and sizes: ids mean the same images only where it is the same
    classes: Tensor | None = None  # labels of `images`, where they have any: for pictures, training never reads them
    notes: tuple[str, ...] = ()  # what a user may not have meant
    paths: tuple[str, ...] = ()  # of images in files: those to train on, then those to test
    broken: Broken | None = None  # files among them that are no images

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """0 where there are no labels."""
        known = [x for x in (self.labels, self.classes) if x is not None and len(x)]
        return max(int(x.max()) for x in known) + 1 if len(self.labels) else 0

    def without_labels(self) -> "ImageSet":
        """The same images to train on: none to test, and no accuracies."""
        no_images, none = torch.empty(0, *self.images.shape[1:], dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        return self._replace(labelled=no_images, labels=none, test_images=no_images, test_labels=none, classes=None)

    def check_alike(self) -> None:
        """Raises ConfigError where several processes see different images: an id would mean another image to each."""
        if not ranks.same(f"{self.digest} {len(self.images)} {len(self.test_images)}"):
            reason = "the processes see different images; each needs the same files under the same names"
            raise ConfigError(f"--data-dir: {reason}")

    def to(self, device: torch.device) -> "ImageSet":
        if device.type == "cpu":
            return self
        there = self._replace(**{name: x.to(device) for name, x in self._asdict().items() if hasattr(x, "to")})
        return there._replace(labelled=there.images) if self.labelled is self.images else there

    def normalise(self, x: Tensor) -> Tensor:
        """The network's input: pixels, uint8 or in [0, 1], to zero mean and unit standard deviation per channel."""
        return ((x / 255 if x.dtype == torch.uint8 else x) - self.mean).div_(self.std)  # a batch less of memory

    def sample(self, ids: Tensor, n: int, rng: Generator) -> views.Draw:
        """T for n views of each image [B]: a draw of n·B."""
        tall = self.images.tall[ids].repeat(n) if isinstance(self.images, Files) else None
        return views.sample(self.recipe, n * len(ids), self.shape, rng, tall)

    def every(self, ids: Tensor, dtype: torch.dtype) -> Iterator[tuple[float, Tensor]]:
        """Each draw of T that there is: its probability, and views of images [B], [B, C, H, W], normalised.

        Raises ValueError where there is no end of them.
        """
        for probability, draw in views.every(self.recipe, len(ids), self.shape):
            yield probability, self.ask(ids, draw, 1, dtype)()[0]

    def ask(self, ids: Tensor, draw: views.Draw, n: int, dtype: torch.dtype) -> Callable[[], Tensor]:
        """n views of images [B] from a draw of n·B: a function that waits for them, [n, B, C, H, W], normalised."""
        asked = self.ask_with_ids(ids, draw, n, dtype)
        return lambda: asked()[1]

    def ask_with_ids(
        self, ids: Tensor, draw: views.Draw, n: int, dtype: torch.dtype
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """`ask`, and the ids where the views are."""
        images = self.images
        asked = None if isinstance(images, Tensor) else images.ask(ids, draw, n)

        def answer() -> tuple[Tensor, Tensor]:
            names = [name for name, field in draw._asdict().items() if field is not None]
            there, *fields = together([ids, *(getattr(draw, name) for name in names)], images.device)
            drawn = draw._replace(**dict(zip(names, fields, strict=True)))
            pixels, rest = asked(there, drawn) if asked else (images[there].repeat(n, 1, 1, 1), drawn)
            with processor.leaving(images.workers if isinstance(images, Files) else 0):
                x = self.normalise(views.apply(pixels, rest))
            return there, x.unflatten(0, (n, len(ids))).to(dtype)

        return answer
