"""How does a configuration become a run? Parts are built, alternated, watched; `fit` is all of `emsiam.train`."""

import dataclasses
import os
import sys
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  # before PyTorch, which goes on without it where importing it fails
import torch
from torch import Tensor
from tqdm import tqdm

from . import ranks
from .alternate import Frozen, Step, hold
from .build import Parts, assemble, stream
from .checkpoint import Checkpoint, load_checkpoint
from .config import Config, having
from .config.resolution import load_images, resolve
from .errors import ConfigError, given_flag, refuse
from .methods import METHODS
from .monitors import place
from .run import Run, Writer, leftovers, load_run
from .traits import of_objective
from .watch import Watch


def fit(config: Config, given: Iterable[str] | None = None, stop: Sized = ()) -> Run:
    """Train as `config` says; the run's directory is `config.out`. What `python -m emsiam.train` does.

    given: the options that were asked for, which a resumed run must have (by default those that differ from the
    defaults). stop: training is saved and ends, unfinished, once this is not empty.
    Raises ConfigError before anything is written where options do not go together; BadImage where a file of a large
    folder cannot be decoded when its turn comes.
    """
    config, start = resumed(config, given)
    if config.resume and Run(Path(str(config.out))).finished:
        return Run(Path(str(config.out)))
    config, data, notes = load_images(config)
    config, more = resolve(config, len(data.images), data.shape, len(data.labels))
    if start and start.files != data.digest:
        refuse("data_dir", config.data_dir, f"holds other images than when {config.out} began")
    torch.set_num_threads(config.threads or 1)
    with ranks.together(config.device):
        config = dataclasses.replace(config, out=ranks.agree(str(config.out)))
        return _fit(assemble(config, data, start, notes=notes + more), start, stop)


def resumed(config: Config, given: Iterable[str] | None) -> tuple[Config, Checkpoint | None]:
    """The configuration of the run in --out where it is to go on, and the checkpoint to go on from.

    Raises ConfigError where --out holds a run and neither --resume nor --overwrite is given, or where options that
    were given would change the result.
    """
    path = Path(str(config.out))
    if config.out is None or not os.path.isdir(path):
        return config, None
    if not (path / "config.json").exists():
        if leftovers(path) and not config.overwrite:
            names = ", ".join(file.name for file in leftovers(path)[:3])
            refuse("out", config.out, f"holds files that a run would replace ({names}); choose another directory")
        return config, None
    saved = load_run(path).config
    if not config.resume:
        if not config.overwrite:
            refuse("out", config.out, "holds a run; choose another directory, or add --resume or --overwrite")
        return config, None
    same = {"workers"} if bool(config.workers) == bool(saved.workers) else set()  # then only how many differ

    def was(name: str) -> Any:
        return "off" if getattr(saved, name) is None else getattr(saved, name)

    changed = [
        f"{given_flag(f.name, getattr(config, f.name))} (was {was(f.name)})"
        for f in dataclasses.fields(Config)
        if f.name not in {*having("resumable"), *same}
        and (f.name in given if given is not None else getattr(config, f.name) != f.default)
        and getattr(config, f.name) not in (getattr(saved, f.name), "auto", "epoch")  # which were resolved then
        and not (f.name == "augment" and saved.augment | config.augment == saved.augment)
        and (getattr(saved, f.name) is not None or (f.name == "online_probe" and config.online_probe))  # else not read
    ]
    if changed:
        raise ConfigError(f"--resume goes on with the options of {path}: {', '.join(changed)}")
    here: dict[str, Any] = {"out": config.out, "resume": True, "quiet": config.quiet, "download": config.download}
    for name in (*having("stays"), *same):  # where things are, and who fetches them, changes no number
        here[name] = getattr(saved, name) if getattr(config, name) is None else getattr(config, name)
    return dataclasses.replace(saved, **here), load_checkpoint(path)


def _fit(parts: Parts, start: Checkpoint | None, stop: Sized) -> Run:
    c = parts.config
    if ":" in (c.eta or ""):
        _try(parts)
    writer, refused = None, ""
    if ranks.rank() == 0:
        try:
            writer = Writer(c, start)
        except ConfigError as error:
            refused = str(error)
    if refused := ranks.agree(refused):  # all processes leave together
        raise ConfigError(refused)
    for note in parts.notes if writer else ():  # once nothing is left to refuse
        print(f"note: {note}", file=sys.stderr)
    try:
        return _follow(parts.alternation(), Watch(parts, writer, start), stop)
    except BaseException:
        if writer:
            writer.close()
        raise


def _follow(trained: Iterable[Step], watch: Watch, stop: Sized) -> Run:
    """Train to the end, or until `stop`, with a progress bar."""
    c = watch.config
    quiet = c.quiet or watch.writer is None
    bar = tqdm(
        trained, initial=watch.step, total=watch.parts.steps, desc=c.mode, unit="step", mininterval=0.5, disable=quiet
    )
    for step in bar:
        bar.set_postfix(watch.after(step), refresh=False)
        if not watch.finite:
            break
        if ranks.any_of(bool(stop), watch.step):
            return watch.leave(step)
    bar.close()
    return watch.finish()


def _try(parts: Parts) -> None:
    """Ask a user's solver for one batch before anything is written. Raises ConfigError with what is wrong."""
    c, net = parts.config, parts.network
    batch = next(stream(c, parts.images, stop=1))
    shape = (len(batch.trained), len(batch.ids), c.width)
    try:
        answer = parts.solver({}, Frozen(net.F, hold(net.F, copy=True), batch), batch)
        eta, state = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
    except Exception as error:
        refuse("eta", c.eta, place(error))
    if not isinstance(eta, Tensor) or not isinstance(state, dict):
        refuse(
            "eta", c.eta, f"must return a pair (eta, state), a tensor and a dict, but returned {type(answer).__name__}"
        )
    if tuple(eta.shape) != shape:
        refuse("eta", c.eta, f"eta must have the shape [S, B, d] = {list(shape)}, but has {list(eta.shape)}")
    for name in of_objective(METHODS[c.mode].objective).reads:
        if not isinstance(state.get(name), Tensor):
            refuse("eta", c.eta, f"--mode {c.mode} needs a tensor in state[{name!r}], for its objective")
    odd = [name for name, x in state.items() if not isinstance(x, Tensor | int | float | str | bool | None)]
    if odd:
        refuse(
            "eta", c.eta, f"state must hold tensors and plain values, but {odd[0]} is a {type(state[odd[0]]).__name__}"
        )
