"""Which arrays are in this file? .npy, .npz and .safetensors, of any size: rows are read as they are asked for."""

import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ConfigError

NAMES = ("z", "p", "features", "labels")  # of arrays that an .npz or .safetensors may hold
ENDINGS = (".npy", ".npz", ".safetensors")
TEXT = (".csv", ".tsv", ".txt", ".json")


def arrays(path: Path) -> dict[str, Any] | None:
    """{name: array}, under NAMES; None where a .safetensors file holds weights. Raises ConfigError.

    The only array of a file is z, whatever it is called.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        found = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}[path.suffix](path)
    except (ValueError, OSError, zipfile.BadZipFile, struct.error, EOFError) as error:
        if "Python objects" in str(error):
            raise ConfigError(f"{path}: holds Python objects, which reading could run; save numbers alone") from None
        raise ConfigError(f"{path}: is no {path.suffix} file, or a damaged one ({error})") from None
    known = {name: found[name] for name in NAMES if name in found}
    representations = [name for name, x in found.items() if x.ndim in (2, 3) and name not in NAMES]
    if {"z", "features"} & known.keys():
        return known
    if len(representations) == len(found) - len(known) == 1:
        return known | {"z": found[representations[0]]}
    if path.suffix == ".safetensors":
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
