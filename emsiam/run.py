"""Where is what a run left behind? One directory: options, environment, curves, snapshots, checkpoints, summary."""

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from . import networks
from .config import Config, ConfigError, refuse
from .data import BACKBONE, DATASETS, PREDICTOR, PROJECTOR, generator

if TYPE_CHECKING:
    import pandas

PICTURE = "trajectory.png"
FILES = ("config.json", "env.json", "metrics.jsonl", "summary.json", PICTURE)
FOLDERS = ("checkpoints", "snapshots")


def build(c: Config, shape: tuple[int, int, int]) -> networks.Siamese:
    """The network of a resolved configuration, initialised from its seed, on the CPU. Raises ConfigError.

    Backbone, projector and predictor draw from streams of their own, so runs that differ in one part share the others.
    """
    try:
        with networks.initialised(generator(c.seed, BACKBONE)):
            backbone, features = networks.build_backbone(c.arch, c.stem, shape)
    except ValueError as error:
        refuse("arch", c.arch, str(error))
    with networks.initialised(generator(c.seed, PROJECTOR)):
        projector = networks.build_projector(
            features,
            hidden_dim=c.hidden_dim,
            dim=c.dim,
            layers=c.proj_layers,
            bn=c.bn,
            output_affine=c.output_affine is not False,
        )
    with networks.initialised(generator(c.seed, PREDICTOR)):
        predictor = networks.build_predictor(c.predictor or "none", dim=c.dim, pred_dim=c.pred_dim or 1, bn=c.bn)
    net = networks.Siamese(backbone, projector, predictor, autocast=c.precision == "bf16")
    return net.to(dtype(c)).to(memory_format=torch.channels_last)


def dtype(c: Config) -> torch.dtype:
    """Of weights and images; bf16 is used inside autocast only."""
    return torch.float64 if c.precision == "fp64" else torch.float32


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not. Files are read when asked for."""

    path: Path

    @cached_property
    def config(self) -> Config:
        return Config(**json.loads((self.path / "config.json").read_text()))

    @cached_property
    def metrics(self) -> "pandas.DataFrame":
        """One row a log line, see the README for the columns."""
        import pandas

        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return pandas.DataFrame([json.loads(line) for line in lines])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Raises FileNotFoundError while the run is not finished."""
        return json.loads((self.path / "summary.json").read_text())

    def model(self) -> networks.Siamese:
        """The network of the last checkpoint, in eval mode: F maps views to z, F.backbone to features, h z to p."""
        net = build(self.config, DATASETS[self.config.dataset]().shape)
        saved = torch.load(self.path / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
        net.load_state_dict(saved["net"])
        return net.eval()

    def snapshots(self) -> dict[int, np.ndarray]:
        """{step: z [P, d] of the probe set}, in the order of steps."""
        files = {int(f.stem): f for f in (self.path / "snapshots").glob("*.npy")}
        return {step: np.load(files[step]) for step in sorted(files)}

    def _repr_html_(self) -> str:
        """In a notebook: the picture's numbers, one row."""
        import pandas

        return pandas.DataFrame([self.summary]).to_html(index=False)


def load_run(path: str | os.PathLike) -> Run:
    """The run in a directory. Raises ConfigError where there is none."""
    if not (Path(path) / "config.json").is_file():
        raise ConfigError(f"{path}: holds no run (there is no config.json)")
    return Run(Path(path))


class Writer:
    """Fills a run's directory as training goes on. Only the first process writes."""

    def __init__(self, config: Config):
        """Raises ConfigError where --out holds a run and --overwrite is not given, or cannot be written."""
        from torch.utils.tensorboard import SummaryWriter

        assert config.out is not None
        self.path = Path(config.out)
        if (self.path / "config.json").exists() and not config.overwrite:
            refuse("out", config.out, "holds a run; choose another directory or add --overwrite")
        try:
            clear(self.path)
            for folder in FOLDERS:
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            self._json("config.json", config.to_dict())
            self._json("env.json", environment(config))
            self.lines = (self.path / "metrics.jsonl").open("w")
            self.events = SummaryWriter(str(self.path))
        except OSError as error:
            refuse("out", config.out, f"cannot be written ({error.strerror})")

    def line(self, metrics: dict[str, float]) -> None:
        """Append to metrics.jsonl and to TensorBoard's events."""
        self.lines.write(json.dumps({name: _plain(value) for name, value in metrics.items()}) + "\n")
        self.lines.flush()
        for name, value in metrics.items():
            self.events.add_scalar(name, value, int(metrics["step"]))

    def snapshot(self, step: int, z: Tensor) -> None:
        np.save(self.path / "snapshots" / f"{step}.npy", z.cpu().numpy())

    def checkpoint(self, saved: dict[str, Any]) -> None:
        """Write last.pt whole or not at all; the one before becomes previous.pt."""
        folder = self.path / "checkpoints"
        torch.save(saved, folder / "new.pt")
        if (folder / "last.pt").exists():
            os.replace(folder / "last.pt", folder / "previous.pt")
        os.replace(folder / "new.pt", folder / "last.pt")

    def close(self, summary: dict[str, Any]) -> None:
        self._json("summary.json", {name: _plain(value) for name, value in summary.items()})
        self.lines.close()
        self.events.close()

    def _json(self, name: str, content: dict[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(content, indent=2) + "\n")


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def clear(path: Path) -> None:
    """Remove a run's files from its directory, and nothing else."""
    for name in FILES:
        (path / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)
    for events in path.glob("events.out.tfevents.*"):
        events.unlink()


def environment(config: Config) -> dict[str, Any]:
    """What the numbers may depend on beside the options."""
    from .ranks import world_size

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if config.device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "commit": _commit(),
        "command": sys.argv,
    }


def _processor() -> str:
    """The processor's name and vector instructions, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _commit() -> str | None:
    """The commit of this code where it lies in a checkout, with + where files differ from it."""

    def git(*command):
        done = subprocess.run(["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
