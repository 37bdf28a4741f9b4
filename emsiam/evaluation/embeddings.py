"""What does a network make of a whole data set? Its embeddings in one .npz file, of any size: memory holds a batch."""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .. import ranks
from ..data.images import ImageSet
from ..embedding import Feeding, embedded
from ..files import replacing
from .backbones import LoadedBackbone
from .features import PART, as_trained_on

UNKNOWN = -1  # the label of an image that has none


def write(encoder: LoadedBackbone, data: ImageSet, out: Path, *, quiet: bool = False) -> dict[str, tuple[int, ...]]:
    """Write features, of our runs z and p too, labels, ids and what they are of; {name: shape} of the arrays.

    Images that a run of the data set would train on come first, then those to test (`test` true); ids count each from
    0, labels are UNKNOWN where there are none, and `files` has the paths of a folder. data: as `features.prepared`
    gives it. Raises OSError, BadImage.
    """
    parts = (data.images, data.test_images)
    sizes = [len(part) for part in parts]
    arrays: dict[str, np.ndarray] = {
        "labels": np.concatenate([_labels(data.classes, sizes[0]), _labels(data.test_labels, sizes[1])]),
        "ids": np.concatenate([np.arange(size) for size in sizes]),
        "test": np.repeat([False, True], sizes),
    }
    if data.paths:
        arrays["files"] = np.array(data.paths)
    batches = (batch for part in parts for batch in _batches(encoder, data, part))
    if ranks.rank():  # the first process writes what all compute
        for _ in batches:
            pass
        return {}
    bar = tqdm(total=sum(sizes), unit="image", disable=quiet)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder, replacing(out) as new:
        files: dict[str, Any] = {}
        at = 0
        for batch in batches:
            number = len(batch["features"])
            for name, rows in batch.items():
                if name not in files:
                    shape = (sum(sizes), rows.shape[1])
                    place = Path(folder) / f"{name}.npy"
                    files[name] = np.lib.format.open_memmap(place, "w+", dtype=np.float32, shape=shape)
                files[name][at : at + number] = rows
            at += number
            bar.update(number)
        bar.close()
        for name, x in arrays.items():
            np.save(Path(folder) / f"{name}.npy", x)
        for x in files.values():
            x.flush()
        with zipfile.ZipFile(new, "w") as whole:
            for name in (*files, *arrays):
                whole.write(Path(folder) / f"{name}.npy", f"{name}.npy")
        return {name: x.shape for name, x in (files | arrays).items()}


def _labels(labels: torch.Tensor | None, number: int) -> np.ndarray:
    return np.full(number, UNKNOWN) if labels is None else labels.cpu().numpy()


def _batches(encoder: LoadedBackbone, data: ImageSet, images: Any) -> Iterator[dict[str, np.ndarray]]:
    if encoder.whole:
        feeding = Feeding(encoder.shape, data.mean, data.std)
        yield from (made._asdict() for made in embedded(encoder.whole, images, feeding, PART))
        return

    def made(ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (encoder.backbone(as_trained_on(encoder, data.normalise(images[ids]))).float(),)

    with torch.no_grad():
        for (rows,) in ranks.divided(torch.arange(len(images)).split(PART), made):
            yield {"features": rows.cpu().numpy()}
