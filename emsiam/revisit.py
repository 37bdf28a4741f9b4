"""What can a run's last checkpoint still tell? Where other methods would go from there, and what its η is made of."""

import dataclasses
import math
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .alternate import Frozen, alternate, hold
from .build import Parts, assemble, dtype, loop_options, objective_of, solver_of
from .checkpoint import Checkpoint, load_checkpoint
from .config import Config
from .config.resolution import load_images
from .data.batches import Batch, batches, views_of
from .data.images import ImageSet
from .data.probe_set import probe_set
from .diagnostics import em
from .errors import ConfigError
from .networks import Siamese
from .optim import SGD
from .runs.run import Run, check_code
from .streams import ETA, IDS, VIEWS, generator
from .training.observe import cut, eta_gap, passes
from .traits import of_solver

FILL = 10  # epochs that fill a solver's memory where a checkpoint has none


def _opened(run: Run, code: Collection[str]) -> tuple[Checkpoint, Parts]:
    """The last checkpoint, and the parts of the run as it left them. Raises ConfigError where one is not to be had."""
    c, saved = run.config, load_checkpoint(run.path)
    if not torch.cuda.is_available():
        c = dataclasses.replace(c, device="cpu")
    check_code(run.path, c.eta, code)
    if saved is None:
        raise ConfigError(f"{run.path}: has no checkpoint yet")
    _, data, _ = load_images(c)
    if data.digest != saved.files:
        raise ConfigError(f"{run.path}: {c.data_dir} holds other images than when the run began")
    return saved, assemble(c, data, saved)


