"""What does one alternation do? Watched on the probe set, from the η before it to the θ after it.

Looking leaves no trace in what is trained: passes run on copies of the buffers, the solver on its state for the probe's
images alone, random numbers are the probe's own. `NUMBERS` says what comes out.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import ranks
from ..alternate import Frozen, hold
from ..data.probe_set import PROBE_VIEWS, ProbeSet
from ..diagnostics import em
from ..eta import bank as banks
from ..networks import Siamese
from ..objective import unit
from ..traits import of_solver

DIRECTIONS = 512  # where d is larger the shares of directions are left out: their cost grows as d³


NUMBERS = {
    "em_before": "L(θᵗ, ηᵗ⁻¹) = E‖F − η‖² on the views that a batch would train",
    "em_solved": "L(θᵗ, ηᵗ): η solved",
    "em_stepped": "L(θᵗ⁺¹, ηᵗ): θ moved, k steps",
    "em_before_held": "the same three on views that η was not solved from",
    "em_solved_held": "",
    "em_stepped_held": "",
    "em_h_before": "the same three of E‖h∘F − η‖², where there is h",
    "em_h_solved": "",
    "em_h_stepped": "",
    "eta_gap": "E‖η − E_T F‖² / tr Σ_w at the end of the alternation, of z as it is",
    "eta_gap_lag": "of it, that θ has moved on since",
    "eta_gap_sampling": "of it, that views are few",
    "eta_gap_bn": "E‖E_T F (running BN statistics) − E_T F (batch statistics)‖² / tr Σ_w",
    "r_h": "R of c·h(z) as E_T[z′ | z], where there is h",
    "r_linear": "R of the ridge-optimal linear map",
    "r_scalar": "R of c·z",
    "r_permuted": "R of c·h(z) of another image",
    "trace_between": "tr Σ_b",
    "trace_within": "tr Σ_w",
    "share_max": "largest generalised eigenvalue of (Σ_b, Σ_b + Σ_w)",
    "share_median": "and their median",
    "force_between": "change of tr Σ_b by the alternation's k steps",
    "force_within": "change of tr Σ_w",
    "force_share_max": "change of the largest generalised eigenvalue",
    "force_share_median": "and of their median",
}


def look(module: nn.Module, *inputs: Any) -> Any:
    """A pass in train mode that leaves no trace."""
    with torch.no_grad():
        return functional_call(module, hold(module, copy=False), inputs)


def look_together(module: nn.Module, views: Tensor, *more: Any) -> Any:
    """`look` by all processes that train, each at its share of the images where these divide evenly.

    views: [..., P, C, H, W]. Returns what one process would see, [..., P, d], up to rounding, for BN is synchronised.
    """
    if ranks.world_size() == 1 or views.shape[-4] % ranks.world_size():
        return look(module, views, *more)
    seen = look(module, ranks.shard(views, -4), *more)
    whole = [ranks.gather(x.movedim(-2, 0)).movedim(0, -2) for x in (seen if isinstance(seen, tuple) else (seen,))]
    return tuple(whole) if isinstance(seen, tuple) else whole[0]


def cut(solve: Callable, state: dict[str, Any], ids: Tensor, num_images: int) -> dict[str, Any]:
    """A copy of a solver's state; of tensors with a row for each image it has the rows of `ids` only."""
    traits = of_solver(solve)
    named, processes = traits.per_image, ranks.world_size() if traits.spread else 1

    def per_image(name: str, x: Tensor) -> bool:
        return name in named if named is not None else x.ndim > 0 and len(x) == num_images and "." not in name

    def part(name: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return banks.of_ids(x, ids, processes) if per_image(name, x) else x.clone()

    return {name: part(name, x) for name, x in state.items()}


def passes(net: Siamese) -> Frozen:
    """F_t of a solver under the weights of now: views [n, B, C, H, W] to z [n, B, d]."""
    return Frozen(net.F, hold(net.F, copy=False), predictor=net.h, theta_h=hold(net.h, copy=False))


def eta_gap(net: Siamese, probe_set: ProbeSet, eta: Tensor, same_views: Tensor, fresh: Tensor) -> em.Gap:
    """The gap of the first trained view's η, as F and the solver give them: an average is formed of z, not of ẑ.

    eta, same_views: [S, P, d], see `em.eta_gap`; fresh: z of the probe's views that η was not solved from.
    """
    net.eval()
    with torch.no_grad():
        z_eval = torch.stack([net.F(x) for x in probe_set.views[len(probe_set.batch.views) :]])
    net.train()
    return em.eta_gap(eta[0], fresh, same_views[0], z_eval)


class AlternationWatch:
    """Watches one: `begin` before the alternation that precedes it, `middle` as it starts, `end` as it ends.

    kept: tensors between them, which a checkpoint holds.
    """

    def __init__(
        self,
        net: Siamese,
        solve: Callable,
        probe_set: ProbeSet,
        num_images: int,
        *,
        cosine: bool,
        views: float,
        total: int = 0,
    ):
        """views: the solver's effective number of views, see `em.response`. cosine: look at unit vectors. total: steps
        of the whole training, where the solver follows a schedule.
        """
        self.net, self.probe_set, self.cosine, self.views = net, probe_set, cosine, views
        self.solve, self.num_images, self.total = solve, num_images, total
        self.kept: dict[str, Tensor] = {}

    def _passes(self) -> tuple[Tensor, Tensor]:
        return look_together(self.net, self.probe_set.views, tuple(range(PROBE_VIEWS)))

    def target(self, state: dict[str, Any], step: int = 0) -> Tensor:
        """η [S, P, d] of the probe set under the weights of now, after so many steps."""
        state = cut(self.solve, state, self.probe_set.ids, self.num_images)
        batch = self.probe_set.batch._replace(step=step, total=self.total)
        return self.solve(state, passes(self.net), batch)[0]

    def begin(self, state: dict[str, Any], step: int = 0) -> None:
        """Keep ηᵗ⁻¹."""
        self.kept = {"eta_before": self.target(state, step)}

    def middle(self, state: dict[str, Any], step: int = 0) -> None:
        """Keep ηᵗ, and z and p under θᵗ."""
        z, p = self._passes()
        self.kept |= {"eta": self.target(state, step), "z": z, "p": p}

    def end(self, state: dict[str, Any], step: int = 0) -> dict[str, float]:
        """NUMBERS, but those of h where there is none; nothing where a representation is not finite."""
        given = [self.kept[name] for name in ("eta_before", "eta", "z", "p")]
        self.kept = {}
        given += self._passes()
        if not all(x.isfinite().all() for x in given):
            return {}
        batch, (_, eta_as_it_is, _, _, z_as_it_is, _) = self.probe_set.batch, given
        before, eta, z, p, z_next, p_next = (unit(x) if self.cosine else x for x in given)
        used, held = list(batch.trained), [len(batch.views) + i for i in range(len(batch.trained))]
        numbers = _named("em", em.half_steps(z[used], z_next[used], before, eta))
        numbers |= _named("em", em.half_steps(z[held], z_next[held], before, eta), "_held")
        if not isinstance(self.net.h, nn.Identity):
            numbers |= _named("em_h", em.half_steps(p[used], p_next[used], before, eta))
            if z.shape[1] >= em.FOLDS:
                r = em.predictor_as_expectation(z_next[:2], p_next[:2], z_next[2:])
                numbers |= {f"r_{name}": getattr(r, name) for name in ("h", "linear", "scalar", "permuted")}

        again = eta_as_it_is if state else self.target(state, step)
        gap = eta_gap(self.net, self.probe_set, eta_as_it_is, again, z_as_it_is[len(batch.views) :])
        sampling = 1 / self.views if state else gap.sampling
        numbers |= {"eta_gap": gap.total, "eta_gap_bn": gap.bn}
        if math.isfinite(sampling):
            numbers |= {"eta_gap_lag": gap.total - sampling if state else gap.lag, "eta_gap_sampling": sampling}

        was, now = em.variance_table(z), em.variance_table(z_next)
        numbers |= {"trace_between": now.between, "trace_within": now.within}
        numbers |= {"force_between": now.between - was.between, "force_within": now.within - was.within}
        if z.shape[-1] <= DIRECTIONS and len(was.shares) and len(now.shares):  # a constant has none
            for name, of in (("max", torch.max), ("median", torch.median)):
                share = of(now.shares).item()
                numbers |= {f"share_{name}": share, f"force_share_{name}": share - of(was.shares).item()}
        return numbers


def _named(prefix: str, steps: em.HalfSteps, suffix: str = "") -> dict[str, float]:
    return {f"{prefix}_{name}{suffix}": value for name, value in zip(steps._fields, steps, strict=True)}


def schedule(due: list[int], k: int) -> dict[int, list[str]]:
    """When to call what: {steps taken: names}, for alternations of k steps that end last before each due step.

    A pair of alternations that has not begun, or overlaps the one before, is passed over.
    """
    calls: dict[int, list[str]] = {}
    free = 0
    for step in due:
        end = step - step % k
        if end - 2 * k >= free:
            for at, name in ((end - 2 * k, "begin"), (end - k, "middle"), (end, "end")):
                calls.setdefault(at, []).append(name)
            free = end
    return calls
