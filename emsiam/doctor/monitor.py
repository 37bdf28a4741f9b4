"""Is it collapsing while it trains? A few numbers of a batch, now and then, in anybody's loop."""

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from ..diagnostics import collapse
from ..diagnostics.judgement import CONSTANT, FEW_DIRECTIONS
from ..errors import ConfigError
from ..ranks import gather
from .diagnosis import Diagnosis
from .examine import diagnose

EVERY = 100  # updates between looks
MOST = 512  # images of a look
KEPT = 256  # looks; where there are more, every other one of the older half is let go
FALLING = 0.9  # of the rank at half of the updates: below it the rank is falling
SURE = 3  # looks in a row
SETTLED = 300  # updates before which every rank falls


class Look(NamedTuple):
    """What was seen at an update."""

    update: int
    z_std_ratio: float
    participation_ratio: float
    view_auc: float | None  # where z has views
    p_std_ratio: float | None  # where p is given


class Monitor:
    """Looks at every 100th batch, and warns once when the rank of z falls, or z or p becomes a constant.

        monitor = emsiam.Monitor()
        for images in loader:
            ...
            monitor.update(z)  # or update(z, p); z: [B, d], or better [views, B, d]
        print(monitor.report())

    Memory is bounded. With torch.distributed a look is at the rows of all processes, and every process must call
    `update` as often. every: updates between looks; images: at most so many of a batch are looked at.
    """

    def __init__(self, every: int = EVERY, images: int = MOST):
        if every < 1 or images < 2:
            raise ValueError(f"every is {every} and images {images}; allowed are 1 and 2, and more")
        self.every, self.images = every, images
        self.updates = 0
        self.looks: list[Look] = []
        self.last: dict[str, Tensor] = {}
        self.warned: set[str] = set()

    def update(self, z: Tensor, p: Tensor | None = None) -> None:
        """A batch: z [B, d] or [views, B, d], and what a predictor makes of it. Nothing of it is kept but a look's."""
        self.updates += 1
        if self.updates % self.every and self.updates > 1:
            return
        given = {"z": z} if p is None else {"z": z, "p": p}
        self.last = {name: self._rows(x) for name, x in given.items()}
        self.looks.append(self._look())
        if len(self.looks) > KEPT:
            old, new = self.looks[: KEPT // 2], self.looks[KEPT // 2 :]
            self.looks = old[::2] + new
        self._warn()

    def _rows(self, x: Tensor) -> Tensor:
        x = x.detach()
        whole = gather(x.movedim(-2, 0).contiguous()).movedim(0, -2)
        return whole[..., : self.images, :].float()

    def _look(self) -> Look:
        z, p = self.last["z"], self.last.get("p")
        if not all(x.isfinite().all() for x in self.last.values()):
            return Look(self.updates, math.nan, math.nan, None, None)
        one = z[0] if z.ndim == 3 else z
        return Look(
            self.updates,
            collapse.z_std_ratio(one).item(),
            collapse.participation_ratio(one).item(),
            collapse.view_auc(z).item() if z.ndim == 3 and len(z) > 1 else None,
            None if p is None else collapse.z_std_ratio(p[0] if p.ndim == 3 else p).item(),
        )

    @property
    def falling(self) -> bool:
        """Whether the rank of z has been falling at the last looks: it is below that at half of the updates."""
        return len(self.looks) >= SURE and all(self._fell(look) for look in self.looks[-SURE:])

    def _fell(self, look: Look) -> bool:
        if look.update < SETTLED:
            return False
        half = min(self.looks, key=lambda other: abs(other.update - look.update / 2))
        return look.participation_ratio < FALLING * half.participation_ratio

    def _warn(self) -> None:
        look = self.looks[-1]
        least = min(look.z_std_ratio, 1.0 if look.p_std_ratio is None else look.p_std_ratio)
        self._once("finite", math.isnan(look.z_std_ratio), "z or p holds values that are not finite")
        self._once("constant", least < CONSTANT, "z or p is nearly a constant")
        few = look.participation_ratio < FEW_DIRECTIONS and look.update >= SETTLED
        self._once("few", few, f"{look.participation_ratio:.1f} directions carry z")
        self._once("falling", self.falling, f"the rank of z is falling, {look.participation_ratio:.1f} now")

    def _once(self, what: str, holds: bool, said: str) -> None:
        if holds and what not in self.warned:
            self.warned.add(what)
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
        return replace(found, said=(*found.said, said))

    def to_dict(self) -> dict[str, Any]:
        """{column: values}, a value a look: for a table or a curve."""
        return {name: [getattr(look, name) for look in self.looks] for name in Look._fields}
