"""When is a run looked at while it trains, and in which order? Lines, snapshots, checkpoints, the summary."""

import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import ranks
from ..alternate import Step
from ..build import Parts, dtype
from ..checkpoint import Checkpoint
from ..data.contact import PICTURED, contact
from ..data.images import ImageSet
from ..data.probe_set import ProbeSet, probe_set
from ..errors import ConfigError
from ..eta import bank as banks
from ..metrics import MEASURED, shown_in, training_order
from ..runs.run import PICTURE, Run
from ..runs.writer import Writer
from ..traits import name_of, of_solver
from .monitors import Accuracies, HalfSteps, Losses, Monitor, Predictions, Snapshots
from .observe import look_together
from .summary import Verdicts, facts
from .trial import unsaved


class Watch:
    """Calls the monitors when they are due. `after` each step, then `finish`, or `leave` before the end."""

    def __init__(self, parts: Parts, writer: Writer | None, start: Checkpoint | None = None):
        self.parts, self.config, self.writer = parts, parts.config, writer
        labels = of_solver(parts.solver).needs_labels
        self.probe_set = probe_set(parts.images, parts.config.symmetry, dtype(parts.config), labels=labels)
        self.losses, self.predictions = Losses(parts), Predictions(parts, self.probe_set)
        self.accuracies = Accuracies(parts, self.probe_set)
        self.half_steps, self.snapshots = HalfSteps(parts, self.probe_set), Snapshots(parts, self.probe_set, writer)
        self.monitors: tuple[Monitor, ...] = (self.losses, self.predictions, self.accuracies, self.half_steps)
        if self.half_steps.note and writer:
            print(f"note: {self.half_steps.note}", file=sys.stderr)
        self.verdicts, self.verdict = Verdicts(parts, self.probe_set), ""  # so far
        self.last_line: dict[str, float] = {}
        self.shown = ""  # by the progress bar
        self.step, self.finite, self.began = 0, True, time.perf_counter()
        if start:
            self.step, self.last_line, self.began = start.step, start.last_line, self.began - start.seconds
            restore(self.monitors, start, self.config.out)
        else:
            name_images(writer, parts, self.probe_set)
            self.half_steps.look(0, {})
            self.first = self._measure(0, evaluate=True)
            self.snapshots.look(0)
        # images/s are of the steps since the last look
        self.since, self.timed = time.perf_counter(), 0

    def after(self, step: Step) -> str:
        """Look at a `Step` just taken; what the progress bar should show."""
        c, self.step, self.timed = self.config, step.step + 1, self.timed + 1
        self.losses.add(step.loss)
        self.accuracies.learn(step.batch)
        if self.step == 1:
            self._line(self.first, self.losses.mean(1), c.batch_size / (time.perf_counter() - self.since))
        evaluate, save = (due(self.parts, self.step, every) for every in (c.eval_every, c.save_every))
        if self.finite:
            self.half_steps.look(self.step, step.state)
        ended = self.step % self.parts.steps_per_epoch == 0
        line = evaluate or self.step % c.log_every == 0 or (ended and bool(self.half_steps.numbers()))
        if line or save:
            loss = self.losses.mean(self.losses.unlogged)
            self.finite = math.isfinite(loss) and finite(self.parts.network)
        if self.finite and line:
            rate = self.timed * c.batch_size / (time.perf_counter() - self.since)
            self._line(self._measure(self.step, evaluate), loss, rate)
            self.losses.logged()
        if self.finite:
            self.snapshots.look(self.step)
        if self.finite and save:
            self._save(step)
        if line:
            self.since, self.timed = time.perf_counter(), 0
        return self.shown

    def _measure(self, step: int, evaluate: bool) -> dict[str, float]:
        """What of a line is measured now."""
        z = look_together(self.parts.network.F, self.probe_set.views[0])
        line = {
            "step": step,
            "epoch": step / self.parts.steps_per_epoch,
            "lr": self.parts.optimizer.lr_at(max(0, step - 1)),
            **{m.name: m.of(z).item() for m in MEASURED if m.of},
        }
        if evaluate:
            self.predictions.evaluate()
            self.accuracies.evaluate(step)
            self.verdict = self.verdicts.now(step).verdict
            line |= self.predictions.numbers() | self.accuracies.numbers()
        return line

    def _line(self, line: dict[str, float], loss: float, rate: float) -> None:
        first: dict[str, float] = {"step": line["step"], "epoch": line["epoch"], "loss": loss}
        line = first | line | self.half_steps.numbers()
        self.half_steps.logged()
        line |= {"seconds": time.perf_counter() - self.began, "images_per_second": rate}
        self.last_line, self.shown = line, bar(line | self.accuracies.numbers(), self.verdict)
        if self.writer:
            self.writer.line(line)

    def finish(self) -> Run:
        """Write the summary and the picture."""
        run = Run(Path(str(self.config.out)))
        summary = {
            **facts(self.parts, self.step, time.perf_counter() - self.began),
            "loss": self.losses.mean(self.parts.steps_per_epoch),
            **{m.name: self.last_line[m.name] for m in MEASURED if m.name in self.last_line},
            **self.predictions.summary(),
            **self.accuracies.summary(),
            **self.half_steps.summary(),
            **self.verdicts.summary(self.step, self.finite),
            **({} if self.finite else {"finite_until_step": self.losses.finite_until(self.step)}),
        }
        if self.writer:
            draw(run)
            self.writer.close(summary)  # last: a run with a summary has ended
        ranks.agree("")  # no process leaves before all is written
        return run

    def leave(self, step: Step) -> Run:
        """Save, unless there is nothing good to save, draw, and stop before the end."""
        run = Run(Path(str(self.config.out)))
        if math.isfinite(self.losses.mean(1)) and finite(self.parts.network):
            self._save(step)
        if self.writer:
            self.writer.close()
            draw(run)
        ranks.agree("")
        return run

    def _save(self, step: Step) -> None:
        state = whole_state(self, step.state)
        if self.writer:
            self.writer.checkpoint(checkpoint(self, step._replace(state=state)))


