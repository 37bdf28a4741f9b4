"""How is a case run and recorded? A line of results/doctor.runs.jsonl each."""

import hashlib
import json
import math
import warnings
from datetime import date
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import emsiam
from emsiam.config import Config
from emsiam.config.presets import DEFAULTS
from emsiam.networks import Siamese
from emsiam.runs.environment import environment

from .._jobs import NUMERICS, decisive
from .._records import ENVIRONMENT, Record, short
from ..claims._runs import PASS, code_commit
from .cases import DATA, Case
from .looks import VIEWS, Looker, alternating, supervised

MONITOR = "monitor"  # how its looks are named
WATCHED = ("z_std_ratio", "residual_norm", "participation_ratio", "view_auc")


class Run(NamedTuple):
    """A case with a seed."""

    case: Case
    seed: int
    looks: tuple[int, ...]

    @property
    def config(self) -> Config:
        """The same numbers on any machine, in one thread."""
        fixed = {"threads": 1, "precision": "fp32", "schedule": "constant", "seed": self.seed}
        return Config(**{**fixed, **DATA[self.case.data].options, **self.case.options})

    @property
    def key(self) -> str:
        """A hash of all that decides about the numbers. Raises ConfigError."""
        text = decisive(self.config) | {
            "looks": self.looks,
            "supervised": self.case.supervised,
            "numerics": NUMERICS,
        }
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def seconds(self) -> float:
        """About how long it takes, in one thread."""
        passes = PASS[(DEFAULTS | {**DATA[self.case.data].options})["dataset"].replace("mnist5k", "fashion_mnist")]
        return self.looks[-1] * (1 if self.case.supervised else 2) * passes / 1000 + 4 * len(self.looks)

    def __str__(self) -> str:
        return f"{self.case.data}, {self.case.name}, seed {self.seed}"

    def perform(self) -> Record:
        """Train and look."""
        parts = emsiam.prepare(self.config)
        looker, monitor = Looker(parts), watched(parts.network)
        lines: list[dict[str, Any]] = [{"step": 0, "as": "", **looker.look(), **looker.pixels()}]
        for step in (supervised if self.case.supervised else alternating)(parts):
            if step in self.looks:
                finite = all(x.isfinite().all() for x in parts.network.parameters())
                lines.append({"step": step, "as": "", **(looker.look() if finite else {})})
                if step == self.looks[-1] or not finite:
                    more = looker.variants() if finite else ()
                    lines += [{"step": step, "as": name, **numbers} for name, numbers in more]
                    break
        lines += watched_lines(monitor)
        names = dict.fromkeys(name for line in lines for name in line)
        curves = {
            n: [line.get(n) if isinstance(line.get(n), str) else short(line.get(n, math.nan)) for line in lines]
            for n in names
        }
        of = {"case": self.case.name, "data": self.case.data, "looks": list(self.looks)}
        summary = {"verdict": "ended" if finite else "diverged", "loss": 0.0, "steps": lines[-1]["step"]}
        found = environment(parts.config)
        kept = {n: str(found[n]) for n in ENVIRONMENT} | {"commit": str(code_commit())}
        return Record(
            self.key, NUMERICS, parts.config.to_dict() | of, summary, {}, curves, kept, date.today().isoformat()
        )


def watched(net: Siamese) -> emsiam.Monitor:
    """A monitor of what training makes of its batches. With it the same bits are trained."""
    monitor = emsiam.Monitor()

    def update(_net: nn.Module, _given: tuple[Any, ...], made: tuple[Tensor, Tensor]) -> None:
        if torch.is_grad_enabled():  # looks have no gradient
            z, p = made
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                monitor.update(z[:VIEWS], None if isinstance(net.h, nn.Identity) else p[0])

    net.register_forward_hook(update)
    return monitor


def watched_lines(monitor: emsiam.Monitor) -> list[dict[str, Any]]:
    """What it saw, a line a look; and what it warned of, with the update."""
    lines: list[dict[str, Any]] = []
    for at in monitor.looks:
        seen = {f"z_{name}": getattr(at, name) for name in WATCHED} | {"p_residual_norm": at.p_residual_norm}
        known = {name: value for name, value in seen.items() if value is not None}
        lines.append({"step": at.update, "as": MONITOR, **known})
    return lines + [{"step": update, "as": f"{MONITOR}: {what}"} for what, update in monitor.warned.items()]
