"""How does a configuration become a run? Parts are built, alternated, watched; `fit` is all of `emsiam.train`."""

import dataclasses
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sized
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import objective, probes, ranks
from .alternate import Frozen, Step, alternate, hold
from .config import HYPERPARAMETERS, Config, having
from .config.resolution import load_images, load_solver, resolve
from .data import Batch, ImageSet, batches
from .diagnostics import collapse
from .diagnostics.em import prediction_quality, response
from .diagnostics.trajectory import sketch
from .diagnostics.verdict import Evidence, verdict
from .errors import ConfigError, given_flag, refuse
from .eta import bank as banks
from .methods import METHODS, hyperparameters
from .metrics import MEASURED, shown_in, training_order
from .networks import Siamese
from .observe import Alternation, look, probe_set, schedule
from .optim import SGD
from .run import PICTURE, Run, Writer, build, dtype, leftovers, load_checkpoint, load_run
from .traits import of_objective, of_solver

SNAPSHOTS = 64  # at most
PART = 1024  # images a pass of the kNN monitor
PROBE_LR = 0.1  # base learning rate of the online probe, × batch/256


def fit(config: Config, given: Iterable[str] | None = None, stop: Sized = ()) -> Run:
    """Train as `config` says; the run's directory is `config.out`. What `python -m emsiam.train` does.

    given: the options that were asked for, which a resumed run must have (by default those that differ from the
    defaults). stop: training is saved and ends, unfinished, once this is not empty.
    Raises ConfigError before anything is written where options do not go together; BadImage where a file of a large
    folder cannot be decoded when its turn comes.
    """
    config, start = _resumed(config, given)
    if config.resume and Run(Path(str(config.out))).finished:
        return Run(Path(str(config.out)))
    config, data, notes = load_images(config)
    config, more = resolve(config, len(data.images), data.shape, len(data.labels))
    if start and start["files"] != data.digest:
        refuse("data_dir", config.data_dir, f"holds other images than when {config.out} began")
    torch.set_num_threads(config.threads or 1)
    with ranks.together(config.device):
        return _fit(dataclasses.replace(config, out=ranks.agree(str(config.out))), data, notes + more, start, stop)


def _resumed(config: Config, given: Iterable[str] | None) -> tuple[Config, dict[str, Any] | None]:
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


def _fit(c: Config, data: ImageSet, notes: list[str], start: dict[str, Any] | None, stop: Sized) -> Run:
    data = data.to(torch.device(c.device))
    per_epoch = len(data.images) // c.batch_size
    steps = c.epochs * per_epoch
    net = build(c, data.shape).to(c.device)
    ranks.convert(net)
    how = alternation(c)
    optimizer = SGD(
        net,
        lr=c.lr * c.batch_size / 256,
        momentum=c.momentum,
        wd=c.wd,
        steps=steps,
        warmup=c.warmup_epochs * per_epoch,
        schedule=c.schedule,
        fix_pred_lr=c.fix_pred_lr is not False,
    )
    if start:
        net.load_state_dict(start["net"])
        optimizer.sgd.load_state_dict(start["optimizer"])
    order: dict[str, Any] = {
        "seed": c.seed,
        "batch_size": c.batch_size,
        "symmetry": c.symmetry,
        "dtype": dtype(c),
    }
    trained = alternate(
        ranks.wrap(net),
        optimizer=optimizer,
        batches=batches(data, start=start["step"] if start else 0, stop=steps, **order),
        state=restored(c, start["state"]) if start else None,
        theta={name: x.to(c.device) for name, x in start["theta"].items()} if start else None,
        **how,
    )
    if ":" in (c.eta or ""):
        _try(how["solve"], net, next(batches(data, start=0, stop=1, **order)), c)
    writer, refused = None, ""
    if ranks.rank() == 0:
        try:
            writer = Writer(c, start)
        except ConfigError as error:
            refused = str(error)
    if refused := ranks.agree(refused):  # all processes leave together
        raise ConfigError(refused)
    for note in notes if writer else ():  # once nothing is left to refuse
        print(f"note: {note}", file=sys.stderr)
    try:
        watch = Watch(c, data, net, optimizer, how["solve"], writer, steps, per_epoch, start)
        return _follow(trained, watch, stop)
    except BaseException:
        if writer:
            writer.close()
        raise


def alternation(c: Config) -> dict[str, Any]:
    """What a resolved configuration tells `alternate`: how η is solved, and for which objective."""
    method, k = METHODS[c.mode], int(c.k or 1)
    solve = load_solver(c.eta) if c.eta else method.solve

    def bound(function: Callable, **more: Any) -> partial:
        chosen = {name: getattr(c, name) for name in hyperparameters(function) if name in HYPERPARAMETERS}
        return partial(function, **chosen, **more)

    similarity = {"similarity": objective.SIMILARITIES[c.similarity]} if c.similarity else {}
    return {
        "solve": bound(solve),
        "objective": bound(method.objective, **similarity),
        "k": k,
        "held": method.held or k > 1,
        "stop_grad": c.stop_grad,
    }


