"""How does a configuration become a run? Parts are built, alternated, watched; `fit` is all of `emsiam.train`."""

import dataclasses
import sys
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import processor, ranks
from ..alternate import Step
from ..build import Parts, assemble
from ..checkpoint import Checkpoint
from ..config import Config, having
from ..config.resolution import load_images, resolve
from ..config.solvers import with_arguments
from ..errors import ConfigError, flag, refuse
from ..files import plain
from ..runs.environment import source
from ..runs.run import Run
from ..runs.writer import Writer, new_directory
from ..traits import of_solver
from .live import Live
from .resume import edited, resumed, threads_of
from .signals import Interrupted, Signals
from .trial import try_solver
from .watch import Watch

OF_EACH = {*having("no_number"), "bank", "threads", "workers"}  # may differ between processes


def fit(
    config: Config, given: Iterable[str] | None = None, stop: Sized = (), *, images: Any = None, labels: Any = None
) -> Run:
    """Train as `config` says; the run's directory is `config.out`. What `python -m emsiam.train` does.

    given: the options that were asked for, which a resumed run must have (by default those that differ from the
    defaults). stop: training is saved and ends, unfinished, once this is not empty.
    images: in place of a named data set: uint8, or floats in [0, 1], [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or
    3 channels, as a numpy array or a tensor; or a map-style Dataset or a list of such images, of PIL's, or of
    (image, label). labels: N whole numbers or names, for accuracies and the solver `class_means`. See `data.given`.
    Ctrl-C or a notebook's stop button ends it after the step that is under way: the run is saved and drawn, and a
    KeyboardInterrupt says how it goes on. Before the first step it is raised at once.
    A training that diverges returns its run, with that verdict in `summary`; with `resume` a finished run is returned
    as it is.
    Raises ConfigError before anything is written where options do not go together; BadImage where a file of a large
    folder cannot be decoded when its turn comes.
    """
    config, start = resumed(config, given)
    config = with_arguments(config)
    if config.resume and Run(Path(str(config.out))).finished:
        if images is not None or labels is not None:
            load_images(config, images, labels)  # are they those of the run?
        return Run(Path(str(config.out)))
    config, data, notes = load_images(config, images, labels)
    config, more = resolve(config, len(data.images), data.shape, len(data.labels))
    if start and start.files != data.digest:
        refuse("data_dir", config.data_dir, f"holds other images than when {config.out} began")
    processor.for_training(threads_of(config, start), config.deterministic)
    with ranks.together(config.device):
        data.check_alike()  # and no process writes before all have seen what is there
        check_alike(config, start)
        more += edited(Path(str(config.out)), config.eta) if start else []
        parts = assemble(config, data, start, notes=notes + more)
        start = start and start.emptied()  # of a large bank there is one, not two
        return _fit(parts, start, stop)


def check_alike(config: Config, start: Checkpoint | None) -> None:
    """Raises ConfigError where several processes were told different things, or go on from different steps."""
    own = {flag(f.name): plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name not in OF_EACH}
    own |= {"the step to go on from": start.step if start else 0, "the solver's file": source(config.eta)}
    ranks.check_told(own)


def _fit(parts: Parts, start: Checkpoint | None, stop: Sized) -> Run:
    c = parts.config
    if (c.eta or c.eta_args) and not (start and of_solver(parts.solver).placed):  # there may be no room for two banks
        try_solver(parts)
    writer, refused = None, ""
    if ranks.rank() == 0:
        try:
            c = c if c.out else dataclasses.replace(c, out=new_directory(c))
            writer = Writer(c, start)
        except ConfigError as error:
            refused = str(error)
    if refused := ranks.agree(refused):  # all processes leave together
        raise ConfigError(refused)
    parts = dataclasses.replace(parts, config=dataclasses.replace(c, out=ranks.agree(str(c.out))))
    for note in parts.notes if writer else ():  # once nothing is left to refuse
        print(f"note: {note}", file=sys.stderr)
    signals = Signals()
    try:
        run = _follow(parts.alternation(), Watch(parts, writer, start), stop, signals)
    except BaseException:
        if writer:
            writer.close()
        raise
    finally:
        signals.release()
    if signals.caught and not run.finished:
        raise Interrupted(signals.caught[0], run)
    return run


def _follow(trained: Iterable[Step], watch: Watch, stop: Sized, signals: Signals) -> Run:
    """Train to the end, or until `stop` or a signal, with a progress bar."""
    c = watch.config
    quiet = c.quiet or watch.writer is None
    live = Live(quiet)
    bar = tqdm(
        trained,
        initial=watch.step,
        total=watch.parts.steps,
        mininterval=0.5,
        disable=quiet,
        bar_format="{percentage:.0f}% {remaining} left{postfix}",  # fits 80 columns
    )
    for step in bar:
        signals.catch()  # from the first step on there is something to save
        bar.set_postfix_str(watch.after(step), refresh=False)
        live.after(watch.last_line)
        if not watch.finite:
            break
        if ranks.any_of(bool(stop) or bool(signals.caught), watch.step):
            bar.close()
            return watch.leave(step)
    bar.close()
    live.draw()
    return watch.finish()
