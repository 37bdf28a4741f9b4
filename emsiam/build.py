"""How does a configuration become parts? Images, network, solver, objective, optimiser, batches: all of a training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import networks, objective, processor, ranks
from .alternate import Step, alternate
from .checkpoint import Checkpoint
from .config import HYPERPARAMETERS, Config
from .config.resolution import load_images, resolve
from .config.solvers import load_solver, with_arguments
from .data.batches import Batch, batches
from .data.images import ImageSet
from .data.views import count, endless
from .errors import refuse
from .eta import bank as banks
from .methods import METHODS
from .optim import SGD
from .streams import BACKBONE, PREDICTOR, PROJECTOR, generator
from .traits import hyperparameters, name_of, of_solver, value


@dataclass(frozen=True)
class Parts:
    """What a training is made of. `alternation` walks it, once: the batches are used up and the network is trained."""

    config: Config  # resolved
    images: ImageSet
    network: networks.Siamese
    solver: partial  # (state, F_t, batch) -> η, state; its hyper-parameters are bound
    objective: partial  # (p, η, batch, state) -> a scalar; likewise
    optimizer: SGD
    batches: Iterator[Batch]
    state: dict[str, Any] | None = None  # of the solver, and θᵗ where it is held: to go on from a checkpoint
    theta: dict[str, Tensor] | None = None
    theta_h: dict[str, Tensor] | None = None  # h beside it
    notes: list[str] = field(default_factory=list)  # what of the configuration is not used
    begun: list[bool] = field(default_factory=list)  # not empty once `alternation` has been asked for

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images.images) // self.config.batch_size

    @property
    def steps(self) -> int:
        """The number of steps of the whole training."""
        return self.config.epochs * self.steps_per_epoch

    def alternation(self) -> Iterator[Step]:
        """The training, a `Step` at a time, see `emsiam.alternate.alternate`. Raises RuntimeError for a second time."""
        if self.begun:
            raise RuntimeError("these parts are trained, or being trained; prepare others")
        self.begun.append(True)
        return alternate(
            ranks.wrap(self.network),
            self.solver,
            self.objective,
            self.optimizer,
            self.batches,
            state=self.state,
            theta=self.theta,
            theta_h=self.theta_h,
            **loop_options(self.config),
        )


def prepare(config: Config, solver: Callable | None = None, *, images: Any = None, labels: Any = None) -> Parts:
    """The parts of a run, without a directory: the loop is yours.

        parts = emsiam.prepare(emsiam.Config(mode="ema_eta", m=0.95))
        for step in parts.alternation():
            ...

    solver: in place of the configuration's, see `emsiam.eta`; its keyword-only parameters that are named like an option
    are set by it. images, labels: in place of a named data set, see `data.given`. CPU threads are set as by
    `emsiam.fit`, of which the losses are the same bits. One process, or several that have met: inside `ranks.together`.
    Raises ConfigError for options that do not go together, or that only a run in a directory has, and where torchrun
    has started several processes that have not met.
    """
    ranks.check_met("emsiam.prepare")
    if solver is not None and config.eta is not None:
        refuse("eta", config.eta, "a solver is given, which would take its place")
    for name in ("resume", "overwrite"):
        if getattr(config, name):
            refuse(name, True, "parts have no directory; emsiam.fit has")
    config, data, notes = load_images(with_arguments(config, solver), images, labels)
    config, more = resolve(config, len(data.images), data.shape, len(data.labels), solver=solver)
    processor.for_training(config.threads, config.deterministic)
    return assemble(config, data, solver=solver, notes=notes + more)


def assemble(
    c: Config,
    data: ImageSet,
    start: Checkpoint | None = None,
    *,
    solver: Callable | None = None,
    notes: list[str] | None = None,
) -> Parts:
    """The parts of a resolved configuration. start: a checkpoint to go on from. Raises ConfigError."""
    data = data.to(torch.device(c.device))
    net = network(c, data.shape).to(c.device)
    kept = check_solver(solver_of(c, solver), c, data, net)
    ranks.convert(net)
    per_epoch = len(data.images) // c.batch_size
    optimizer = SGD(
        net,
        lr=c.lr * c.batch_size / 256,
        momentum=c.momentum,
        wd=c.wd,
        steps=c.epochs * per_epoch,
        warmup=c.warmup_epochs * per_epoch,
        schedule=c.schedule,
        fix_pred_lr=c.fix_pred_lr is not False,
    )
    if start:
        start.fill(net, c.out)
        optimizer.sgd.load_state_dict(start.optimizer)
    return Parts(
        c,
        data,
        net,
        solver_of(c, solver),
        objective_of(c),
        optimizer,
        stream(c, data, start=start.step if start else 0, solver=solver),
        state=restored(c, start.state, solver) if start else None,
        theta={name: x.to(c.device) for name, x in start.theta.items()} if start else None,
        theta_h={name: x.to(c.device) for name, x in start.theta_h.items()} if start else None,
        notes=[*(notes or []), *kept],
    )


def stream(
    c: Config, data: ImageSet, *, start: int = 0, stop: int | None = None, solver: Callable | None = None
) -> Iterator[Batch]:
    """The batches `start` to `stop` − 1 of a resolved configuration, to its end where that is not said.

    solver: in place of the configuration's.
    """
    total = c.epochs * (len(data.images) // c.batch_size)
    return batches(
        data,
        seed=c.seed,
        batch_size=c.batch_size,
        start=start,
        stop=total if stop is None else stop,
        symmetry=c.symmetry,
        dtype=dtype(c),
        total=total,
        labels=data.classes if of_solver(solver_of(c, solver)).needs_labels else None,
    )


def solver_of(c: Config, function: Callable | None = None) -> partial:
    """How a resolved configuration solves for η; function: the function to take in its solver's place."""
    return _bound(c, function or (load_solver(c.eta) if c.eta else METHODS[c.mode].solve), **(c.eta_args or {}))


