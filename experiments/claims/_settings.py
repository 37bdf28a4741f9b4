"""What do claims have in common? Rows, settings, and how a number is read of a run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._records import Record
from ._rules import READ
from ._runs import Spec, unpacked


class Row(NamedTuple):
    """A way to alternate."""

    name: str
    options: Mapping[str, Any]
    sees: str  # the output that the trained loss sees: z or p


SIMSIAM = Row("SimSiam", {}, "p")
NO_H = Row("no h", {"predictor": "none"}, "z")
H_TARGET = Row("h∘F as target", {"eta": "predicted"}, "p")
H_IN_ETA = Row("h in the η-step", {"predictor": "none", "eta": "regressed"}, "z")
ONE_LOSS = (NO_H, H_TARGET, H_IN_ETA)  # both halves of each share one loss

# Digits: 11 steps per epoch, peak lr 0.05. Fashion-MNIST at 14×14, batch 64: peak lr 0.025.
DIGITS = {"epochs": 400}
FASHION = {"dataset": "fashion_mnist", "image_size": 14, "batch_size": 64}


def k_steps(k: int) -> dict[str, Any]:
    """θ held for k steps."""
    return {"mode": "multistep", "k": k} if k > 1 else {}


def of_seeds(options: Mapping[str, Any], seeds: Sequence[int], **more: Any) -> list[Spec]:
    return [Spec(options, seed, **more) for seed in seeds]


def last(runs: Sequence[Record], name: str) -> list[float]:
    """A number of the last look, by run."""
    return [r.summary[name] for r in runs]


def curve(run: Record, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and a number where it was looked at."""
    pairs = [(s, x) for s, x in zip(run.curves["step"], run.curves[name], strict=True) if x is not None]
    steps, values = np.array(pairs, float).T
    return steps, values


def at(runs: Sequence[Record], name: str, step: int) -> list[float]:
    """A number at a step where it was looked at, by run."""
    found = []
    for run in runs:
        steps, values = curve(run, name)
        found.append(float(values[steps == step].item()))
    return found


def rights(runs: Sequence[Record], output: str) -> list[np.ndarray]:
    """[images] of the last look, by run: whether kNN names their class."""
    return [unpacked(r.summary["right"][output]) for r in runs]


def ranks(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and PR of z where it is read."""
    steps, pr = curve(run, "pr_z")
    _, s = curve(run, "std_z")
    return steps[s >= READ], pr[s >= READ]


def mean_rank(runs: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the mean PR of z over runs of one length."""
    curves = [curve(r, "pr_z") for r in runs]
    return curves[0][0], np.mean([values for _, values in curves], 0)


def falls(run: Record, bound: float) -> float | None:
    """The step at which PR comes to be below a bound, or s below READ, at two looks in a row; None: never."""
    steps, pr = curve(run, "pr_z")
    _, s = curve(run, "std_z")
    low = (pr < bound) | (s < READ)
    both = np.flatnonzero(low[:-1] & low[1:])
    return float(steps[both[0]]) if len(both) else None
