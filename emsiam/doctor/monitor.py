"""Is it collapsing while it trains? A few numbers of a batch, now and then, in anybody's loop."""

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..diagnostics import collapse
from ..diagnostics.evidence import many_images
from ..diagnostics.verdict import CONSTANT, FEW_DIRECTIONS, FEWEST
from ..errors import ConfigError
from ..ranks import gather
from .arrays import FEW_TOKENS, VIEWS, as_tensor
from .diagnosis import Diagnosis
from .examine import diagnose

EVERY = 100  # updates between looks
MOST = 512  # images of a look
KEPT = 256  # looks; where there are more, every other one of the older half is let go
FALLING = 0.9  # of the rank at half of the updates: below it the rank is falling
SURE = 3  # looks in a row
SETTLED = 300  # updates before which every rank falls
REASONS = {
    "images": "a batch had too few images",
    "finite": "z or p held values that are not finite",
    "constant": "z or p was nearly a constant",
    "few": f"fewer than {FEW_DIRECTIONS:g} directions carried z",
    "falling": "the rank of z was falling",
}


class Look(NamedTuple):
    """What was seen at an update; see `diagnostics.collapse`."""

    update: int
    z_std_ratio: float
    residual_norm: float
    participation_ratio: float
    view_auc: float | None  # where z has views
    p_residual_norm: float | None  # where p is given


