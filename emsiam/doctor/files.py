"""Which arrays are in this file? .npy, .npz and .safetensors, of any size: rows are read as they are asked for."""

import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ..checkpoint import read
from ..errors import ConfigError, Damaged

NAMES = ("z", "p", "features", "labels")  # of arrays that an .npz or .safetensors may hold
ENDINGS = (".npy", ".npz", ".safetensors", ".pt", ".pth")
ARRAYS = (".npy", ".npz")  # of those that hold no weights
TEXT = (".csv", ".tsv", ".txt", ".json")


def arrays(path: Path) -> dict[str, Any] | None:
    """{name: array}, under NAMES; None where a file of tensors holds weights. Raises ConfigError.

    The only array of a file is z, whatever it is called.
    """
    ending = path.suffix.lower()
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        found = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}.get(ending, _torch)(path)
    except Damaged:
        return None  # what weights are it is said where they are read
    except (ValueError, OSError, zipfile.BadZipFile, struct.error, EOFError) as error:
        if "Python objects" in str(error):
            raise ConfigError(f"{path}: holds Python objects, which reading could run; save numbers alone") from None
        raise ConfigError(f"{path}: is no {ending} file, or a damaged one ({error})") from None
    if ending not in ARRAYS and any(name.endswith((".weight", ".bias")) for name in found):
        return None
    known = {name: found[name] for name in NAMES if name in found}
    representations = [name for name, x in found.items() if x.ndim in (2, 3) and name not in NAMES]
    if {"z", "features"} & known.keys():
        return known
    if len(representations) == len(found) - len(known) == 1:
        return known | {"z": found[representations[0]]}
    if ending not in ARRAYS:
        return None
    raise ConfigError(
        f"{path}: holds {', '.join(sorted(found)) or 'nothing'}; one of them must be called z or features, others "
        "may be p and labels"
    )


def _npy(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)  # numpy takes all else for a pickle
    return {"z": np.load(path, mmap_mode="r", allow_pickle=False)}


def _npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays that are stored as they are stay in the file."""
    found = {}
    with zipfile.ZipFile(path) as whole, path.open("rb") as file:
        for member in whole.infolist():
            name = member.filename.removesuffix(".npy")
            with whole.open(member) as array:
                version = np.lib.format.read_magic(array)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                if version not in header:
                    raise ValueError(f"a header of version {'.'.join(map(str, version))}")
                shape, fortran, kind = header[version](array)
                inside = array.tell()
            if kind.hasobject:
                raise ValueError("Python objects")
            if member.compress_type == zipfile.ZIP_STORED:
                file.seek(member.header_offset + 26)  # of the local header: lengths of the name and of what follows it
                begins = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4))) + inside
                order: Literal["C", "F"] = "F" if fortran else "C"
                empty = 0 in shape  # which cannot be mapped
                found[name] = np.zeros(shape) if empty else np.memmap(path, kind, "r", begins, shape, order)
            else:
                with whole.open(member) as array:
                    found[name] = np.lib.format.read_array(array, allow_pickle=False)
    return found


def _torch(path: Path) -> dict[str, Any]:
    """Tensors that torch.save has written; nothing where a file has them not at its top."""
    content = read(path, mapped=True)
    tensors = {"z": content} if isinstance(content, Tensor) else content if isinstance(content, dict) else {}
    return {name: x for name, x in tensors.items() if isinstance(name, str) and isinstance(x, Tensor)}


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ConfigError(f"{path}: needs the package safetensors (pip install 'emsiam[doctor]')") from None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise ValueError(error) from None