def check_solver(solve: partial, c: Config, data: ImageSet, net: networks.Siamese) -> list[str]:
    """Notes on what a solver keeps, where that has a limit.

    Raises ConfigError where it asks for what images or T do not have, or keeps more than it may.
    """
    traits, name = of_solver(solve), name_of(solve)
    if traits.needs_labels and data.classes is None:
        refuse("eta", name, f"needs labels, and the images of --dataset {c.dataset} have none")
    if traits.needs_all_of_T and (ranges := endless(data.recipe, data.shape[0])):
        refuse("eta", name, f"needs all of T, which has infinitely many draws here; --augment {ranges} makes it finite")
    if traits.at_most == math.inf:
        return []
    size = value(traits.memory, sizes(solve, c, data, net))
    if size > traits.at_most:
        refuse("eta", name, f"keeps {size / 2**30:.1f} GiB; allowed is {traits.at_most / 2**30:g}")
    return [f"--eta {name} keeps {size / 2**20:,.0f} MiB, in memory and in checkpoints"]


def sizes(solve: partial, c: Config, data: ImageSet, net: networks.Siamese) -> dict[str, Any]:
    """The numbers that expressions of a solver's traits speak of: `traits.SIZES`, and its hyper-parameters."""
    return {
        "N": len(data.images),
        "B": c.batch_size,
        "d": c.width,
        "pixels": math.prod(data.shape),
        "P": sum(x.numel() for x in net.F.parameters()),
        "T": math.inf if endless(data.recipe, data.shape[0]) else count(data.recipe, data.shape[0]),
        "epoch": len(data.images) // c.batch_size,
        **hyperparameters(solve.func),
        **solve.keywords,
    }


def objective_of(c: Config) -> partial:
    """What θ minimises."""
    similarity = {"similarity": objective.SIMILARITIES[c.similarity]} if c.similarity else {}
    return _bound(c, METHODS[c.mode].objective, **similarity)


def _bound(c: Config, function: Callable, **more: Any) -> partial:
    """A function with the hyper-parameters that the configuration has for it."""
    chosen = {name: getattr(c, name) for name in hyperparameters(function) if name in HYPERPARAMETERS}
    return partial(function, **chosen, **more)


def loop_options(c: Config) -> dict[str, Any]:
    """k, and what goes with it, as `alternate` takes them."""
    k = int(c.k or 1)
    return {"k": k, "held": METHODS[c.mode].held or k > 1, "stop_grad": c.stop_grad}


def restored(c: Config, state: dict[str, Any], function: Callable | None = None) -> dict[str, Any]:
    """A solver's state from a checkpoint: on the device, but for what lives where `--bank` says. See `solver_of`."""
    traits = of_solver(solver_of(c, function))
    spread = traits.per_image or () if traits.spread else ()

    def at_home(name: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        x = banks.own_part(x, ranks.world_size()) if name in spread else x
        return banks.placed(x, c.bank or "device", str(c.device)) if name in traits.placed else x.to(c.device)

    return {name: at_home(name, x) for name, x in state.items()}


def network(c: Config, shape: tuple[int, int, int]) -> networks.Siamese:
    """The network of a resolved configuration, initialised from its seed, on the CPU. Raises ConfigError.

    Backbone, projector and predictor draw from streams of their own, so runs that differ in one part share the others.
    """
    try:
        with networks.initialised(generator(c.seed, BACKBONE)):
            backbone, features = networks.build_backbone(c.arch, c.stem, shape)
    except ValueError as error:
        refuse("arch", c.arch, str(error))
    try:
        return _with_heads(c, backbone, features)
    except (RuntimeError, MemoryError) as error:  # PyTorch's allocator raises the former
        refuse("dim", c.dim, f"the heads do not fit into memory ({str(error).splitlines()[0][:80]})")


def _with_heads(c: Config, backbone: networks.Backbone, features: int) -> networks.Siamese:
    with networks.initialised(generator(c.seed, PROJECTOR)):
        projector = networks.build_projector(
            features,
            hidden_dim=c.hidden_dim or 1,
            dim=c.dim,
            layers=c.proj_layers,
            bn=c.bn or "default",
            output_affine=c.output_affine is not False,
        )
        prototypes = networks.Prototypes(c.dim, c.prototypes) if c.prototypes else None
    with networks.initialised(generator(c.seed, PREDICTOR)):
        predictor = networks.build_predictor(
            c.predictor or "none", dim=c.dim, pred_dim=c.pred_dim or 1, bn=c.bn or "default"
        )
    net = networks.Siamese(backbone, projector, predictor, c.precision == "bf16", prototypes)
    return net.to(dtype(c)).to(memory_format=torch.channels_last)


def dtype(c: Config) -> torch.dtype:
    """The precision of weights and images; bf16 is used inside autocast only."""
    return torch.float64 if c.precision == "fp64" else torch.float32