class Monitor:
    """Looks at the first batch and at every 100th, and warns once for each reason.

    Reasons: z or p is nearly a constant, or not finite; fewer than 3 directions carry z, or their number falls (both
    from update 300 on); a batch has fewer than 32 images.

        monitor = emsiam.Monitor()
        for images in loader:
            ...
            monitor.update(z)  # or update(z, p); z: [B, d], or better [views, B, d]
        print(monitor.report())

    Memory is bounded. With torch.distributed a look is at the rows of all processes, and every process must call
    `update` as often. every: updates between looks, 1 or more; images: at most so many of a batch are looked at, 2 or
    more. Raises ConfigError for less.
    """

    def __init__(self, every: int = EVERY, images: int = MOST):
        for name, value, least in (("every", every, 1), ("images", images, 2)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ConfigError(f"{name}: is {value!r}; allowed is a whole number, {least} or more")
        self.every, self.images = every, images
        self.updates = 0
        self.due = True  # a look, at the next batch
        self.looks: list[Look] = []
        self.last: dict[str, Tensor] = {}
        self.warned: dict[str, int] = {}  # of what, and at which update

    def update(self, z: Tensor, p: Tensor | None = None) -> None:
        """A batch: z [B, d] or [views, B, d], and p, what a predictor makes of it, of the same images and views.

        Only a look's rows are kept. Raises ConfigError for other shapes of z or p. A batch of one image is passed over,
        and the next one is looked at.
        """
        given = {"z": _batch("z", z)} | ({} if p is None else {"p": _batch("p", p)})
        if p is not None and given["p"].shape[-1] != given["z"].shape[-1]:
            wide, width = (given[name].shape[-1] for name in ("p", "z"))
            raise ConfigError(f"p: has {wide:,} channels and z {width:,}; allowed is the same number")
        if p is not None and given["p"].shape[-2] != given["z"].shape[-2]:
            of_p, of_z = (given[name].shape[-2] for name in ("p", "z"))
            raise ConfigError(f"p: is of {of_p:,} images and z of {of_z:,}; allowed is the same images")
        self.updates += 1
        self.due = self.due or self.updates % self.every == 0
        if not self.due:
            return
        rows = {name: self._rows(x) for name, x in given.items()}
        if min(x.shape[-2] for x in rows.values()) < 2:
            return
        self.due, self.last = False, rows
        self.looks.append(self._look())
        if len(self.looks) > KEPT:
            old, new = self.looks[: KEPT // 2], self.looks[KEPT // 2 :]
            self.looks = old[::2] + new
        self._warn()

    def _rows(self, x: Tensor) -> Tensor:
        whole = gather(x.movedim(-2, 0).contiguous()).movedim(0, -2)
        return whole[..., : self.images, :].float()

    def _look(self) -> Look:
        z, p = self.last["z"], self.last.get("p")
        if not all(x.isfinite().all() for x in self.last.values()):
            return Look(self.updates, math.nan, math.nan, math.nan, None, None)
        one = z[0] if z.ndim == 3 else z
        return Look(
            self.updates,
            collapse.z_std_ratio(one).item(),
            collapse.residual_norm(one).item(),
            collapse.participation_ratio(one).item(),
            collapse.view_auc(z).item() if z.ndim == 3 and len(z) > 1 else None,
            None if p is None else collapse.residual_norm(p[0] if p.ndim == 3 else p).item(),
        )

    @property
    def falling(self) -> bool:
        """Whether, at each of the last 3 looks, the rank of z (PR) is below 0.9 of that at half of its updates.

        Before update 300 it is False, as every rank falls at first.
        """
        return len(self.looks) >= SURE and all(self._fell(look) for look in self.looks[-SURE:])

    def _fell(self, look: Look) -> bool:
        if look.update < SETTLED:
            return False
        half = min(self.looks, key=lambda other: abs(other.update - look.update / 2))
        return look.participation_ratio < FALLING * half.participation_ratio

    def _warn(self) -> None:
        look, (images, width) = self.looks[-1], self.last["z"].shape[-2:]
        least = min(look.residual_norm, 1.0 if look.p_residual_norm is None else look.p_residual_norm)
        directions = many_images(look.participation_ratio, images, width)
        few = math.isfinite(look.residual_norm) and directions < FEW_DIRECTIONS and look.update >= SETTLED
        self._once(
            "images", images < FEWEST, f"of {images} images nothing can be said; give it {FEWEST} or more at once"
        )
        self._once("finite", math.isnan(look.residual_norm), "z or p holds values that are not finite")
        self._once("constant", least < CONSTANT, "z or p is nearly a constant")
        self._once("few", few and images >= FEWEST, f"{directions:.1f} directions carry z")
        self._once("falling", self.falling, f"the rank of z is falling, {look.participation_ratio:.1f} now")

    def _once(self, what: str, holds: bool, said: str) -> None:
        if holds and what not in self.warned:
            self.warned[what] = self.updates
            text = f"emsiam.Monitor, update {self.updates}: {said}; print(monitor.report()) says more"
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    def report(self) -> Diagnosis:
        """What `emsiam.examine` says of the last look, and how the rank moves. Raises ConfigError before the first."""
        if not self.looks:
            raise ConfigError("monitor: has seen no batch yet; call update(z)")
        found = diagnose(self.last, None, self.looks[-1].update, "views" if self.last["z"].ndim == 3 else None)
        (first, at), (now, last) = ((look.participation_ratio, look.update) for look in (self.looks[0], self.looks[-1]))
        said = f"the rank of z was {first:.1f} at update {at:,} and is {now:.1f} at {last:,}"
        said += ", and it is falling" if self.falling else ""
        warned = [f"it warned at update {update:,}: {REASONS[what]}" for what, update in self.warned.items()]
        return replace(found, said=(*found.said, said, *warned))

    def to_dict(self) -> dict[str, Any]:
        """{column: values}, a value a look: for a table or a curve."""
        return {name: [getattr(look, name) for look in self.looks] for name in Look._fields}


def _batch(name: str, x: Any) -> Tensor:
    """What was given under a name. Raises ConfigError where it is not [B, d] or [views, B, d]."""
    if not isinstance(x, Tensor | np.ndarray):
        raise ConfigError(f"{name}: is a {type(x).__name__}; pass [B, d] or [views, B, d]")
    x = x.detach() if isinstance(x, Tensor) else as_tensor(name, x)
    if x.ndim == 3 and len(x) > VIEWS and x.shape[1] <= FEW_TOKENS:
        raise ConfigError(f"{name}: is {list(x.shape)}; views come first, [views, B, d]: {name}.swapaxes(0, 1)")
    if x.ndim not in (2, 3) or 0 in x.shape or not x.is_floating_point():
        raise ConfigError(f"{name}: is {list(x.shape)} of {x.dtype}; pass numbers [B, d] or [views, B, d]")
    return x
