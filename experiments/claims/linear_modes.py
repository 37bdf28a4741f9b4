"""With a linear F and no h, what F knows of images goes one direction after the other, in the order of ρ.

A direction's ρ is its share of variance between images: where the θ-step is solved, an alternation multiplies the
direction by it (`emsiam.linear_theory.modes`).
Setting: digits' own Σ_b and Σ_w under T, in the 8 leading directions of its views; squared error, no weight decay,
SGD through `alternate` on all 1,437 images, one view as η; 12 alternations of 160 steps, from random matrices, 5
seeds.
Outcome: the half-life of each direction in alternations, log-linear between two of them.
Cells: the largest log, of either sign, of a half-life over that of the closed form, passes below log 1.2, fails
above; the rank correlation of half-lives with ρ passes above 0.9, fails below.
Beside it: k = 1, where the theory's order is that of the variance within images, whatever ρ is.
Supported means: the loop of this package does in the linear case what the theory says, mode by mode.
Contradicted means: theory or loop is wrong.
Changes: none since the first run.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from emsiam import linear_theory as theory
from emsiam.alternate import alternate
from emsiam.data.batches import Batch
from emsiam.data.sets import digits
from emsiam.diagnostics.statistics import mean
from emsiam.eta import other_view
from emsiam.objective import loss, squared_error
from emsiam.optim import SGD
from emsiam.runs.environment import environment

from .._jobs import NUMERICS
from .._records import ENVIRONMENT, Record
from ._rules import FIVE, Cell, above, below
from ._runs import code_commit, configured

WIDTH, MANY = 8, 32  # directions; views of each image that Σ_b and Σ_w are estimated from
LR = {160: 0.15, 1: 0.01}  # of SGD on the mean over channels
STEPS = {160: 1920, 1: 160}
OFF, ORDER = math.log(1.2), 0.9


class Linear(NamedTuple):
    """A run of a linear F."""

    seed: int
    k: int

    @property
    def key(self) -> str:
        return hashlib.sha256(repr((self, LR, STEPS, WIDTH, MANY, NUMERICS)).encode()).hexdigest()[:12]

    @property
    def seconds(self) -> float:
        return 0.05 * STEPS[self.k]

    def shortened(self) -> "Linear":
        return self._replace(k=1)

    def perform(self, rules: Mapping[str, str]) -> Record:
        torch.set_num_threads(1)
        views, S_b, S_w = views_of_digits()
        modes = theory.modes(S_b, S_w, step_of(self.k))
        W = np.linalg.qr(np.random.default_rng(self.seed).normal(size=(WIDTH, WIDTH)))[0]
        amplitudes = np.array([modes.amplitudes(V) for V in path(views, W, self)])
        rows = np.linalg.inv(modes.directions)  # what W is made of: W = Σ (W v) u for directions v and rows u
        rho = ((rows @ S_b) * rows).sum(1) / ((rows @ (S_b + S_w)) * rows).sum(1)
        summary: dict[str, Any] = {"verdict": "ended", "loss": 0.0, "steps": STEPS[self.k]}
        summary |= {"half_lives": half_lives(amplitudes), "closed": modes.until(0.5).tolist(), "rho": rho.tolist()}
        found = environment(configured({"device": "cpu"}, self.seed))
        kept = {n: str(found[n]) for n in ENVIRONMENT} | {"commit": str(code_commit())}
        kept |= {f"rule_{claim}": text for claim, text in rules.items()}
        return Record(self.key, NUMERICS, self._asdict(), summary, {}, {}, kept, date.today().isoformat())


def step_of(k: int) -> theory.ThetaStep:
    """k steps, in the theory's units."""
    lr, _ = theory.in_half_squares(LR[k], 0.0, WIDTH)
    return partial(theory.stepped, lr=lr, k=k)


@cache
def views_of_digits() -> tuple[Any, np.ndarray, np.ndarray]:
    """views(seed, n) -> [n, 1437, WIDTH] in the leading directions of all views, centred; Σ_b and Σ_w there."""
    data = digits()
    ids = torch.arange(len(data.images))

    def pixels(seed: int, n: int) -> Tensor:
        draw = data.sample(ids, n, torch.Generator().manual_seed(seed))
        return data.ask(ids, draw, n, torch.float64)().flatten(2)

    many = pixels(0, MANY)
    centre = many.mean((0, 1))
    S_b, S_w = theory.covariances((many - centre).numpy())
    axes = torch.tensor(np.linalg.eigh(S_b + S_w)[1][:, : -WIDTH - 1 : -1].copy())
    return lambda seed, n: (pixels(seed, n) - centre) @ axes, *theory.covariances(((many - centre) @ axes).numpy())


class Matrix(nn.Module):
    """F is a matrix, and h the identity."""

    def __init__(self, W: np.ndarray):
        super().__init__()
        self.F = nn.Linear(*W.shape[::-1], bias=False, dtype=torch.float64)
        self.F.weight.data = torch.tensor(W)
        self.h = nn.Identity()

    def forward(self, views: Tensor, trained: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        z = torch.stack([self.F(x) for x in views])
        return z, z[list(trained)]


def path(views: Any, W: np.ndarray, run: Linear) -> Iterator[np.ndarray]:
    """W at the start, and after each alternation."""
    net, steps = Matrix(W), STEPS[run.k]
    sgd = SGD(net, lr=LR[run.k], momentum=0.0, wd=0.0, steps=steps, schedule="constant")
    ids = torch.arange(len(views(0, 1)[0]))

    def batches() -> Iterator[Batch]:
        for step in range(steps):
            x = views(10_000 * run.seed + step + 1, 2)
            yield Batch.of(step, ids, x, draw=lambda n: views(0, n), num_images=len(ids))

    yield W
    for step in alternate(net, other_view, partial(loss, similarity=squared_error), sgd, batches(), k=run.k):
        if (step.step + 1) % run.k == 0:
            yield net.F.weight.detach().numpy().copy()


def half_lives(amplitudes: np.ndarray) -> list[float]:
    """[modes] in alternations, of amplitudes [T, modes]; of the last slope where a half is not reached."""
    logs = np.log2(amplitudes / amplitudes[0])
    found = []
    for y in logs.T:
        at = int(np.argmax(y < -1)) or len(y) - 1
        found.append(at - 1 + (y[at - 1] + 1) / (y[at - 1] - y[at]))
    return [float(x) for x in found]


def wanted() -> dict[str, list[Linear]]:
    return {f"k = {k}": [Linear(seed, k) for seed in FIVE] for k in LR}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    solved, one = found["k = 160"], found["k = 1"]
    note = f"k = 1: off by {mean(off(one)).mean:.3f}, rank correlation with ρ {mean(order(one)).mean:.2f}"
    return [
        below("half-lives, log of measured over closed form, largest", mean(off(solved)), OFF, note=note),
        above("rank correlation of half-lives with ρ", mean(order(solved)), ORDER),
    ]


def off(runs: Sequence[Record]) -> list[float]:
    """The largest |log| of a half-life over that of the closed form, by run."""
    return [float(np.abs(np.log(np.divide(r.summary["half_lives"], r.summary["closed"]))).max()) for r in runs]


def order(runs: Sequence[Record]) -> list[float]:
    """The rank correlation of half-lives with the ρ of what dies, by run."""
    return [float(spearmanr(r.summary["half_lives"], r.summary["rho"]).statistic) for r in runs]
