"""What does the battery train, and by which rule is rank kept or lost? Its command is `battery`.

Each solver is trained from the same weights, on the same images and draws of T, at a constant learning rate, so that
all have the same sum of learning rates Σlr: digits (8×8), 1,320 steps, 5 seeds; 1,280 images of Fashion-MNIST at 14×14,
960 steps, 3 seeds.

The rule, before the runs. The rank of z is its participation ratio (PR) on the probe set, over that of SimSiam of the
same seed at the same step. `kept`: the 95 % interval of that ratio at the end lies above one half, and the PR at the
end is at least 0.9 of the PR at two thirds of the run. `falling`: above one half, but less than that. `lost`: the
interval lies below one half. `undecided`: it contains one half. Time to lose rank: when the PR is first, and from then
on, below half of SimSiam's, in steps, in lags of the solver's formula and in Σlr.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import trapezoid

from emsiam.build import assemble, sizes
from emsiam.config import Config, load_images
from emsiam.config.solvers import load_solver
from emsiam.diagnostics.statistics import difference, mean_interval
from emsiam.eta import SOLVERS
from emsiam.traits import hyperparameters, of_solver, value

from ._jobs import Job, jobs
from ._records import Record, Records

NAME = "battery"
HALF, STEADY = 0.5, 0.9  # of SimSiam's rank; of the rank at two thirds
LOOKS = {"schedule": "constant", "log_every": 20, "eval_every": 1000, "save_every": 1000, "diagnose_every": 1000}
FASHION = {"dataset": "fashion_mnist", "image_size": 14, "num_images": 1280, "batch_size": 64, "epochs": 48}
SETS = {"digits": (LOOKS, 5), "Fashion-MNIST": (LOOKS | FASHION, 3)}  # options, seeds
LINEAR = {"linear": ("linear", {"protocol": "ridge"})}
SIMSIAM, UNTRAINED = "other_view", "untrained"
CONSTANT = {"momentum_encoder": {"tau_schedule": "constant"}}
# A run of SimSiam on one core, about; every further pass of F adds a third.
SECONDS = {"digits": 22, "Fashion-MNIST": 50}


class Entry(NamedTuple):
    """A way to solve for η, with or without h."""

    name: str
    h: bool
    options: Mapping[str, Any]

    @property
    def shown(self) -> str:
        return f"{self.name}, {'with' if self.h else 'without'} h"


def suits(f: Callable) -> bool:
    """Whether a solver goes with the loss of SimSiam and with any T."""
    t = of_solver(f)
    return t.gives != "codes" and not t.keeps and not t.needs_all_of_T


def entries(names: Iterable[str]) -> list[Entry]:
    """Each with h and without, where it does not ask for h."""
    found = []
    for name in names:
        f = SOLVERS[name] if name in SOLVERS else load_solver(name)
        for h in (True, False):
            if h or not of_solver(f).needs_h:
                predictor = "mlp" if h else "none"
                found.append(Entry(name, h, {"eta": name, "predictor": predictor, **CONSTANT.get(name, {})}))
    return found


def held() -> list[Entry]:
    """θ held for k steps: the loop's way to let η be old."""
    return [
        Entry(f"θ held {k} steps", h, {"mode": "multistep", "k": k, "predictor": "mlp" if h else "none"})
        for k in (10, 100)
        for h in (True, False)
    ]


COMMITTED = (*entries(name for name, f in SOLVERS.items() if suits(f)), *held())
ANCHOR = Entry(UNTRAINED, True, {"epochs": 1, "lr": 1e-9})


def wanted(which: Sequence[Entry], out: Path, seeds: int | None) -> dict[str, dict[str, list[Job]]]:
    """{data set: {entry: jobs by seed}}. Raises ConfigError."""
    return {
        name: {e.shown: jobs({**options, **e.options}, seeds or n, out, LINEAR) for e in (ANCHOR, *which)}
        for name, (options, n) in SETS.items()
    }


def estimate(table: Mapping[str, Mapping[str, list[Job]]], records: Records, at_once: int) -> str:
    """What is left to run, and about how long that takes."""
    left, seconds = 0, 0.0
    for name, lines in table.items():
        for shown, line in lines.items():
            todo = [job for job in line if not records.find(job.key, job.asked.values())]
            left += len(todo)
            f = SOLVERS.get(shown.rpartition(", ")[0])
            passes = value(of_solver(f).forwards, hyperparameters(f)) if f else 1.0
            seconds += 0 if shown.startswith(UNTRAINED) else len(todo) * SECONDS[name] * (1 + passes / 3)
    return f"{left} runs to do, about {seconds / at_once / 60:.0f} minutes with {at_once} at once"


# What the runs say


def rank_over(record: Record, base: Record) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the PR of z over SimSiam's of the same seed at the same step."""
    at = dict(zip(base.curves["step"], base.curves["participation_ratio"], strict=True))
    pairs = [
        (step, pr / at[step])
        for step, pr in zip(record.curves["step"], record.curves["participation_ratio"], strict=True)
        if at.get(step) and pr is not None
    ]
    steps, ratio = np.array(pairs).T
    return steps, ratio


