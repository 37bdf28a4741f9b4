"""How are MNIST's files read, and made fewer or smaller? Gzipped idx files, as Debian and others hand them on."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import refuse

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def images_and_labels(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images [N, H, W] and labels [N], uint8, of the part `train` or `t10k`. Raises OSError; ValueError for damage."""
    return _array(folder / f"{part}-images-idx3-ubyte.gz"), _array(folder / f"{part}-labels-idx1-ubyte.gz")


def _array(file: Path) -> Tensor:
    """The magic number's last byte says how many axes there are; their lengths follow: yann.lecun.com/exdb/mnist."""
    try:
        content = gzip.decompress(file.read_bytes())
        axes = content[3]
        shape = np.frombuffer(content, ">i4", axes, offset=4)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
    except (EOFError, gzip.BadGzipFile, IndexError, ValueError, zlib.error) as error:
        raise ValueError(f"{file} is damaged ({error})") from error


def averaged(images: Tensor, side: int) -> Tensor:
    """Images [N, 28, 28] uint8 at 28, 14 or 7 pixels: means of blocks, rounded. Raises ConfigError for another size."""
    if side == images.shape[1]:
        return images
    if side not in (14, 7):
        refuse("image_size", side, "allowed is 28, 14 or 7 with --dataset fashion_mnist")
    block = images.shape[1] // side
    parts = (x.unflatten(2, (side, block)).unflatten(1, (side, block)).float() for x in images.split(4096))
    return torch.cat([x.mean((2, 4)).round().to(torch.uint8) for x in parts])


def stratified(labels: Tensor, number: int) -> Tensor:
    """[number] ids, sorted, with as many of each class as can be. Raises ConfigError where there are fewer images."""
    if number > len(labels):
        refuse("num_images", number, f"allowed is at most {len(labels)}")
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    of_class = torch.nn.functional.one_hot(labels[shuffled].long())
    rank = (of_class.cumsum(0) * of_class).sum(1)  # an image's place among those of its class
    return shuffled[rank.argsort(stable=True)[:number]].sort().values