def _follow(trained: Iterable[Step], watch: "Watch", stop: Sized) -> Run:
    """Train to the end, or until `stop`, with a progress bar."""
    c = watch.config
    quiet = c.quiet or watch.writer is None
    bar = tqdm(trained, initial=watch.step, total=watch.steps, desc=c.mode, unit="step", mininterval=0.5, disable=quiet)
    for step in bar:
        bar.set_postfix(watch.after(step), refresh=False)
        if not watch.finite:
            break
        if ranks.any_of(bool(stop), watch.step):
            return watch.leave(step)
    bar.close()
    return watch.finish()


def _try(solve: Callable, net: Siamese, batch: Batch, c: Config) -> None:
    """Ask a user's solver for one batch before anything is written. Raises ConfigError with what is wrong."""
    shape = (len(batch.trained), len(batch.ids), c.width)
    try:
        answer = solve({}, Frozen(net.F, hold(net.F, copy=True), batch), batch)
        eta, state = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
    except Exception as error:
        refuse("eta", c.eta, _place(error))
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


def restored(c: Config, state: dict[str, Any]) -> dict[str, Any]:
    """A solver's state from a checkpoint: on the device, but for what lives where `--bank` says."""
    placed = of_solver(load_solver(c.eta) if c.eta else METHODS[c.mode].solve).placed

    def at_home(name: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return banks.placed(x, c.bank or "device", str(c.device)) if name in placed else x.to(c.device)

    return {name: at_home(name, x) for name, x in state.items()}


class Watch:
    """What is read off a run while it trains: lines, snapshots, checkpoints, the summary.

    Measuring leaves no trace in what is trained: passes run on copies of the buffers and draw no random numbers.
    Every process measures (batch statistics are shared), the first one writes.
    """

    def __init__(
        self,
        config: Config,
        data: ImageSet,
        net: Siamese,
        optimizer: SGD,
        solve: Callable,
        writer: Writer | None,
        steps: int,
        per_epoch: int,
        start: dict[str, Any] | None = None,
    ):
        self.config, self.data, self.net, self.optimizer, self.writer = config, data, net, optimizer, writer
        self.steps, self.per_epoch = steps, per_epoch
        self.seen = probe_set(data, config.symmetry, dtype(config))
        due = range(0, steps + 1, per_epoch * int(config.diagnose_every or config.epochs))
        self.calls = schedule(list(due), int(config.k or 1))
        similarity = objective.SIMILARITIES.get(config.similarity or "", METHODS[config.mode].objective)
        cosine = of_objective(similarity).unit
        number, note = _views_of(solve)
        if note and writer:
            print(f"note: {note}", file=sys.stderr)
        self.alternation = Alternation(net, solve, self.seen, len(data.images), cosine=cosine, views=number)
        self.online = self._probe() if config.online_probe else None
        self.em: dict[str, float] = {}  # of the last alternation watched, until a line has it
        self.snapshot_steps = {0, *np.geomspace(1, steps, SNAPSHOTS - 1).round().astype(int).tolist()}
        self.losses: list[Tensor] = []  # of the last epoch, at least those since the last line
        self.local = 0  # how many of them, the latest, are this process's own yet
        self.unlogged = 0
        self.knn: list[float] = []  # at step 0 and at each evaluation
        self.linear: list[float] = []  # the online probe's, at each evaluation
        self.last_line: dict[str, float] = {}
        self.last_em: dict[str, float] = {}  # the last that a line has
        self.finite = True
        self.shown: dict[str, str] = {}
        self.step = 0
        self.began = time.perf_counter()
        if start:
            self.step, self.unlogged, self.knn = start["step"], start["unlogged"], list(start["knn"])
            self.losses = list(start["losses"].to(config.device))
            self.last_line, self.began = start["last_line"], self.began - start["seconds"]
            self.em, self.last_em = dict(start["em"]), dict(start["last_em"])
            self.alternation.kept = {name: x.to(config.device) for name, x in start["alternation"].items()}
            if self.online:
                self.linear = list(start["linear"])
                self.online.load_state_dict(start["online"])
                self.online.sgd.load_state_dict(start["online_sgd"])
        else:
            if writer:
                classes, ids = data.classes, self.seen.ids
                writer.probe(ids, None if classes is None else classes[ids.to(classes.device)], data.digest)
            self._observe({})
            self.first = self._measure(0, evaluate=True)
            self._snapshot(0)
        self.resumed = time.perf_counter()  # training goes on: images/s leaves the measuring out

    def after(self, step: Step) -> dict[str, str]:
        """Look at a `Step` just taken; what the progress bar should show."""
        c, self.step = self.config, step.step + 1
        self.losses.append(step.loss)
        self.local += 1
        self.unlogged += 1
        if self.online:
            self._learn(self.online, step.batch)
        if self.step == 1:
            self._line(self.first, self._loss(1), c.batch_size / (time.perf_counter() - self.resumed))
        ended, last = self.step % self.per_epoch == 0, self.step == self.steps
        evaluate = last or (ended and self.step // self.per_epoch % c.eval_every == 0)
        save = last or (ended and self.step // self.per_epoch % c.save_every == 0)
        self._observe(step.state)
        line = evaluate or self.step % c.log_every == 0 or (ended and bool(self.em))
        if line or save:
            loss = self._loss(self.unlogged)
            self.finite = math.isfinite(loss) and self._weights_finite()
        if self.finite and line:
            images = self.unlogged * c.batch_size
            rate = images / (time.perf_counter() - self.resumed)
            self._line(self._measure(self.step, evaluate), loss, rate)
            self.unlogged = 0
            self.losses = self.losses[-self.per_epoch :]
            self.resumed = time.perf_counter()
        if self.finite and self.step in self.snapshot_steps:
            self._snapshot(self.step)
        if self.finite and save:
            self._save(step)
        return self.shown

    def finish(self) -> Run:
        """Write the summary and the picture."""
        from .plots import trajectory

        c, seconds = self.config, time.perf_counter() - self.began
        evidence = self._evidence()
        summary = {
            "mode": c.mode,
            "dataset": c.dataset,
            "arch": c.arch,
            "seed": c.seed,
            "steps": self.step,
            "epochs": self.step // self.per_epoch,
            "loss": self._loss(self.per_epoch),
            **{m.name: self.last_line[m.name] for m in MEASURED if m.name in self.last_line},
            "between_share": evidence.between_share,
            "prediction_quality": evidence.prediction_quality,
            "knn_acc1": self.knn[-1],
            "knn_acc1_best": max(self.knn[1:], default=self.knn[0]),
            "knn_acc1_init": self.knn[0],
            **({"probe_acc1": self.linear[-1], "probe_acc1_best": max(self.linear)} if self.linear else {}),
            **{name: r for name, r in self.last_em.items() if name in ("r_h", "r_linear")},
            "verdict": verdict(evidence),
            "seconds": seconds,
            "images_per_second": self.step * c.batch_size / seconds,
            "peak_rss_mb": _peak_rss_mb(),
        }
        run = Run(Path(str(c.out)))
        if self.writer:
            trajectory(run).savefig(run.path / PICTURE, dpi=150)
            self.writer.close(summary)  # last: a run with a summary has ended
        ranks.agree("")  # no process leaves before all is written
        return run

    def _observe(self, state: dict[str, Any]) -> None:
        """Watch the alternation that is due, if any."""
        for call in self.calls.get(self.step, ()) if self.finite else ():
            self.em = getattr(self.alternation, call)(state) or self.em

    def _measure(self, step: int, evaluate: bool) -> dict[str, float]:
        z = look(self.net.F, self.seen.views[0])
        line = {
            "step": step,
            "epoch": step / self.per_epoch,
            "lr": self.optimizer.lr_at(max(0, step - 1)),
            **{m.name: m.of(z).item() for m in MEASURED if m.of},
        }
        if evaluate:
            self._evaluate()
            line["knn_acc1"] = self.knn[-1]
            if self.linear:
                line["probe_acc1"] = self.linear[-1]
        return line

    def _line(self, line: dict[str, float], loss: float, rate: float) -> None:
        first: dict[str, float] = {"step": line["step"], "epoch": line["epoch"], "loss": loss}
        line = first | line | self.em
        self.last_em, self.em = self.em or self.last_em, {}
        line |= {"seconds": time.perf_counter() - self.began, "images_per_second": rate}
        self.last_line = line
        last = line | {"knn_acc1": self.knn[-1]}
        self.shown = {m.short: m.written(last[m.name]) for m in training_order(shown_in("bar"))}
        self.shown["img/s"] = f"{rate:,.0f}"
        if self.writer:
            self.writer.line(line)

    def _loss(self, last: int) -> float:
        """Mean over the last steps and over all processes."""
        if self.local:
            own = torch.stack(self.losses[-self.local :])
            self.losses[-self.local :] = list(ranks.mean(own))
            self.local = 0
        return torch.stack(self.losses[-last:]).mean().item()

    def _weights_finite(self) -> bool:
        """The loss is of the weights before the step: the step itself may have ruined them."""
        return bool(torch.stack([x.isfinite().all() for x in self.net.state_dict().values()]).all())

    def _evaluate(self) -> None:
        """Accuracies on test images as they are: the kNN monitor's against train, and the online probe's."""
        features, queries = self._features(self.data.labelled), self._features(self.data.test_images)
        predicted = probes.knn_predict(
            features,
            self.data.labels,
            queries,
            k=self.config.knn_k,
            t=self.config.knn_t,
            num_classes=self.data.num_classes,
        )
        self.knn.append((predicted == self.data.test_labels).double().mean().item())
        if self.online and self.step:
            self.linear.append((self.online(queries).argmax(1) == self.data.test_labels).double().mean().item())

    def _features(self, images) -> Tensor:
        parts = (self.data.normalise(images[ids]) for ids in torch.arange(len(images)).split(PART))
        return torch.cat([self._backbone(x.to(dtype(self.config))) for x in parts])

    @torch.no_grad()
    def _backbone(self, x: Tensor) -> Tensor:
        """Features [B, f] in eval mode."""
        self.net.eval()
        features = self.net.F.backbone(x)
        self.net.train()
        return features

    def _probe(self) -> probes.OnlineProbe:
        c, width = self.config, self._backbone(self.seen.views[0, :1]).shape[1]
        probe = probes.OnlineProbe(width, self.data.num_classes, lr=PROBE_LR * c.batch_size / 256)
        return probe.to(c.device, dtype(c))

    def _learn(self, online: probes.OnlineProbe, batch: Batch) -> None:
        """The online probe's step, on the first view of the whole batch, of all processes."""
        assert self.data.classes is not None
        online.learn(batch.gather(self._backbone(batch.views[0])), self.data.classes[batch.gather(batch.ids)])

    def _snapshot(self, step: int) -> None:
        z = look(self.net.F, self.seen.views[0])
        weights = sketch(self.net.F.parameters()) if self.writer else z
        if self.writer and z.isfinite().all() and weights.isfinite().all():  # else the run is about to end
            self.writer.snapshot(step, z, weights)

    def leave(self, step: Step) -> Run:
        """Save, unless there is nothing good to save, and stop before the end."""
        if math.isfinite(self._loss(1)) and self._weights_finite():
            self._save(step)
        if self.writer:
            self.writer.close()
        ranks.agree("")
        return Run(Path(str(self.config.out)))

    def _save(self, step: Step) -> None:
        """All that is needed to go on with the same bits."""
        if self.writer:
            self.writer.checkpoint(
                {
                    "step": self.step,
                    "losses": torch.stack(self.losses),
                    "unlogged": self.unlogged,
                    "knn": self.knn,
                    "linear": self.linear,
                    "online": self.online.state_dict() if self.online else {},
                    "online_sgd": self.online.sgd.state_dict() if self.online else {},
                    "last_line": self.last_line,
                    "last_em": self.last_em,
                    "em": self.em,
                    "alternation": self.alternation.kept,
                    "seconds": time.perf_counter() - self.began,
                    "net": self.net.state_dict(),
                    "optimizer": self.optimizer.sgd.state_dict(),
                    "state": step.state,
                    "theta": step.theta,
                    "config": self.config.to_dict(),
                    "shape": self.data.shape,
                    "files": self.data.digest,
                }
            )

    def _evidence(self) -> Evidence:
        z, p = look(self.net, self.seen.views, (0, 1))
        if not z.isfinite().all():
            return Evidence(math.nan, math.nan, math.nan, math.nan, self.config.width, finite=False)
        return Evidence(
            z_std_ratio=collapse.z_std_ratio(z[0]).item(),
            participation_ratio=collapse.participation_ratio(z[0]).item(),
            between_share=collapse.between_share(z).item(),
            prediction_quality=prediction_quality(p, z[:2]).item(),
            dim=self.config.width,
            finite=self.finite,
        )


def _views_of(solve: Callable) -> tuple[float, str]:
    """The solver's effective number of views, see `em.response`; NaN where it cannot be measured, and then why."""
    if not of_solver(solve).measurable:
        return math.nan, ""
    try:
        return response(solve, steps_per_epoch=2, epochs=200).views, ""
    except Exception as error:  # a user's solver may need real images, or be wrong
        reason = f"the solver fails on vectors in place of images ({_place(error)})"
        return math.nan, f"{reason}; eta_gap_lag and eta_gap_sampling are left out; @solver(measurable=False) says so"


def _place(error: Exception) -> str:
    """What a user's code raised, and where."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(line.filename).name}:{line.lineno}: {error}"


def _peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
