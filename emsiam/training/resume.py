"""From where does a run go on? From its last checkpoint, under the options that it had."""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import processor
from ..checkpoint import Checkpoint, load_checkpoint
from ..config import Config, having
from ..config.solvers import with_arguments
from ..data.sets import DATASETS
from ..errors import ConfigError, given_flag, refuse
from ..ranks import world_size
from ..runs.run import check_code, load_run
from ..runs.writer import leftovers
from ..traits import hyperparameters


def began(path: Path) -> dict[str, Any]:
    """What env.json says of the parts of a run that began; nothing where it cannot be read."""
    try:
        found = json.loads((path / "env.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def edited(path: Path, eta: str | None) -> list[str]:
    """A note where the file of a solver is not what it was when a run began."""
    file, before = Path(str(eta).rpartition(":")[0]), began(path).get("eta")
    changed = ":" in (eta or "") and before is not None and file.is_file() and file.read_text() != before
    return [f"{file} is not what it was when {path} began: one run has two solvers"] if changed else []


def threads_of(config: Config, start: Checkpoint | None) -> int | None:
    """CPU threads of a run: those that it began with, for the same bits. Where it goes on with another number of
    processes, whose sums are rounded otherwise anyway, each takes its share of them at most.
    """
    processes = began(Path(str(config.out))).get("processes") if start else None
    if config.threads is None or processes in (None, world_size()):
        return config.threads
    return min(config.threads, processor.own())


def same_arguments(config: Config, saved: Config) -> bool:
    """Whether a solver's arguments, as they are written now, are those of a run. Raises ConfigError."""
    if ":" in (saved.eta or "") and config.eta != saved.eta:
        return True  # such code is not run to find out; it is refused, see `check_code`
    return with_arguments(dataclasses.replace(saved, eta_args=config.eta_args)).eta_args == saved.eta_args


def read(f: dataclasses.Field, saved: Config) -> bool:
    """Whether a run read an option: it names it, or its data set reads it, or all runs do, to which None is off."""
    of_all = "read_by_some" not in f.metadata["flags"] and f.metadata["unset"] == "off"
    return getattr(saved, f.name) is not None or f.name in hyperparameters(DATASETS[saved.dataset]) or of_all


def was(f: dataclasses.Field, saved: Config) -> Any:
    """What an option of a run was, in words."""
    value = getattr(saved, f.name)
    unset = "off" if f.metadata["unset"] == "off" else "not given"
    return unset if value is None else {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def resumed(config: Config, given: Iterable[str] | None) -> tuple[Config, Checkpoint | None]:
    """The configuration of the run in --out where it is to go on, and the checkpoint to go on from.

    Raises ConfigError as `options_of` and `load_checkpoint` do.
    """
    found = options_of(config, given)
    return (config, None) if found is None else (found, load_checkpoint(Path(str(found.out)), resume=True))


def options_of(config: Config, given: Iterable[str] | None) -> Config | None:
    """The configuration of the run in --out where it is to go on; None where one begins.

    Raises ConfigError where --out holds a run and neither --resume nor --overwrite is given, where options that were
    given would change the result, and where the run names code that the options do not.
    """
    path = Path(str(config.out))
    if config.resume and config.overwrite:
        refuse("overwrite", True, "a run begins anew, and with --resume it goes on; give one of them")
    if config.out is None or not os.path.isdir(path):
        return None
    if not (path / "config.json").exists():
        if leftovers(path) and not config.overwrite:
            names = ", ".join(file.name for file in leftovers(path)[:3])
            reason = f"holds files that a run would replace ({names}), without a config.json"
            refuse("out", config.out, f"{reason}; add --overwrite to begin anew, or choose another directory")
        return None
    saved = load_run(path).config  # of another program it is not overwritten
    if not config.resume:
        if not config.overwrite:
            refuse("out", config.out, "holds a run; choose another directory, or add --resume or --overwrite")
        return None
    same = {"workers"} if bool(config.workers) == bool(saved.workers) else set()  # then only how many differ

    asked = {f.name for f in dataclasses.fields(Config) if getattr(config, f.name) != f.default}
    asked = asked if given is None else set(given)
    changed = [
        f"{given_flag(f.name, getattr(config, f.name))} (was {was(f, saved)})"
        for f in dataclasses.fields(Config)
        if f.name not in {*having("resumable"), *same}
        and f.name in asked
        and getattr(config, f.name) not in (getattr(saved, f.name), "auto", "epoch")  # which were resolved then
        and not (getattr(config, f.name) is False and was(f, saved) == "off")
        and not (f.name == "eta_args" and same_arguments(config, saved))
        and not (f.name == "augment" and saved.augment | config.augment == saved.augment)
        and read(f, saved)
    ]
    if changed:
        raise ConfigError(f"--resume goes on with the options of {path}: {', '.join(changed)}")
    check_code(path, saved.eta, [str(config.eta)])
    of_this_call: dict[str, Any] = {
        "out": config.out,
        "resume": True,
        "quiet": config.quiet,
        "download": config.download,
    }
    for name in (*having("stays"), *same):  # where things are, and who fetches them, changes no number
        of_this_call[name] = getattr(config if name in asked else saved, name)
    return dataclasses.replace(saved, **of_this_call)
