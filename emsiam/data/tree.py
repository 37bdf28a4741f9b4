"""Which images are below a folder, and of which classes? A folder for each class, or images without labels.

An id is a position in the sorted list of paths, so that equal trees have equal ids.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from ..errors import ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as in torchvision
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval", "evaluation", "holdout")


class Part(NamedTuple):
    """What is trained on, or tested on."""

    paths: list[str]
    labels: Tensor  # [N] positions of the class folders of the training part, sorted; empty where there are none

    def only(self, kept: Tensor) -> "Part":
        """The images for which kept [N] is true."""
        paths = [path for path, it in zip(self.paths, kept.tolist(), strict=True) if it]
        return Part(paths, self.labels[kept] if len(self.labels) else self.labels)


class Tree(NamedTuple):
    """The images below a folder, and what of it a user may not have meant."""

    train: Part
    test: Part  # empty where there are no labels
    notes: list[str]


class Index(NamedTuple):
    """The images below a folder, by the name of their class folder, sorted."""

    classes: list[str]
    paths: list[str]
    targets: list[int]  # positions in `classes`


def tree(root: Path, labels: bool | None = None) -> Tree:
    """Training and test images below a folder: of train/ and val/ where present, else every fifth is to test.

    labels: whether class folders are labels; None: where there are two or more with images, and one has several.
    Without labels all images are trained on, wherever they lie. Raises ValueError where the tree has no images, or
    cannot be what was meant.
    """
    if not root.is_dir():
        raise ValueError(f"--data-dir {root} is not a folder; it should hold images, best in class folders, cat/1.jpg")
    base = root / "train" if (root / "train").is_dir() else root
    reason, hint = "", ""
    if not labels:
        reason, hint = ("folders are not taken for classes", "") if labels is False else _without_labels(root, base)
    notes = _unread(root, bool(reason)) if base != root else []
    if reason:
        paths = list(images(base))
        if not paths:
            raise ValueError(f"{base} has no images ({' '.join(SUFFIXES)})")
        none = torch.empty(0, dtype=torch.int64)
        said = f"{reason}, so there are no labels, and accuracies are left out{hint}"
        return Tree(Part(paths, none), Part([], none), [*notes, said])
    training = index(base)
    train = Part(training.paths, torch.tensor(training.targets))
    notes += _odd_classes(base, training.classes)
    if base != root and (root / "val").is_dir():
        return Tree(train, _val(root, training.classes), notes)
    train, test = _split(root, train)
    untested = sorted({*range(len(training.classes))} - {*test.labels.tolist()})
    if untested:
        names = some([training.classes[i] for i in untested])
        where = f"below {root / 'train'} images to train on, below {root / 'val'} images to test"
        notes.append(f"every fifth image is to test, and none is of {names}; put {where}")
    return Tree(train, test, notes)


def index(root: Path) -> Index:
    """As torchvision's ImageFolder, without hidden files and folders (.ipynb_checkpoints, ._name).

    Raises ValueError where there are no class folders, or one without images, or one twice.
    """
    classes = folders_in(root)
    if not classes:
        reserved = " (train and val are taken for the parts of a data set)" if root.name in ("train", "val") else ""
        raise ValueError(f"{root} has no class folders, such as {root.name}/cat/1.jpg{reserved}")
    seen: dict[str, str] = {}
    found = [list(images(root / name, seen)) for name in classes]
    for name, paths in zip(classes, found, strict=True):
        if not paths:
            raise ValueError(
                f"{root / name} has no images ({' '.join(SUFFIXES)}); --no-labels takes no folder for a class"
            )
    return Index(classes, [p for paths in found for p in paths], [i for i, paths in enumerate(found) for _ in paths])


def folders_in(root: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")


def images(root: Path, seen: dict[str, str] | None = None) -> Iterator[str]:
    """The paths of images below a folder, in a fixed order, without hidden ones.

    seen: {real path: name} of folders walked before. Raises ValueError where one is there twice, by a link, and
    OSError where one cannot be read.
    """
    seen = {} if seen is None else seen
    walked = []
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_unreadable):
        if (other := seen.setdefault(os.path.realpath(folder), folder)) != folder:
            raise ValueError(f"{folder} is the same folder as {other}, by a link")
        inner[:] = [name for name in inner if name[0] != "."]
        walked.append((folder, sorted(names)))
    for folder, names in sorted(walked):
        yield from (os.path.join(folder, name) for name in names if _is_image(name))


def _unreadable(error: OSError) -> NoReturn:
    """os.walk would pass over it."""
    raise error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and name[0] != "."


def _without_labels(root: Path, base: Path) -> tuple[str, str]:
    """Why folders are no labels, or nothing; and what may be meant. Raises ValueError where train is rather a class."""
    classes = folders_in(base)
    if not classes:
        beside = [name for name in folders_in(root) if name.lower() not in PARTS and any(images(root / name))]
        if base != root and beside:
            index(base)  # refuses it
        return f"the images of {base} are in no class folders", ""
    if len(classes) == 1 and classes[0].lower() not in PARTS:
        inner = folders_in(base / classes[0])
        hint = f"; if its {len(inner)} folders are classes, give --data-dir {base / classes[0]}"
        return f"all images are in one folder, {base / classes[0]}", hint if len(inner) > 1 else ""
    if all(len(list(islice(images(base / name), 2))) == 1 for name in classes):
        return f"each folder in {base} has one image", ""
    return "", ""


def _unread(root: Path, unlabelled: bool) -> list[str]:
    """Notes on what lies beside train/ and is not read."""
    others = [name for name in folders_in(root) if name != "train" and (unlabelled or name != "val")]
    notes = []
    for name in (name for name in others if any(images(root / name))):
        if unlabelled:
            hint = "only train is, where there are no labels"
        elif name.lower() in PARTS and not (root / "val").is_dir():
            hint = "under the name val it would be tested on"
        else:
            hint = "only train and val are"
        notes.append(f"{root / name} is not read: {hint}")
    return notes


def _odd_classes(base: Path, classes: list[str]) -> list[str]:
    """Notes on class folders. Raises ValueError where all are named like parts of a data set."""
    like_parts = [name for name in classes if name.lower() in PARTS]
    if len(like_parts) == len(classes):
        raise ValueError(
            f"{base} has folders that are named like parts, not classes ({some(classes)}); allowed is train, and val"
        )
    notes = []
    if like_parts:
        notes.append(f"{some(like_parts)} in {base}: taken for a class, though named like a part of a data set")
    if inner := set.intersection(*(set(folders_in(base / name)) for name in classes)):
        notes.append(
            f"the folders in {base} are taken for classes, and each has {some(sorted(inner))} inside; which are?"
        )
    loose = sum(_is_image(entry.name) for entry in os.scandir(base) if not entry.is_dir())
    if loose:
        notes.append(f"{loose:,} images directly in {base} are of no class, and left out")
    return notes


def _val(root: Path, classes: list[str]) -> Part:
    val = index(root / "val")
    unknown = sorted(set(val.classes) - set(classes))
    if unknown:
        raise ValueError(f"{root / 'val' / unknown[0]} is a class that {root / 'train'} does not have")
    return Part(val.paths, torch.tensor([classes.index(val.classes[label]) for label in val.targets]))


def _split(root: Path, whole: Part) -> tuple[Part, Part]:
    """What is left to train on, and what is to test."""
    rest = every_fifth(len(whole.paths), f"--data-dir {root}")
    return whole.only(rest), whole.only(~rest)


def every_fifth(number: int, what: str) -> Tensor:
    """[N] whether an image is trained on; of each five the last is to test. Raises ConfigError where there is none."""
    if number < 5:
        raise ConfigError(f"{what} has {number} images; allowed is 5 or more")
    return torch.arange(number) % 5 != 4


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
