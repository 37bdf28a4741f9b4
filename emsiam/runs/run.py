"""Where is what a run left behind? One directory: options, environment, curves, snapshots, checkpoints, summary."""

import base64
import html
import io
import json
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..build import network
from ..checkpoint import Checkpoint, load_checkpoint
from ..config import Config
from ..config.resolution import load_images
from ..data.given import pixels
from ..embedding import Embeddings, Feeding, embed
from ..errors import ConfigError
from ..metrics import METRICS, shown_in, training_order
from ..networks import Siamese
from .sums import Sums

if TYPE_CHECKING:
    import pandas

PICTURE = "trajectory.png"
SHEET = "probe.png"  # small pictures of the first images of the probe set


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not. Files are read when asked for, with a ConfigError for a damaged one."""

    path: Path

    @cached_property
    def config(self) -> Config:
        """Every option of the run, resolved. Raises ConfigError where config.json is damaged, or of another program."""
        options = _json(self, "config.json")
        try:
            return Config(**options)
        except TypeError as error:
            raise ConfigError(f"{self.path / 'config.json'}: is not a run's ({error})") from error
        except ConfigError as error:  # it names an option, as if it had been given
            raise ConfigError(f"{self.path / 'config.json'}: {error}") from error

    @property
    def sums(self) -> Sums:
        """The checksums of its files, as they were written."""
        return Sums(self.path)

    @cached_property
    def metrics(self) -> "pandas.DataFrame":
        """One row for each line of metrics.jsonl; docs/numbers.md has the columns, as `metrics.METRICS`.

        NaN where a line lacks a number. Raises FileNotFoundError where there are no lines yet, ConfigError where the
        file is damaged.
        """
        import pandas

        *lines, torn = self.sums.read("metrics.jsonl").split(b"\n")
        if torn and self.finished:
            lines.append(torn)  # not a line that a process was writing when it was killed
        try:
            return pandas.DataFrame([json.loads(line) for line in lines])
        except ValueError as error:
            raise ConfigError(f"{self.path / 'metrics.jsonl'}: is not a run's ({error})") from error

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, be it that it diverged."""
        return (self.path / "summary.json").exists()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What became of the run: its verdict with the reason, and the last numbers, named as in `metrics.METRICS`.

        Raises FileNotFoundError while the run is not finished, ConfigError where summary.json is damaged.
        """
        return _json(self, "summary.json", "mode", "dataset", "steps", "seconds", "verdict")

    @cached_property
    def so_far(self) -> dict[str, Any]:
        """The summary, or of an unfinished run what its last lines say. Raises ConfigError where it has none."""
        if self.finished:
            return self.summary
        if not (self.path / "metrics.jsonl").exists() or self.metrics.empty:
            raise ConfigError(f"{self.path}: has no lines yet")
        last = self.metrics.ffill().iloc[-1].to_dict()
        return {str(name): x for name, x in last.items()} | {"steps": int(last["step"]), "verdict": "unfinished"}

    def model(self) -> Siamese:
        """The network of the last checkpoint, in eval mode: F maps views to z, F.backbone to features, h z to p.

        Views are normalised: pixels in [0, 1] less `mean`, divided by `std`, see `feeding`; `embed` takes images as
        they are. Raises ConfigError where no checkpoint is saved, or it is damaged or of another network.
        """
        saved = self._saved()
        net = network(self.config, saved.shape)
        saved.fill(net, self.path)
        return net.eval()

    def _saved(self) -> Checkpoint:
        saved = load_checkpoint(self.path)
        if saved is None:
            raise ConfigError(f"{self.path}: has no checkpoint yet")
        return saved

    def feeding(self) -> Feeding:
        """How images are fed to the network: their shape, and mean and std of the pixels that it was trained on.

        Raises ConfigError where no checkpoint is saved, or an older one without them, and the images are not there.
        """
        saved = self._saved()
        if saved.mean is not None and saved.std is not None:
            return Feeding(saved.shape, saved.mean, saved.std)
        _, data, _ = load_images(self.config)
        return Feeding(saved.shape, data.mean, data.std)

    def embed(self, images: Any, *, batch_size: int = 512) -> Embeddings:
        """Backbone features, z and p of images, each [N, width] in fp32, in eval mode.

        images: as `emsiam.fit` takes them, uint8 or floats in [0, 1]; resized to those of the training where they are
        of another size, [N, H, W], [N, H, W, C] or [N, C, H, W]. Raises ConfigError where they are none of these,
        and as `model` and `feeding` do.
        """
        x, _ = pixels(images)
        return embed(self.model(), x, self.feeding(), batch_size=batch_size)

    def snapshots(self) -> dict[int, np.ndarray]:
        """{step: z [P, d] of the probe set}, in the order of steps."""
        return _by_step(self, "snapshots")

    def weights(self) -> dict[int, np.ndarray]:
        """{step: the parameters of F as 4,096 numbers}, see `diagnostics.trajectory.sketch`, at the same steps."""
        return _by_step(self, "weights")

    @cached_property
    def probe(self) -> dict[str, Any]:
        """`ids` of the images that snapshots show, their `labels`, null where they have none, and digest of `files`.

        Raises FileNotFoundError before the first step.
        """
        return _json(self, "probe.json", "ids", "labels")

    def _repr_html_(self) -> str:
        return as_html(self)


def _by_step(run: Run, folder: str) -> dict[int, np.ndarray]:
    files, sums = steps(run.path / folder), run.sums
    return {step: array(sums.read(f"{folder}/{files[step].name}")) for step in sorted(files)}


def as_html(run: Run) -> str:
    """What a notebook shows of a run: verdict, the numbers that the command prints at the end, and the picture."""
    try:
        s = run.so_far
    except ConfigError as error:
        return f"<p>{html.escape(str(error))}</p>"
    reason = f": {html.escape(s['reason'])}" if "reason" in s else ""
    shown = [m for m in [*training_order(shown_in("end")), METRICS["knn_acc1"]] if s.get(m.name) is not None]
    head = "".join(f"<th>{html.escape(m.short)}</th>" for m in shown)
    cells = "".join(f"<td>{m.written(s[m.name])}</td>" for m in shown)
    picture = run.path / PICTURE
    image = base64.b64encode(picture.read_bytes()).decode() if picture.exists() else ""
    return (
        f"<p><b>{html.escape(s['verdict'])}</b> after {int(s['steps']):,} steps{reason}</p>"
        f"<table><tr>{head}</tr><tr>{cells}</tr></table>"
        + (f'<img src="data:image/png;base64,{image}" style="width: 100%">' if image else "")
        + f"<p><small>{html.escape(str(run.path))}</small></p>"
    )


def _json(run: Run, name: str, *keys: str) -> dict[str, Any]:
    """What a file holds. Raises FileNotFoundError, ConfigError where it is not a dictionary with these keys."""
    file = run.path / name
    try:
        content = json.loads(run.sums.read(name))
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not a run's ({error})") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content, dict):
        raise ConfigError(f"{file}: is not a run's (it has no {', '.join(missing) or 'entries'})")
    return content


def check_code(path: Path, eta: str | None, named: Collection[str]) -> None:
    """Code that a run's directory names runs only where the user names it too. Raises ConfigError."""
    if ":" in (eta or "") and eta not in named:
        raise ConfigError(f"{path}: η is solved by code, {eta}; to run it, name it too: --eta {eta}")


def steps(folder: Path) -> dict[int, Path]:
    """{step: the file that is named after it}."""
    return {int(file.stem): file for file in folder.glob("*.npy") if file.stem.isascii() and file.stem.isdigit()}


def array(content: bytes) -> np.ndarray:
    """The array in the content of an .npy file. Raises ValueError where it is none, or shorter than its header says."""
    with io.BytesIO(content) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file)
        except Exception as error:  # a damaged header leads its reader anywhere
            raise ValueError("it has no header of an array") from error
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError("an array of another size than its header says")
        return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C").copy()


def load_run(path: str | os.PathLike) -> Run:
    """The run in a directory. Raises ConfigError where there is none."""
    run = Run(Path(path).expanduser())
    if not (run.path / "config.json").is_file():
        raise ConfigError(f"{path}: holds no run (there is no config.json)")
    _ = run.config  # is it one of ours?
    return run