def rank_at(record: Record, share: float) -> float:
    """The PR of z when a share of the steps is taken."""
    steps = record.curves["step"]
    return float(np.interp(share * steps[-1], steps, record.curves["participation_ratio"]))


def lost_at(steps: np.ndarray, ratio: np.ndarray) -> float | None:
    """The step from which on the ratio stays below HALF."""
    above = np.flatnonzero(ratio >= HALF)
    if len(above) and above[-1] == len(ratio) - 1:
        return None
    return float(steps[above[-1] + 1 if len(above) else 0])


def verdict(ratio: Mapping[str, float | None], runs: Sequence[Record]) -> str:
    """What became of the rank, by the rule above."""
    low, high = (ratio["mean"] if ratio[end] is None else ratio[end] for end in ("low", "high"))
    assert low is not None
    assert high is not None
    if any(r.summary["verdict"] == "diverged" for r in runs):
        return "diverged"
    if high < HALF:
        return "lost"
    if low <= HALF:
        return "undecided"
    steady = np.mean([rank_at(r, 1.0) / rank_at(r, 2 / 3) for r in runs])
    return "kept" if steady >= STEADY else "falling"


def about(
    entry: Entry, lines: list[Job], records: Records, base: list[Record], untrained: list[Record]
) -> dict[str, Any]:
    """All that the battery says of one way on one data set."""
    runs = [records.known[job.key] for job in lines]
    found = [r.measured(job.asked) for r, job in zip(runs, lines, strict=True)]
    result: dict[str, Any] = {
        "name": entry.name,
        "h": entry.h,
        "config": dict(entry.options),
        "keys": [r.key for r in runs],
    }
    if any(r.summary["verdict"] == "diverged" for r in runs):
        return result | {"rank": "diverged"}
    of_base = [r.measured(job.asked) for r, job in zip(base, lines, strict=False)]
    of_start = [r.measured(job.asked) for r, job in zip(untrained, lines, strict=False)]
    curves = [rank_over(r, b) for r, b in zip(runs, base, strict=False)]
    ratio = mean_interval([float(y[-1]) for _, y in curves])
    lost = [lost_at(*curve) for curve in curves]
    numbers = numbers_of(runs[0])
    lag = numbers["lag"]
    lrs = [float(trapezoid(r.curves["lr"], r.curves["step"])) for r in runs]
    last = runs[0].curves["step"][-1]
    gone = [x for x in lost if x is not None]
    time = float(np.mean(gone)) if len(gone) == len(lost) else None
    result |= {
        "rank": verdict(ratio, runs),
        "rank_of_simsiam": ratio,
        "lost_at_step": time,
        "lost_at_steps": gone,
        "lost_in": f"{len(gone)} of {len(lost)}",
        "lost_at_lags": time / lag if time is not None and lag else None,
        "lost_at_sum_lr": None if time is None else time / last * float(np.mean(lrs)),
        **{n: mean_interval([s[n] for s in found]) for n in SHOWN},
        "against_simsiam": {n: against(of_base, found, n) for n in ACCURACIES},
        "against_untrained": {n: against(of_start, found, n) for n in ACCURACIES},
        **numbers,
    }
    return result


ACCURACIES = ("knn_z_acc1", "linear")
SHOWN = ("z_std_ratio", "participation_ratio", "p_std_ratio", "p_participation_ratio", *ACCURACIES)


def against(base: Sequence[dict], found: Sequence[dict], name: str) -> dict[str, float]:
    """The difference of an accuracy, by pairs of seeds."""
    return difference([s[name] for s in base], [s[name] for s in found], paired=True)._asdict()


def numbers_of(record: Record) -> dict[str, float | None]:
    """Lag, views, passes and memory of a run's solver, by its formulas."""
    config = Config(**record.config)
    _, data, _ = load_images(config)
    parts = assemble(config, data)
    t, k = of_solver(parts.solver), int(config.k or 1)
    terms = sizes(parts.solver, config, parts.images, parts.network)
    told = {n: value(getattr(t, n), terms) for n in ("lag", "views", "forwards", "memory")}
    told["lag"] += (k - 1) / 2
    told["forwards"] += k > 1
    return {n: x if math.isfinite(x) else None for n, x in told.items()}


def tabulate(which: Sequence[Entry], table: Mapping[str, Mapping[str, list[Job]]], records: Records) -> dict[str, Any]:
    """{data set: what is said of each}, and of SimSiam and of untrained weights."""
    made = {}
    for name, lines in table.items():
        base, untrained = (
            [records.known[job.key] for job in lines[shown]] for shown in (Entry(SIMSIAM, True, {}).shown, ANCHOR.shown)
        )
        start = [r.measured(job.asked) for r, job in zip(untrained, lines[ANCHOR.shown], strict=True)]
        made[name] = {
            "solvers": [about(e, lines[e.shown], records, base, untrained) for e in which],
            "untrained": {n: mean_interval([s[n] for s in start]) for n in ACCURACIES},
            "seeds": len(base),
        }
    return made
