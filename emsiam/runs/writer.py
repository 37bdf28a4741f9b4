"""How is a run's directory filled? By one process, as training goes on."""

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..config import Config
from ..errors import refuse
from ..files import plain, write_json
from ..metrics import group
from .environment import environment
from .run import PICTURE, SHEET, steps
from .sums import FILE as SUMS
from .sums import Sums

FILES = ("config.json", "env.json", "probe.json", SHEET, "metrics.jsonl", "summary.json", PICTURE, SUMS)


LOCK = ".lock"


PATHS = ("snapshots", "weights")  # STEP.npy


FOLDERS = ("checkpoints", *PATHS)


class Writer:
    """Fills a run's directory as training goes on, alone. Only the first process writes.

    start: the checkpoint to go on from, see `load_checkpoint`; without it the directory is filled anew.
    """

    def __init__(self, config: Config, start: Checkpoint | None = None):
        """Raises ConfigError where another process writes there, or nothing can be written."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = Path(str(config.out))
        with ExitStack() as unless_begun, self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = unless_begun.enter_context((self.path / LOCK).open("w"))
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
            beyond = {
                f"{folder}/{file.name}": file
                for folder in PATHS
                for step, file in steps(self.path / folder).items()
                if start is None or step > start.step
            }
            self.sums = Sums(self.path, new=start is None)
            self.sums.drop("metrics.jsonl", "summary.json", *beyond)
            if start is None:
                self.sums.add("config.json", "env.json")
            else:
                self._went_on(environment(config), start.step)
            for file in beyond.values():
                file.unlink()
            self.lines = (self.path / "metrics.jsonl").open("ab")
            self.lines.truncate(start.metrics_bytes if start else 0)
            self.lines.seek(0, os.SEEK_END)
            self.digest = hashlib.sha256((self.path / "metrics.jsonl").read_bytes())
            self.events = SummaryWriter(str(self.path), purge_step=start.step + 1 if start else None)
            if start is None:
                self.events.add_text("options", options(config))
            unless_begun.pop_all()  # it is held until `close`

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
            text = json.dumps(plain(metrics)).encode() + b"\n"
            self.lines.write(text)
            self.lines.flush()
            self.digest.update(text)
        for name, value in metrics.items():
            if name != "step":
                self.events.add_scalar(f"{group(name)}/{name}", value, int(metrics["step"]))

    def _went_on(self, now: dict[str, Any], step: int) -> None:
        """Add to env.json what is another than when the run began."""
        began = {}
        with suppress(FileNotFoundError, json.JSONDecodeError):  # of older runs
            began = json.loads(self.sums.read("env.json"))
        other = {name: value for name, value in plain(now).items() if value != began.get(name)}
        began["resumed"] = [*began.get("resumed", []), {"step": step} | other]
        write_json(self.path / "env.json", began)
        self.sums.add("env.json")

    def probe(self, ids: Tensor, labels: Tensor | None, files: str, sheet: bytes) -> None:
        """files: digest of the data set's, see `ImageSet`; sheet: a PNG of the first of the images, see `contact`."""
        content = {"ids": ids.tolist(), "labels": None if labels is None else labels.tolist(), "files": files}
        with self._writing():
            write_json(self.path / "probe.json", content)
            (self.path / SHEET).write_bytes(sheet)
            self.sums.add("probe.json", SHEET)

    def snapshot(self, step: int, z: Tensor, weights: Tensor) -> None:
        with self._writing():
            for folder, x in zip(PATHS, (z, weights), strict=True):
                np.save(self.path / folder / f"{step}.npy", x.cpu().numpy())
            self.sums.add(*(f"{folder}/{step}.npy" for folder in PATHS))

    def checkpoint(self, saved: Checkpoint) -> None:
        """Write last.pt whole or not at all; the one before becomes previous.pt."""
        folder = self.path / "checkpoints"
        new = folder / "new.pt"
        with self._writing():
            os.fsync(self.lines.fileno())  # a checkpoint counts them
            counted = {"metrics_bytes": self.lines.tell(), "metrics_sha256": self.digest.hexdigest()}
            try:
                with new.open("wb") as file:
                    torch.save(saved.to_dict() | counted, file)
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
        with closing(self.lock), closing(self.events), self._writing():  # these, whatever becomes of the rest
            self.lines.close()
            self.sums.add("metrics.jsonl")
            if summary is not None:
                write_json(self.path / "summary.json", summary)
                self.sums.add("summary.json")


def options(config: Config) -> str:
    """A table in Markdown, as TensorBoard shows it."""
    rows = [f"| {name} | {value} |" for name, value in config.to_dict().items()]
    return "\n".join(["| option | value |", "|---|---|", *rows])


def new_directory(config: Config) -> str:
    """A directory for a run without a name of its own, made here: after data set, mode and time, and no other's.

    Raises ConfigError where it cannot be made.
    """
    name = f"runs/{config.dataset}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        Path("runs").mkdir(exist_ok=True)
        for more in ("", *(f"-{n}" for n in range(2, 10_000))):
            with suppress(FileExistsError):  # of runs that begin together, or where a clock is set back
                os.mkdir(name + more)
                return name + more
    except OSError as error:
        refuse("out", name, f"cannot be made ({error.strerror})")
    refuse("out", name, "is taken, and so are 9,999 names more")


def leftovers(path: Path) -> list[Path]:
    """What a run would replace in a directory: files and folders that are named as a run's."""
    taken = [path / name for name in (*FILES, *FOLDERS) if (path / name).exists()]
    return taken + list(path.glob("events.out.tfevents.*"))


def clear(path: Path) -> None:
    """Remove a run's own files from its directory, and nothing else."""
    files = [path / name for name in FILES]
    files += [path / "checkpoints" / f"{name}.pt" for name in ("last", "previous", "new")]
    files += [file for folder in PATHS for file in steps(path / folder).values()]
    for file in (*files, *path.glob("events.out.tfevents.*")):
        file.unlink(missing_ok=True)
