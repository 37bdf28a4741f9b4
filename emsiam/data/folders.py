"""How are images in files read? In any of the formats that people have, by id, see `data.tree`.

Every image becomes RGB, upright, 8 bits; what is transparent, white.
"""

import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ..errors import BadImage, printable, speaks
from .views import Draw

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}  # what undoes its values; 1 is upright
SIDEWAYS = {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # these exchange height and width
FLOAT = "its pixels are floating-point numbers of an unknown range"
READERS = 16  # files looked at at once while indexing; mostly waiting for the disk


class Room:
    """Pixels that may be decoded at once, over all threads: memory while loading does not grow with the processors."""

    def __init__(self, pixels: int):
        self.free, self.pixels, self.changed = pixels, pixels, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for so many."""
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


ROOM = Room(2**27)  # of 3 to 8 bytes each while an image is decoded


class Broken:
    """Files that are no images, by path, and why. skip: they are counted here; else the first raises BadImage."""

    def __init__(self, skip: bool = False):
        self.skip, self.reasons = skip, dict[str, str]()

    def met(self, path: str, error: BadImage, alone: bool = False) -> None:
        """alone: by one of several processes; else all of them meet it, and one says so."""
        if not self.skip:
            raise error
        if path not in self.reasons:
            self.reasons[path] = str(error)
            if alone or speaks():
                print(f"warning: {printable(str(error))}; skipped", file=sys.stderr)


def sizes(paths: list[str], broken: Broken) -> Tensor:
    """Height and width [N, 2] of images, upright, from their headers; 0 of broken ones. Raises BadImage."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on metadata, and on sizes that `_opened` refuses

    def size(path: str) -> tuple[int, int]:
        try:
            return _size(path)
        except BadImage as error:
            broken.met(path, error)
            return 0, 0

    with ThreadPoolExecutor(READERS) as pool:
        return torch.tensor(list(_progress(pool.map(size, paths), paths, "reading headers"))).view(-1, 2)


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
        raise BadImage(f"{path} is not an image that can be read ({_why(error)})") from error
    return (width, height) if sideways else (height, width)


def _why(error: Exception) -> object:
    """Without the path, which the system's errors repeat."""
    return getattr(error, "strerror", None) or error


def _opened(path: str) -> Image.Image:
    """An image whose pixels are not read yet. Raises OSError, also for what would be waited for: a pipe, a device;
    ValueError where it has more pixels than Pillow holds for honest.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    image = Image.open(path)
    pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if most and pixels > most:
        image.close()
        raise ValueError(f"it has {pixels:,} pixels, allowed is at most {most:,}; make it smaller")
    return image


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


@contextmanager
def decoded(path: str) -> Iterator[Image.Image]:
    """An image of a file, RGB and upright, which has its ROOM inside. Raises BadImage."""
    with ExitStack() as stack:
        try:
            image = stack.enter_context(_opened(path))
            stack.enter_context(ROOM.of(image.width * image.height))
            image.load()
            upright = rgb(_upright(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadImage(f"{path} cannot be decoded ({_why(error)})") from error
        yield upright


def rgb(image: Image.Image) -> Image.Image:
    """8 bits, what is transparent white. Raises ValueError for pixels of an unknown range."""
    if image.mode == "F":
        raise ValueError(FLOAT)
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


def load(paths: list[str], side: int, broken: Broken) -> Tensor:
    """All images as squares, [N, 3, side, side] uint8; broken ones are black. Raises BadImage."""
    out = torch.zeros(len(paths), 3, side, side, dtype=torch.uint8)

    def write(i: int) -> None:
        try:
            out[i] = _crops(paths[i], None, side, 0.0)[0]
        except BadImage as error:
            broken.met(paths[i], error)

    with ThreadPoolExecutor() as pool:
        for _ in _progress(pool.map(write, range(len(paths))), paths, "decoding"):
            pass
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

    def __init__(
        self,
        paths: list[str],
        tall: Tensor,
        side: int,
        workers: int,
        margin: float = 0.0,
        broken: Broken | None = None,
        labels: Tensor | None = None,
    ):
        """tall [N]: height / width. labels [N]: of images that stand in for one another; empty or None: any do."""
        self.paths, self.tall, self.workers, self.margin = paths, tall, workers, margin
        self.labels = labels if labels is not None and len(labels) else torch.zeros(len(paths))
        self.broken = broken or Broken()
        self.shape = torch.Size((len(paths), 3, side, side))
        self.device = torch.device("cpu")
        self.pool = ThreadPoolExecutor(workers)

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device) -> "Files":
        """The same files, their pixels brought to a device."""
        there = self.without(self.margin)
        there.device = device
        return there

    def only(self, ids: Tensor) -> "Files":
        """Some of the files."""
        paths = [self.paths[i] for i in ids.tolist()]
        tall, labels = self.tall[ids], self.labels[ids]
        return Files(paths, tall, self.shape[-1], self.workers, self.margin, self.broken, labels)

    def without(self, margin: float) -> "Files":
        """The same files, seen as they are without a margin: a share of each side of the centre square."""
        return Files(self.paths, self.tall, self.shape[-1], self.workers, margin, self.broken, self.labels)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """[B] ids to the images as they are: centre squares [B, 3, side, side] uint8. Raises BadImage."""
        return self.ask(ids, Draw(), 1)(ids, Draw())[0]

    def ask(self, ids: Tensor, draw: Draw, n: int) -> Callable[[Tensor, Draw], tuple[Tensor, Draw]]:
        """Begin to read and crop images [B] for n·B views; the result waits for them. See `images.ImageSet`."""
        known, side = ids.tolist(), self.shape[-1]
        boxes = [None] * len(known) if draw.box is None else draw.box.view(-1, len(known), 4).transpose(0, 1).tolist()
        size = (1 if draw.box is None else n), len(known), 3, side, side
        # page-locked: on its way to a GPU while the host goes on
        pixels = torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")

        def write(i: int) -> None:
            pixels[:, i] = self._crops(known[i], boxes[i])

        written = [self.pool.submit(write, i) for i in range(len(known))]

        def answer(_: Tensor, draw: Draw) -> tuple[Tensor, Draw]:
            for image in written:
                image.result()
            there = pixels.to(self.device, non_blocking=True)
            return there.expand(n, *size[1:]).flatten(0, 1), draw._replace(box=None)

        return answer

    def _alike(self, i: int) -> Iterator[int]:
        """An image, and then those of its class, in the order of ids from there on."""
        yield i
        alike = (self.labels == self.labels[i]).nonzero().flatten()
        yield from alike.roll(-int((alike <= i).sum())).tolist()[:-1]

    def _crops(self, i: int, boxes: list[list[float]] | None) -> Tensor:
        """`_crops` of an image; where broken ones are skipped, the next one of its class stands in for such."""
        for j in self._alike(i):
            try:
                return _crops(self.paths[j], boxes, self.shape[-1], self.margin)
            except BadImage as error:
                self.broken.met(self.paths[j], error, alone=True)
        raise BadImage(f"{self.paths[i]} and all that could stand in for it cannot be decoded")


def _crops(path: str, boxes: list[list[float]] | None, side: int, margin: float) -> Tensor:
    """[n, 3, side, side]: the boxes of a file, see `Draw.box`; without any the centre square, n = 1."""
    with decoded(path) as image:
        if boxes is None:
            return _bytes(square(image, side, margin))[None]
        crops = (_crop(image, *box).resize((side, side), Image.Resampling.BILINEAR) for box in boxes)
        return torch.stack([_bytes(crop) for crop in crops])


def _crop(image: Image.Image, top: float, left: float, tall: float, wide: float) -> Image.Image:
    """A box in fractions, to whole pixels."""
    width, height = image.size
    w, h = max(1, round(wide * width)), max(1, round(tall * height))
    x, y = min(round(left * width), width - w), min(round(top * height), height - h)
    return image.crop((x, y, x + w, y + h))
