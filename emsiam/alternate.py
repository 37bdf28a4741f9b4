"""How are θ and η found together? min over θ, η of L(θ, η) by alternation: the loop, whole.

k = 1 with the other view as η is SimSiam; any k goes with any solver of `emsiam.eta`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .data.batches import Batch
from .errors import ConfigError
from .networks import wide
from .optim import SGD
from .ranks import unwrap
from .traits import name_of, of_solver


class Step(NamedTuple):
    """What is known after a step, until the next. With the network and the optimiser, all that is needed to go on."""

    step: int  # counted from 0
    loss: Tensor  # scalar, on the device, this process's share of the batch
    state: dict[str, Tensor]  # of the solver
    theta: dict[str, Tensor]  # the copy of θᵗ where it is held, see `hold`
    batch: Batch  # what it was taken on
    theta_h: dict[str, Tensor]  # the copy of h beside it, where the solver asks for h


def alternate(
    net: nn.Module,
    solve: Callable,
    objective: Callable[..., Tensor],
    optimizer: SGD,
    batches: Iterable[Batch],
    *,
    k: int = 1,
    held: bool = True,
    stop_grad: bool = True,
    state: dict[str, Tensor] | None = None,
    theta: dict[str, Tensor] | None = None,
    theta_h: dict[str, Tensor] | None = None,
) -> Iterator[Step]:
    """Alternate between (8) and k steps of (7), a `Step` at a time.

    objective: (p, η, batch, state) -> a scalar, see `emsiam.objective`.
    held: η is computed by a frozen copy of θᵗ; False, for k = 1, reuses the representations of the θ-step,
    which are the same numbers without another forward pass, and is what stop_grad=False (no stop-gradient) needs.
    state, theta, theta_h: those of an earlier `Step`, to go on from it.
    Raises ConfigError where η is not of the shape of p.
    """
    state, theta_h = state or {}, theta_h or {}
    F, h = unwrap(net).F, unwrap(net).h if of_solver(solve).needs_h else None
    of_F = members(None if of_solver(solve).only_others and not held else F)
    of_h = members(h)
    for batch in batches:  # (6): one sub-problem, then the other
        if not theta or batch.step % k == 0:
            theta, theta_h = held_members(of_F, copy=held), held_members(of_h, copy=held)  # θᵗ: a new alternation
        z, p = net(batch.views, batch.trained)
        known = None if held else (z.detach() if stop_grad else z)
        with named(solve, batch.step):
            eta, state = solve(state, Frozen(F, theta, batch, known, h, theta_h), batch)  # (8)
        check_shape(solve, eta, p, batch.step)
        loss = objective(p, eta, batch, state)
        optimizer.step(loss, batch.step)  # (7): η is a constant here, hence the stop-gradient
        for finish in batch.later or ():  # rows that were on their way to a bank meanwhile
            finish()
        yield Step(batch.step, loss.detach(), state, theta if held else {}, batch, theta_h if held else {})


@contextmanager
def named(solve: Callable, step: int) -> Iterator[None]:
    """What goes wrong inside says in which solver and at which step."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the solver {name_of(solve)}, step {step}")
        raise


def check_shape(solve: Callable, eta: Tensor, p: Tensor, step: int) -> None:
    """Raises ConfigError where a target is not of the shape of its prediction: it would broadcast, silently."""
    if eta.shape != p.shape:
        shapes = f"{list(eta.shape)}; allowed is [S, B, d] = {list(p.shape)}"
        raise ConfigError(f"η of {name_of(solve)} at step {step} has the shape {shapes}")


def hold(F: nn.Module, *, copy: bool) -> dict[str, Tensor]:
    """θᵗ: parameters, and buffers of its own, so that no pass under θᵗ moves the network's BN statistics."""
    return held_members(members(F), copy=copy)


class Members(NamedTuple):
    """The tensors of a module by name, found once: walking through its layers takes longer than a copy."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]


def members(F: nn.Module | None) -> Members:
    """None has none."""
    return Members(dict(F.named_parameters()), dict(F.named_buffers())) if F else Members({}, {})


def held_members(of_F: Members, *, copy: bool) -> dict[str, Tensor]:
    """`hold`, of a module whose members are known."""
    theta = {name: p.detach() for name, p in of_F.parameters.items()}
    own = theta | of_F.buffers if copy else of_F.buffers
    copies = {name: torch.empty_like(x) for name, x in own.items()}
    for dtype in {x.dtype for x in own.values()}:  # a launch each; of mixed types CUDA would take one for each tensor
        names = [name for name, x in own.items() if x.dtype == dtype]
        torch._foreach_copy_([copies[name] for name in names], [own[name] for name in names])
    return theta | copies


@dataclass(frozen=True)
class Frozen:
    """F_θᵗ: views [n, B, C, H, W] -> z [n, B, d], in train mode, one pass per view; a gradient passes in `known` alone.

    known: z of batch.views where the θ-step has them already, [V, B, d].
    predictor, theta_h: h and its weights under θᵗ, for a solver that asks for it.
    """

    F: nn.Module
    held: dict[str, Tensor]  # `theta`; empty where `only_others` says that it is not asked for
    batch: Batch | None = None
    known: Tensor | None = None
    predictor: nn.Module | None = None
    theta_h: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, views: Tensor) -> Tensor:
        if self.known is not None and self.batch is not None and views is self.batch.others:
            return torch.stack([self.known[partner] for partner in self.batch.partners])
        return self.under(self.theta, views)

    @property
    def theta(self) -> dict[str, Tensor]:
        """Parameters and buffers under θᵗ by name, not to be changed.

        Raises TypeError for a solver that has said `only_others`, where the θ-step's representations are all there is.
        """
        if not self.held:
            raise TypeError("a solver that asks for more than F_t(batch.others) does not say only_others=True")
        return self.held

    def under(self, weights: dict[str, Tensor], views: Tensor) -> Tensor:
        """A pass under other weights; their buffers move."""
        with torch.no_grad():
            return torch.stack([functional_call(self.F, weights, (x,)) for x in views])

    def h(self, z: Tensor) -> Tensor:
        """h under θᵗ: z [n, B, d] -> p [n, B, d], in train mode, without gradient, one pass per view.

        Raises TypeError for a solver that has not said that it asks for h.
        """
        if self.predictor is None:
            raise TypeError("a solver that asks for h says so: @solver(needs_h=True)")
        with torch.no_grad(), torch.autocast(z.device.type, torch.bfloat16, enabled=getattr(self.F, "autocast", False)):
            return torch.stack([wide(functional_call(self.predictor, self.theta_h, (x,))) for x in z])

    @property
    def parameters(self) -> list[str]:
        """The names of what SGD moves."""
        return [name for name, _ in self.F.named_parameters()]
