"""What does a run need to go on with the same bits? One file, of tensors and plain values."""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import refuse


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
    monitors: dict[str, Any] = field(default_factory=dict)  # by the keys of their `state_dict`s

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OWN} | self.monitors

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Checkpoint":
        """From what a file holds. Raises KeyError where a field is missing."""
        rest = {name: value for name, value in saved.items() if name not in OWN}
        return cls(**{name: saved[name] for name in OWN}, monitors=rest)


OWN = tuple(f.name for f in fields(Checkpoint) if f.name != "monitors")


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The last checkpoint of a run that can be read, with a warning where it is not the very last; None without any.

    Raises ConfigError where a file would run code when loaded.
    """
    for name in ("last.pt", "previous.pt"):
        file = path / "checkpoints" / name
        try:
            return Checkpoint.of(torch.load(file, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            continue
        except pickle.UnpicklingError:
            refuse("out", path, f"{file} holds more than tensors and plain values and is not loaded")
        except (RuntimeError, EOFError, OSError) as error:
            print(f"warning: {file} is damaged ({type(error).__name__}), trying the one before", file=sys.stderr)
    return None
