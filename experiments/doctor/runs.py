"""How is a case run and recorded? A line of results/doctor.runs.jsonl each."""

import hashlib
import json
import math
from datetime import date
from typing import Any, NamedTuple

import emsiam
from emsiam.config import Config
from emsiam.config.presets import DEFAULTS
from emsiam.runs.environment import environment

from .._jobs import NUMERICS, decisive
from .._records import ENVIRONMENT, Record, short
from ..claims._runs import PASS, code_commit
from .cases import DATA, Case
from .looks import Looker, alternating, supervised


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
        """Of all that decides about numbers. Raises ConfigError."""
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

    def perform(self) -> Record:
        """Train and look."""
        parts = emsiam.prepare(self.config)
        looker = Looker(parts)
        lines: list[dict[str, Any]] = [{"step": 0, "as": "", **looker.look(), **looker.pixels()}]
        for step in (supervised if self.case.supervised else alternating)(parts):
            if step in self.looks:
                finite = all(x.isfinite().all() for x in parts.network.parameters())
                lines.append({"step": step, "as": "", **(looker.look() if finite else {})})
                if step == self.looks[-1] or not finite:
                    more = looker.variants() if finite else ()
                    lines += [{"step": step, "as": name, **numbers} for name, numbers in more]
                    break
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