def update(run: Run, method: Config | None = None, *, steps: int = 1, code: Collection[str] = ()) -> Tensor:
    """θ′ − θ [p]: where a method takes the parameters of F from a run's last checkpoint, in `steps` SGD steps.

    method: a resolved configuration, as `Run.config`, by default the run's own. How it solves η and forms the loss is
    used, on the run's images and draws, at the run's base lr, without momentum and weight decay, so the direction is
    the objective's own; `diagnostics.trajectory.angle` compares two. A memory of η is the run's where the solver is its
    own, else it is filled under θ for FILL epochs. Without h in `method` the run's h is left out.
    Options of data, network, precision and schedule in `method` play no part; k counts from the run's first step, so an
    alternation may begin within the `steps`.
    code: solvers FILE.py:FUNCTION that may be run, where run or method name them.
    Raises ConfigError where the method needs an h that the run does not have, where `method` is not resolved, and
    without a checkpoint; ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps; allowed is 1 or more")
    saved, parts = _opened(run, code)
    c, data, net = parts.config, parts.images, parts.network
    method = method or c
    check_code(run.path, method.eta, code)
    if method.predictor is None:
        raise ConfigError("the method's configuration is not resolved; a run's is")
    if method.predictor == "none":
        net.h = nn.Identity()
    elif c.predictor == "none":
        raise ConfigError(f"{run.path}: has no predictor, and {method.mode} --predictor {method.predictor} needs one")
    solve, start = solver_of(method), saved.step
    order: dict[str, Any] = {"seed": c.seed, "batch_size": c.batch_size, "symmetry": method.symmetry, "dtype": dtype(c)}
    order["total"] = c.epochs * (len(data.images) // c.batch_size)
    order["labels"] = data.classes if of_solver(solve).needs_labels else None
    of_run = parts.solver
    if (solve.func, solve.keywords) == (of_run.func, of_run.keywords) and method.symmetry == c.symmetry:
        state = parts.state
    else:
        state = {}
        F_t = partial(Frozen, net.F, hold(net.F, copy=True), predictor=net.h, theta_h=hold(net.h, copy=True))
        until = start + FILL * (len(data.images) // c.batch_size)
        for batch in batches(data, start=start, stop=until, **order):
            batch = batch._replace(later=None)  # no backward pass follows: rows are stored at once
            _, state = solve(state, F_t(batch=batch), batch)
            if not state:
                break
    optimizer = SGD(net, lr=c.lr * c.batch_size / 256, momentum=0, wd=0, steps=0, schedule="constant")
    before = _theta(net)
    stream = batches(data, start=start, stop=start + steps, **order)
    for _ in alternate(net, solve, objective_of(method), optimizer, stream, state=state, **loop_options(method)):
        pass
    return _theta(net) - before


def _theta(net: Siamese) -> Tensor:
    return torch.cat([w.detach().flatten() for w in net.F.parameters()])


def gap(run: Run, code: Collection[str] = ()) -> em.Gap:
    """The η gap of a run's last checkpoint on the probe set, split exactly, see `em.eta_gap`.

    What a memory of η was made of follows from (seed, step): the views of the probe's images are made again and handed
    to the solver under today's θ, from the first step on. Batch statistics are those of the probe set; that they were
    another batch's at the time counts as lag. Cost: a pass of the probe set for each epoch and view.
    code: see `update`. Raises ConfigError without a checkpoint.
    """
    saved, parts = _opened(run, code)
    c, data, net, solve = parts.config, parts.images, parts.network, parts.solver
    labels = of_solver(solve).needs_labels
    probe = probe_set(data, c.symmetry, dtype(c), labels=labels)
    today = passes(net)
    state = cut(solve, parts.state or {}, probe.ids, len(data.images))
    again: dict[str, Tensor] = {}
    for batch in visits(data, probe.ids, c, saved.step, labels=labels) if state else ():
        _, again = solve(again, today, batch)
    looked_at = probe.batch._replace(step=saved.step, total=parts.steps)
    # θᵗ of the alternation, where it is held
    then = Frozen(net.F, parts.theta, looked_at, None, net.h, parts.theta_h or {}) if parts.theta else today
    eta, replayed = (solve(s, F_t, looked_at)[0] for s, F_t in ((state, then), (again, today)))
    return eta_gap(net, probe, eta, replayed, today(probe.views[len(probe.batch.views) :]))


def visits(data: ImageSet, ids: Tensor, c: Config, steps: int, *, labels: bool = False) -> Iterator[Batch]:
    """What a run showed of images `ids` [P] until `steps` steps were taken, again: a batch an epoch, ids 0 … P − 1.

    Images that an epoch did not show, or not yet, are left out of its batch. labels: whether batches have them.
    """
    classes = data.classes if labels else None
    per_epoch = len(data.images) // c.batch_size
    for epoch in range(math.ceil(steps / per_epoch)):
        order = torch.randperm(len(data.images), generator=generator(c.seed, IDS, epoch))
        steps_here = range(epoch * per_epoch, min(steps, (epoch + 1) * per_epoch))
        drawn = []
        for step, batch in zip(steps_here, order.split(c.batch_size), strict=False):
            at, place = (batch[:, None] == ids.cpu()).nonzero().T
            if len(at):
                drawn.append((step, batch, at, place))
        if not drawn:
            continue
        rngs = {stream: [generator(c.seed, stream, step) for step, *_ in drawn] for stream in (VIEWS, ETA)}

        def views(stream: int, n: int, drawn: list = drawn, rngs: dict[int, list[Generator]] = rngs) -> Tensor:
            parts = zip(drawn, rngs[stream], strict=True)
            return torch.cat([_again(data, batch, at, n, rng, dtype(c)) for (_, batch, at, _), rng in parts], 1)

        x = views(VIEWS, views_of(c.symmetry))
        places = torch.cat([place for *_, place in drawn]).to(x.device)
        yield Batch.of(
            steps_here[-1],
            places,
            x,
            c.symmetry,
            draw=partial(views, ETA),
            num_images=len(ids),
            total=c.epochs * per_epoch,
            every=partial(data.every, ids[places.cpu()], dtype(c)),
            labels=classes[ids[places.cpu()].to(classes.device)] if classes is not None else None,
        )


def _again(data: ImageSet, batch: Tensor, at: Tensor, n: int, rng: Generator, precision: torch.dtype) -> Tensor:
    """n views [n, A, C, H, W] of the images at some places [A] of a batch, as drawn for all of it."""
    draw = data.sample(batch, n, rng).map(lambda field: field.unflatten(0, (n, len(batch)))[:, at].flatten(0, 1))
    return data.ask(batch[at], draw, n, precision)()