def checkpoint(watch: Watch, step: Step) -> Checkpoint:
    """All that is needed to go on after a step with the same bits. Raises ConfigError for a state that has no form."""
    if odd := unsaved(step.state):
        what = f"the state of {name_of(watch.parts.solver)} after step {step.step}"
        raise ConfigError(f"{what} cannot be saved, for {odd}; allowed are tensors and plain values under names")
    return Checkpoint(
        step=watch.step,
        seconds=time.perf_counter() - watch.began,
        last_line=watch.last_line,
        net=watch.parts.network.state_dict(),
        optimizer=watch.parts.optimizer.sgd.state_dict(),
        state=step.state,
        theta=step.theta,
        theta_h=step.theta_h,
        config=watch.config.to_dict(),
        **of_images(watch.parts.images),
        monitors={name: x for monitor in watch.monitors for name, x in monitor.state_dict().items()},
    )


def whole_state(watch: Watch, state: dict[str, Any]) -> dict[str, Any]:
    """A solver's state with the rows that several processes share, of all of them in the one that writes."""
    traits = of_solver(watch.parts.solver)
    if not traits.spread or ranks.world_size() == 1:
        return state
    folder, n = str(watch.writer.path) if watch.writer else None, len(watch.parts.images.images)
    return state | {name: banks.whole(state[name], n, folder) for name in traits.per_image or () if name in state}


def of_images(images: ImageSet) -> dict[str, Any]:
    """What a checkpoint says of the images trained on."""
    return {"shape": images.shape, "files": images.digest, "mean": images.mean.cpu(), "std": images.std.cpu()}


def restore(monitors: Iterable[Monitor], start: Checkpoint, source: object) -> None:
    """Give monitors the state that a checkpoint has of them. Raises ConfigError where it has none."""
    try:
        for monitor in monitors:
            monitor.load_state_dict(start.monitors)
    except KeyError as error:
        raise ConfigError(f"{source}: its checkpoint has no {error.args[0]}") from error


def name_images(writer: Writer | None, parts: Parts, probe_set: ProbeSet) -> None:
    """Which images snapshots show, and of which class they are where that is known."""
    classes, ids = parts.images.classes, probe_set.ids
    if writer:
        labels = None if classes is None else classes[ids.to(classes.device)]
        writer.probe(ids, labels, parts.images.digest, contact(parts.images.images[ids[:PICTURED]]))


def draw(run: Run) -> None:
    """The run's picture, into its directory."""
    from ..plots import trajectory

    trajectory(run).savefig(run.path / PICTURE, dpi=150)


def bar(line: dict[str, float], verdict: str) -> str:
    """What the progress bar shows of a line, and of the verdict so far."""
    shown = [
        f"{m.short} {line[m.name]:.{min(m.digits, 2)}f}" for m in training_order(shown_in("bar")) if m.name in line
    ]
    return ", ".join([verdict] * bool(verdict) + [" ".join(shown)])


def due(parts: Parts, step: int, epochs: int) -> bool:
    """Whether a training has come to the end of so many epochs again, or to its end."""
    epoch, left = divmod(step, parts.steps_per_epoch)
    return step == parts.steps or (left == 0 and epoch % epochs == 0)


def finite(net: nn.Module) -> bool:
    """The loss is of the weights before the step: the step itself may have ruined them."""
    return bool(torch.stack([x.isfinite().all() for x in net.state_dict().values()]).all())
