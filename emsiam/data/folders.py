"""How are images in files read? Any folder of class folders, in any of the formats that people have, by id.

An id is a position in the sorted list of paths. Every image becomes RGB, upright, 8 bits; what is transparent, white.
"""

import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ..errors import BadImage
from .views import Draw

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}  # what undoes its values; 1 is upright
SIDEWAYS = {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # these exchange height and width
FLOAT = "its pixels are floating-point numbers of an unknown range"
READERS = 16  # files looked at at once while indexing; mostly waiting for the disk


class Index(NamedTuple):
    """The images below a folder, by the name of their class folder, sorted."""

    classes: list[str]
    paths: list[str]
    targets: list[int]  # positions in `classes`


def index(root: Path) -> Index:
    """As torchvision's ImageFolder, without hidden files and folders (.ipynb_checkpoints, ._name).

    Raises ValueError where there are no class folders, or one without images, or one twice.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        reserved = " (train and val are taken for the parts of a data set)" if root.name in ("train", "val") else ""
        raise ValueError(f"{root} has no class folders, such as {root.name}/cat/1.jpg{reserved}")

    def is_image(path: str) -> bool:
        hidden = any(part.startswith(".") for part in Path(os.path.relpath(path, root)).parts)
        return path.lower().endswith(IMG_EXTENSIONS) and not hidden

    numbers = {name: i for i, name in enumerate(classes)}
    samples = make_dataset(str(root), numbers, is_valid_file=is_image, allow_empty=True)
    empty = sorted(numbers.keys() - {Path(path).relative_to(root).parts[0] for path, _ in samples})
    if empty:
        raise ValueError(f"{root / empty[0]} has no images ({' '.join(IMG_EXTENSIONS)})")
    folders: dict[str, str] = {}
    for parent in dict.fromkeys(os.path.dirname(path) for path, _ in samples):
        if (other := folders.setdefault(os.path.realpath(parent), parent)) != parent:
            raise ValueError(f"{parent} is the same folder as {other}, by a link")
    return Index(classes, [path for path, _ in samples], [target for _, target in samples])


class Part(NamedTuple):
    """What is trained on, or tested on."""

    paths: list[str]
    labels: Tensor  # [N] positions of the class folders of the training part, sorted


def parts(root: Path) -> tuple[Part, Part]:
    """Training and test images below a folder: of train/ and val/ where present, else every fifth is to test.

    Raises ValueError where it has no such layout.
    """
    if not root.is_dir():
        raise ValueError(f"--data-dir {root} is not a folder; it should hold images in class folders, cat/1.jpg")
    whole = not (root / "train").is_dir()
    training = index(root if whole else root / "train")
    train = Part(training.paths, torch.tensor(training.targets))
    if not whole and (root / "val").is_dir():
        val = index(root / "val")
        unknown = sorted(set(val.classes) - set(training.classes))
        if unknown:
            raise ValueError(f"{root / 'val' / unknown[0]} is a class that {root / 'train'} does not have")
        labels = [training.classes.index(val.classes[label]) for label in val.targets]
        return train, Part(val.paths, torch.tensor(labels))
    fifth = torch.arange(len(train.paths)) % 5 == 4
    if not fifth.any():
        raise ValueError(f"--data-dir {root} has {len(train.paths)} images; allowed is 5 or more")
    kept, tested = (
        Part([train.paths[i] for i in chosen.nonzero()[:, 0]], train.labels[chosen]) for chosen in (~fifth, fifth)
    )
    return kept, tested


def sizes(paths: list[str]) -> Tensor:
    """Height and width [N, 2] of images, upright, from their headers. Raises BadImage."""
    with ThreadPoolExecutor(READERS) as pool:
        return torch.tensor(list(_progress(pool.map(_size, paths), paths, "reading headers")))


def _size(path: str) -> tuple[int, int]:
    try:
        with _opened(path) as image:
            width, height = image.size
            if image.mode == "F":
                raise ValueError(FLOAT)
            # asking a PNG without such data would decode it
            may_be_turned = image.format != "PNG" or not {"exif", "XML:com.adobe.xmp"}.isdisjoint(image.info)
            sideways = may_be_turned and _orientation(image) in SIDEWAYS
            if sideways and image.format == "TIFF":  # whose size some releases of Pillow turn, and some do not
                image.load()
                (width, height), sideways = _upright(image).size, False
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path} is not an image that can be read ({error})") from error
    return (width, height) if sideways else (height, width)


def _opened(path: str) -> Image.Image:
    """Raises OSError, also for what would be waited for: a pipe, a device."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    return Image.open(path)


def _orientation(image: Image.Image) -> int:
    """1 where it does not say, or its metadata are broken: its pixels may be whole."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # broken metadata lead their reader anywhere
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """Turned by the orientation tag alone: ImageOps.exif_transpose writes all tags anew, and fails where one is odd."""
    name = (UPRIGHT | SIDEWAYS).get(_orientation(image))
    return image.transpose(Image.Transpose[name]) if name else image


def decode(path: str) -> Image.Image:
    """An image of a file, RGB and upright. Raises BadImage."""
    try:
        with _opened(path) as image:
            image.load()
            return _rgb(_upright(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path} cannot be decoded ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BITS:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("its pixels have more than 16 bits")
        grey = np.where(grey == image.info.get("transparency"), 65535, grey)
        return Image.fromarray((grey / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, side: int, margin: float = 0.0) -> Image.Image:
    """The shorter side to `side` pixels, the centre of the longer one kept; without a margin, a share of each side."""
    return ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR, margin)


def load(paths: list[str], side: int) -> Tensor:
    """All images as squares, [N, 3, side, side] uint8. Raises BadImage."""
    out = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        squares = pool.map(lambda path: _bytes(square(decode(path), side)), paths)
        for i, image in enumerate(_progress(squares, paths, "decoding")):
            out[i] = image
    return out


def _bytes(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _progress(items: Iterable, paths: list[str], what: str) -> Iterable:
    return tqdm(items, total=len(paths), desc=what, unit="file", leave=False, delay=2, disable=None)


class Files:
    """Images [N, 3, side, side] that stay in their files: decoded by threads when asked for, by id.

    T crops from the file's own pixels, to whole ones and antialiased, as torchvision's RandomResizedCrop. Reading ahead
    is the caller's: `ask` returns at once. (Threads, not processes: Pillow decodes and resizes without Python's lock.)
    """

    def __init__(self, paths: list[str], tall: Tensor, side: int, workers: int, margin: float = 0.0):
        self.paths, self.tall, self.workers, self.margin = paths, tall, workers, margin  # tall [N]: height / width
        self.shape = torch.Size((len(paths), 3, side, side))
        self.device = torch.device("cpu")
        self.pool = ThreadPoolExecutor(workers)

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device) -> "Files":
        """The same files, their pixels brought to a device."""
        there = Files(self.paths, self.tall, self.shape[-1], self.workers, self.margin)
        there.device = device
        return there

    def without(self, margin: float) -> "Files":
        """The same files, seen as they are without a margin: a share of each side of the centre square."""
        return Files(self.paths, self.tall, self.shape[-1], self.workers, margin)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """[B] ids to the images as they are: centre squares [B, 3, side, side] uint8. Raises BadImage."""
        return self.ask(ids, Draw(), 1)()[0]

    def ask(self, ids: Tensor, draw: Draw, n: int) -> Callable[[], tuple[Tensor, Draw]]:
        """Begin to read and crop images [B] for n·B views; the result waits for them. See `images.ImageSet`."""
        paths = [self.paths[i] for i in ids.tolist()]
        boxes = [None] * len(paths) if draw.box is None else draw.box.view(-1, len(paths), 4).transpose(0, 1).tolist()
        size = self.shape[-1], self.margin
        crops = [self.pool.submit(_crops, *item, *size) for item in zip(paths, boxes, strict=True)]

        def answer() -> tuple[Tensor, Draw]:
            pixels = torch.stack([crop.result() for crop in crops], 1)  # [n, B, ...], or [1, B, ...] without boxes
            pixels = pixels.expand(n, *pixels.shape[1:]).flatten(0, 1)
            return pixels.to(self.device), draw._replace(box=None)

        return answer


def _crops(path: str, boxes: list[list[float]] | None, side: int, margin: float) -> Tensor:
    """[n, 3, side, side]: the boxes of a file, see `Draw.box`; without any the centre square, n = 1."""
    image = decode(path)
    if boxes is None:
        return _bytes(square(image, side, margin))[None]
    return torch.stack([_bytes(_crop(image, *box).resize((side, side), Image.Resampling.BILINEAR)) for box in boxes])


def _crop(image: Image.Image, top: float, left: float, tall: float, wide: float) -> Image.Image:
    """A box in fractions, to whole pixels."""
    width, height = image.size
    w, h = max(1, round(wide * width)), max(1, round(tall * height))
    x, y = min(round(left * width), width - w), min(round(top * height), height - h)
    return image.crop((x, y, x + w, y + h))
