"""Where is what a run left behind? One directory: options, environment, curves, snapshots, checkpoints, summary."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..build import network
from ..checkpoint import load_checkpoint
from ..config import Config
from ..errors import ConfigError
from ..networks import Siamese

if TYPE_CHECKING:
    import pandas

PICTURE = "trajectory.png"


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not. Files are read when asked for."""

    path: Path

    @cached_property
    def config(self) -> Config:
        try:
            return Config(**json.loads((self.path / "config.json").read_text()))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.path / 'config.json'}: is not a run's ({error})") from error

    @cached_property
    def metrics(self) -> "pandas.DataFrame":
        """One row a log line, docs/training.md has the columns."""
        import pandas

        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return pandas.DataFrame([json.loads(line) for line in lines])

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, be it that it diverged."""
        return (self.path / "summary.json").exists()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Raises FileNotFoundError while the run is not finished."""
        return json.loads((self.path / "summary.json").read_text())

    def model(self) -> Siamese:
        """The network of the last checkpoint, in eval mode: F maps views to z, F.backbone to features, h z to p.

        Raises ConfigError where none is saved.
        """
        saved = load_checkpoint(self.path)
        if saved is None:
            raise ConfigError(f"{self.path}: has no checkpoint yet")
        net = network(self.config, saved.shape)
        net.load_state_dict(saved.net)
        return net.eval()

    def snapshots(self) -> dict[int, np.ndarray]:
        """{step: z [P, d] of the probe set}, in the order of steps."""
        return self._path("snapshots")

    def weights(self) -> dict[int, np.ndarray]:
        """{step: the parameters of F as 4,096 numbers}, see `diagnostics.trajectory.sketch`, at the same steps."""
        return self._path("weights")

    def _path(self, folder: str) -> dict[int, np.ndarray]:
        files = {int(f.stem): f for f in (self.path / folder).glob("*.npy") if f.stem.isdigit()}
        return {step: np.load(files[step]) for step in sorted(files)}

    @cached_property
    def probe(self) -> dict[str, Any]:
        """`ids` of the images that snapshots show, their `labels`, null where they have none, and digest of `files`."""
        return json.loads((self.path / "probe.json").read_text())

    def _repr_html_(self) -> str:
        """In a notebook: the picture's numbers, one row."""
        import pandas

        return pandas.DataFrame([self.summary]).to_html(index=False)


def load_run(path: str | os.PathLike) -> Run:
    """The run in a directory. Raises ConfigError where there is none."""
    if not (Path(path) / "config.json").is_file():
        raise ConfigError(f"{path}: holds no run (there is no config.json)")
    run = Run(Path(path))
    _ = run.config  # is it one of ours?
    return run
