"""What no option says: other optimisers, and an h that is solved at each step."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from emsiam.build import Parts
from emsiam.data.batches import Batch
from emsiam.optim import SGD
from emsiam.training.observe import look

ADAM_LR = 1e-3
FASTER = 10  # times the encoder's lr, BYOL's §5
RATE = 0.05  # of the averages that h is solved from: about 20 batches, as one has few images for so many channels
RIDGE = 1e-3  # in units of the mean square of a channel


class Adam:
    """Adam with its usual constants at a constant lr, weight decay in the gradient as SGD has it."""

    def __init__(self, parts: Parts):
        trained = [x for x in parts.network.parameters() if x.requires_grad]
        self.adam = torch.optim.Adam(trained, ADAM_LR, weight_decay=parts.config.wd)

    def step(self, loss: Tensor, _: int) -> None:
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


class FasterH(SGD):
    """SGD with h at FASTER times the encoder's learning rate."""

    def step(self, loss: Tensor, step: int) -> None:
        for group in self.sgd.param_groups:
            group["lr"] = self.lr_at(step) * (FASTER if group["fixed_lr"] else 1)
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()


def adam(parts: Parts) -> Parts:
    return replace(parts, optimizer=Adam(parts))


def faster_h(parts: Parts) -> Parts:
    c = parts.config
    lr = c.lr * c.batch_size / 256
    sgd = FasterH(parts.network, lr=lr, momentum=c.momentum, wd=c.wd, steps=parts.steps, schedule=c.schedule)
    return replace(parts, optimizer=sgd)


def solved_h(parts: Parts, c: float = 1.0, power: float = 1.0) -> Parts:
    """h is c·H*^power at each step, not trained. For `--predictor linear`.

    H* = E[z′zᵀ] E[zzᵀ]⁻¹, with a ridge: the linear map that best predicts another view's z from this one's. Moments
    are averages over recent batches. The power is that of the symmetric map of whitened z.
    """
    weight = parts.network.h.weight.requires_grad_(False)

    def batches() -> Iterator[Batch]:
        moments: list[Tensor] = []
        for batch in parts.batches:
            x, y = (look(parts.network.F, view).double() for view in batch.views[:2])
            now = [(x.T @ x + y.T @ y) / (2 * len(x)), (y.T @ x + x.T @ y) / (2 * len(x))]
            moments = [old.lerp(new, RATE) for old, new in zip(moments or now, now, strict=True)]
            values, vectors = torch.linalg.eigh(moments[0])
            roots = (values.clamp_min(0) + RIDGE * values.mean()).sqrt()
            shares, axes = torch.linalg.eigh(vectors.T @ moments[1] @ vectors / roots / roots[:, None])
            shares = shares if power == 1 else shares.clamp_min(0) ** power
            mapped = axes * shares @ axes.T  # H*, where z is white
            weight.copy_(c * (vectors * roots) @ mapped @ (vectors / roots).T)
            yield batch

    return replace(parts, batches=batches())


CHANGES: dict[str, Callable[[Parts], Parts]] = {
    "Adam": adam,
    "h's lr × 10": faster_h,
    **{f"h = {c} H*": partial(solved_h, c=float(c)) for c in ("0.9", "1", "1.1")},
    **{f"h = H*^{power}": partial(solved_h, power=float(power)) for power in ("0.5", "1", "2")},
}
