"""Where is what a run left behind? One directory: options, environment, curves, snapshots, checkpoints, summary."""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .build import network
from .checkpoint import Checkpoint, load_checkpoint
from .config import Config
from .errors import ConfigError, refuse
from .files import plain, write_json
from .networks import Siamese

if TYPE_CHECKING:
    import pandas

PICTURE = "trajectory.png"
FILES = ("config.json", "env.json", "probe.json", "metrics.jsonl", "summary.json", PICTURE)
LOCK = ".lock"
PATHS = ("snapshots", "weights")  # STEP.npy
FOLDERS = ("checkpoints", *PATHS)


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


class Writer:
    """Fills a run's directory as training goes on, alone. Only the first process writes.

    start: the checkpoint to go on from, see `load_checkpoint`; without it the directory is filled anew.
    """

    def __init__(self, config: Config, start: Checkpoint | None = None):
        """Raises ConfigError where another process writes there, or nothing can be written."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = Path(str(config.out))
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = (self.path / LOCK).open("w")
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refuse("out", config.out, "another process is writing there")
            if start is None:
                clear(self.path)
                write_json(self.path / "config.json", config.to_dict())
                write_json(self.path / "env.json", environment(config))
            for folder in FOLDERS:
                (self.path / folder).mkdir(exist_ok=True)
            for file in (f for folder in PATHS for f in (self.path / folder).glob("*.npy")):
                if start is None or int(file.stem) > start.step:
                    file.unlink()
            self.lines = (self.path / "metrics.jsonl").open("ab")
            self.lines.truncate(start.metrics_bytes if start else 0)
            self.lines.seek(0, os.SEEK_END)
            self.events = SummaryWriter(str(self.path), purge_step=start.step + 1 if start else None)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk or a directory that cannot be written is the user's to mend: one line."""
        try:
            yield
        except OSError as error:
            refuse("out", self.path, f"cannot be written ({error.strerror or f'{error}: is the disk full?'})")

    def line(self, metrics: dict[str, float]) -> None:
        """Append to metrics.jsonl and to TensorBoard's events."""
        with self._writing():
            self.lines.write(json.dumps(plain(metrics)).encode() + b"\n")
            self.lines.flush()
        for name, value in metrics.items():
            self.events.add_scalar(name, value, int(metrics["step"]))

    def probe(self, ids: Tensor, labels: Tensor | None, files: str) -> None:
        """files: digest of the data set's, see `ImageSet`."""
        told = {"ids": ids.tolist(), "labels": None if labels is None else labels.tolist(), "files": files}
        with self._writing():
            write_json(self.path / "probe.json", told)

    def snapshot(self, step: int, z: Tensor, weights: Tensor) -> None:
        with self._writing():
            for folder, x in zip(PATHS, (z, weights), strict=True):
                np.save(self.path / folder / f"{step}.npy", x.cpu().numpy())

    def checkpoint(self, saved: Checkpoint) -> None:
        """Write last.pt whole or not at all; the one before becomes previous.pt."""
        folder = self.path / "checkpoints"
        new = folder / "new.pt"
        with self._writing():
            try:
                with new.open("wb") as file:
                    torch.save(saved.to_dict() | {"metrics_bytes": self.lines.tell()}, file)
                    file.flush()
                    os.fsync(file.fileno())
            except (OSError, RuntimeError) as error:  # PyTorch's own writer turns a full disk into a RuntimeError
                new.unlink(missing_ok=True)
                raise (
                    error if isinstance(error, OSError) else OSError(errno.ENOSPC, "no space for a checkpoint")
                ) from error
            if (folder / "last.pt").exists():
                os.replace(folder / "last.pt", folder / "previous.pt")
            os.replace(new, folder / "last.pt")

    def close(self, summary: dict[str, Any] | None = None) -> None:
        """Release the directory; summary: of a run that has ended."""
        with self._writing():
            if summary is not None:
                write_json(self.path / "summary.json", summary)
            self.lines.close()
        self.events.close()
        self.lock.close()


def leftovers(path: Path) -> list[Path]:
    """What a run would replace in a directory: files and folders that are named as a run's."""
    found = [path / name for name in (*FILES, *FOLDERS) if (path / name).exists()]
    return found + list(path.glob("events.out.tfevents.*"))


def clear(path: Path) -> None:
    """Remove a run's own files from its directory, and nothing else."""
    own = [path / name for name in FILES]
    own += [path / "checkpoints" / f"{name}.pt" for name in ("last", "previous", "new")]
    own += [file for folder in PATHS for file in (path / folder).glob("*.npy") if file.stem.isdigit()]
    for file in (*own, *path.glob("events.out.tfevents.*")):
        file.unlink(missing_ok=True)


def environment(config: Config) -> dict[str, Any]:
    """What the numbers may depend on beside the options."""
    from .ranks import world_size

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if config.device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "commit": _commit(),
        "command": sys.argv,
        "eta": Path(config.eta.rpartition(":")[0]).read_text() if config.eta and ":" in config.eta else None,
    }


def processor() -> str:
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
