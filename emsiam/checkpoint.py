"""What does a run need to go on with the same bits? One file, of tensors and plain values, with no bit changed."""

import hashlib
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import having
from .errors import ConfigError, Damaged, launched
from .files import plain


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps. In the file it is one dict: the fields by name, and the monitors' keys beside them."""

    step: int
    seconds: float  # of training until then
    last_line: dict[str, float]  # of metrics.jsonl
    net: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]  # of the solver
    theta: dict[str, Tensor]  # θᵗ, where it is held
    config: dict[str, Any]  # resolved
    shape: tuple[int, int, int]  # of an image
    files: str  # digest of the data set's
    metrics_bytes: int = 0  # of metrics.jsonl by then
    metrics_sha256: str = ""  # of those bytes; older runs have none
    mean: Tensor | None = None  # [C, 1, 1] of the training pixels in [0, 1], by which images are normalised; likewise
    std: Tensor | None = None
    theta_h: dict[str, Tensor] = field(default_factory=dict)  # h beside θᵗ, for a solver that asks for it; likewise
    monitors: dict[str, Any] = field(default_factory=dict)  # by the keys of their `state_dict`s

    def to_dict(self) -> dict[str, Any]:
        """What the file holds."""
        return {name: getattr(self, name) for name in FIELDS} | self.monitors

    @classmethod
    def of(cls, saved: Any) -> "Checkpoint":
        """The checkpoint that a file holds. Raises Damaged where that is not what `to_dict` gives."""
        if not isinstance(saved, dict):
            raise Damaged(f"holds a {type(saved).__name__}, not a checkpoint")
        missing = [name for name in FIELDS if name not in saved and name not in LATER]
        if missing:
            raise Damaged(f"has no {missing[0]}")
        rest = {name: value for name, value in saved.items() if name not in FIELDS}
        c = cls(**{name: saved[name] for name in FIELDS if name in saved}, monitors=rest)
        for name, kind in KINDS.items():
            if not isinstance(getattr(c, name), kind):
                raise Damaged(f"its {name} is a {type(getattr(c, name)).__name__}")
        if not (len(c.shape) == 3 and all(isinstance(n, int) and n > 0 for n in c.shape)):
            raise Damaged("its shape is not that of an image")
        for name in ("net", "theta", "theta_h", "optimizer"):
            if not _finite(getattr(c, name)):
                raise Damaged(f"its {name} is not finite")
        return c

    def emptied(self) -> "Checkpoint":
        """What is still read of it once the network, the optimiser and the solver have theirs."""
        return replace(self, net={}, optimizer={}, state={}, theta={}, theta_h={})

    def fill(self, net: nn.Module, source: object) -> None:
        """Give a network these weights. source: where they are from. Raises ConfigError where they are another's."""
        try:
            net.load_state_dict(self.net)
        except RuntimeError as error:
            reason = str(error).partition("\n")[2].strip().partition("\n")[0]
            raise ConfigError(f"{source}: its checkpoint holds weights of another network ({reason})") from None


FIELDS = tuple(f.name for f in fields(Checkpoint) if f.name != "monitors")
LATER = ("metrics_sha256", "mean", "std", "theta_h")  # which older runs have not
KINDS = {"step": int, "seconds": float, "shape": tuple, "files": str, "metrics_bytes": int, "metrics_sha256": str}
KINDS |= dict.fromkeys(("last_line", "net", "optimizer", "state", "theta", "theta_h", "config"), Mapping)


def read(file: Path, *, mapped: bool = False) -> Any:
    """What torch.save has written: tensors and plain values, and nothing of it is run.

    mapped: tensors stay in the file until they are looked at.

    PyTorch does not look at the checksums in its files, so they are looked at here. Raises FileNotFoundError, Damaged
    where the file is not as it was written, ConfigError where it would run code.
    """
    try:
        if file.stat().st_size and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as whole:
                if bad := whole.testzip():
                    raise Damaged(f"{bad} in it has another checksum than it was written with")
        with warnings.catch_warnings():  # on pickles, which are refused below
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped or None)
    except (FileNotFoundError, Damaged):
        raise
    except Exception as error:  # what is damaged leads the readers anywhere
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ConfigError(
                f"{file}: holds {code[1]}, which could run code, and is not loaded; save its state_dict alone"
            ) from None
        why = str(error).split("WeightsUnpickler error: ")[-1].strip().partition("\n")[0]
        if _is_pickle(file):
            why = "a pickle, which could run code; save tensors by torch.save, arrays by numpy.save"
        why = why.partition(". ")[0] if why and not isinstance(error, LookupError | TypeError) else "another format"
        raise Damaged(f"cannot be read as a checkpoint ({why})") from None


def _is_pickle(file: Path) -> bool:
    """Whether a file begins as pickles do; those of torch.save from before it wrote zip files begin so, too."""
    with file.open("rb") as opened:
        return opened.read(1) == b"\x80"


def load_checkpoint(path: Path, *, resume: bool = False) -> Checkpoint | None:
    """The last checkpoint of a run that is as it was written, with a warning where it is not the very last.

    resume: metrics.jsonl must hold the lines that it counts. None where none has been saved. Raises ConfigError where
    there are checkpoints and none is good, where one would run code, and where config.json is not the checkpoint's.
    """
    reasons = []
    for name in ("last.pt", "new.pt", "previous.pt"):  # new.pt: where a run was killed as it became the last
        file = path / "checkpoints" / name
        try:
            saved = Checkpoint.of(read(file, mapped=launched()))  # of a bank each process takes its rows alone
            if resume:
                _check_lines(path / "metrics.jsonl", saved)
        except FileNotFoundError:
            continue
        except (Damaged, OSError) as error:
            reasons.append(f"{file} is damaged ({error})")
            continue
        _check_options(path / "config.json", saved, file)
        for reason in reasons:
            print(f"warning: {reason}; the one before is taken, of step {saved.step}", file=sys.stderr)
        return saved
    if reasons:
        raise ConfigError("; ".join(reasons))
    return None


def _check_lines(file: Path, saved: Checkpoint) -> None:
    """Raises Damaged."""
    try:
        with file.open("rb") as lines:
            content = lines.read(saved.metrics_bytes)
    except FileNotFoundError:
        content = b""
    if len(content) < saved.metrics_bytes:
        raise Damaged(f"counts {saved.metrics_bytes:,} bytes of {file.name}, which has {len(content):,}")
    if saved.metrics_sha256 not in ("", hashlib.sha256(content).hexdigest()):
        raise Damaged(f"was saved beside other lines than {file.name} has")


def _check_options(file: Path, saved: Checkpoint, checkpoint: Path) -> None:
    """Raises ConfigError where the two say different things of what was trained."""
    asked = json.loads(file.read_text())
    own = json.loads(json.dumps(plain(saved.config)))
    for name in sorted((asked.keys() | own.keys()) - {*having("resumable")}):
        says, was = asked.get(name), own.get(name)
        if says != was and not (name == "workers" and bool(says) == bool(was)):
            raise ConfigError(f"{file}: says {name} {says}, but {checkpoint} was trained with {was}")


def _finite(value: Any) -> bool:
    """Whether all tensors in nested dicts and lists are."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not (isinstance(value, Tensor) and value.is_floating_point()) or bool(value.isfinite().all())
