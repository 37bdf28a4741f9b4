"""How large are the images in files? Their headers say, and are read once: those of a large folder are kept in a cache.

What is kept is used only while the files are the same: their paths, sizes, and when content and attributes changed.
"""

import hashlib
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..files import one_at_a_time, replacing
from . import folders

MANY = 10_000  # files from which on it pays to keep what their headers say


class Headers(NamedTuple):
    """What is known of files before they are decoded."""

    sizes: Tensor  # [N, 2] height and width, upright; 0 of broken ones
    lines: list[str]  # path, from the folder on, and bytes of each file


def headers(root: str, paths: list[str], broken: folders.Broken) -> Headers:
    """Headers of the files of a folder. Raises BadImage."""
    found = [_seen(path) for path in paths]
    lines = [f"{os.path.relpath(path, root)} {f[0]}\n" for path, f in zip(paths, found, strict=True)]
    if len(paths) < MANY:
        return Headers(folders.sizes(paths, broken), lines)
    changed = "".join(f"{line[:-1]} {f[1]} {f[2]}\n" for line, f in zip(lines, found, strict=True))
    digest = hashlib.sha256(changed.encode(errors="surrogateescape")).hexdigest()
    kept = cache() / f"sizes-{hashlib.sha256(os.path.abspath(root).encode()).hexdigest()[:16]}.pt"
    with ExitStack() as stack:
        with suppress(OSError):  # a home that cannot be written to
            stack.enter_context(one_at_a_time(kept.with_suffix(".lock")))
        sizes = _known(kept, digest)
        if sizes is None:
            sizes = folders.sizes(paths, broken)
            _keep(kept, digest, sizes)
        elif len(again := (sizes[:, 0] == 0).nonzero()[:, 0]):  # a disk may have failed then
            sizes[again] = folders.sizes([paths[i] for i in again.tolist()], broken)
    return Headers(sizes, lines)


def _seen(path: str) -> tuple[int, int, int]:
    """Bytes, and times of change; none of a file that is not there, as where a link leads nowhere: `sizes` says so."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def cache() -> Path:
    """Where what can be made again is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emsiam"


def _known(file: Path, digest: str) -> Tensor | None:
    """The sizes that were kept, if they are of these files."""
    try:
        saved = torch.load(file, weights_only=True)
        return saved["sizes"] if saved["digest"] == digest else None
    except Exception:  # not there, of another version, or damaged: it is made again
        return None


def _keep(file: Path, digest: str, sizes: Tensor) -> None:
    try:
        with replacing(file) as new:
            torch.save({"digest": digest, "sizes": sizes}, new)
    except (OSError, RuntimeError):  # PyTorch has the latter
        pass  # a full disk, or a home that cannot be written to: the next run reads headers again
