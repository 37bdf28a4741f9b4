"""Sub-problem (7): given η, how does θ move? One step of SGD, as in the paper's §4 "Baseline settings"."""

import math

import torch
from torch import Tensor, nn

SCHEDULES = ("cosine", "constant")


def lr_factor(step: int, *, steps: int, warmup: int, schedule: str) -> float:
    """The learning rate at a step as a share of its peak: linear warm-up, then half a cosine to 0, or constant.

    step: counted from 0; steps, warmup: SGD steps of the whole training and of its warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class SGD:
    """SGD with momentum; weight decay on every parameter, BN and biases too.

    steps, warmup: SGD steps of the whole training and of its warm-up. lr: the peak, base lr × batch / 256.
    fix_pred_lr: the predictor's lr is constant (Table 1, "lr not decayed").
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        lr: float,
        momentum: float,
        wd: float,
        steps: int,
        warmup: int = 0,
        schedule: str = "cosine",
        fix_pred_lr: bool = True,
    ):
        trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for name, p in trained if not name.startswith("h.")], "fixed_lr": False},
            {"params": [p for name, p in trained if name.startswith("h.")], "fixed_lr": fix_pred_lr},
        ]
        self.sgd = torch.optim.SGD([g for g in groups if g["params"]], lr, momentum, weight_decay=wd)
        self.lr, self.steps, self.warmup, self.schedule = lr, steps, warmup, schedule

    def lr_at(self, step: int) -> float:
        """The encoder's learning rate at a step, counted from 0."""
        return self.lr * lr_factor(step, steps=self.steps, warmup=self.warmup, schedule=self.schedule)

    def step(self, loss: Tensor, step: int) -> None:
        """θ ← θ − lr·(momentum of the gradient of L, weight decay added)."""
        for group in self.sgd.param_groups:
            group["lr"] = self.lr if group["fixed_lr"] else self.lr_at(step)
        self.sgd.zero_grad()
        loss.backward()
        self._use(foreach=True)  # the same bits in fewer calls
        self.sgd.step()
        self._use(foreach=None)  # as checkpoints have it

    def _use(self, foreach: bool | None) -> None:
        for group in self.sgd.param_groups:
            group["foreach"] = foreach


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose gradient, tensor by tensor, is scaled by trust·‖θ‖/‖gradient‖ where neither norm is 0.

    Source: You et al. 2017, as the paper's linear classification uses it (§4; facebookresearch/simsiam, main_lincls.py:
    apex's LARC without clipping, of the bias too), without weight decay.
    """

    def __init__(self, parameters, lr: float, momentum: float = 0.9, trust: float = 0.001):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                size, slope = p.norm(), p.grad.norm()
                update = p.grad * torch.where((size > 0) & (slope > 0), group["trust"] * size / slope, 1.0)
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(update)
                p.sub_(group["lr"] * buffer)
