"""What is run for a claim, and how? A run is trained by `emsiam.prepare`'s loop and looked at as it goes.

Runs are recorded in results/claims.runs.jsonl, a line each, with the commit that made them and the hash of each rule
that asked for them there.
"""

import hashlib
import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

import emsiam
from emsiam.build import Parts, dtype, stream
from emsiam.config import Config
from emsiam.config.presets import DEFAULTS
from emsiam.data.probe_set import probe
from emsiam.eta.through_h import VELOCITY, H, regressed
from emsiam.runs.environment import environment

from .._jobs import NUMERICS, decisive
from .._records import ENVIRONMENT, Record, short
from ._changes import CHANGES
from ._measure import Ledger, linear, right, spread


class Task(Protocol):
    """What a claim asks for."""

    @property
    def key(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    def perform(self, rules: Mapping[str, str]) -> Record: ...

    def shortened(self) -> "Task": ...


# Milliseconds that a pass of F forward and back takes with a step's batch, about, in one thread.
PASS = {"digits": 4.0, "fashion_mnist": 18.0, "shapes": 40.0}


class Spec(NamedTuple):
    """A run. Looks are at step 0, then every so many steps, and at the end."""

    options: Mapping[str, Any]  # of `emsiam.Config`
    seed: int
    spread_every: int = 100  # steps between looks at std and rank
    right_every: int = 220  # between looks at accuracies
    ledger_every: int = 0  # steps of a window of `Ledger`; 0: none is kept
    switched_at: int = 0  # SimSiam's steps before; the options hold from there on
    change: str = ""  # one of `_changes.CHANGES`: what no option says
    ends_below: float = 0.0  # a run ends once the PR of z is below this at two looks in a row

    @property
    def key(self) -> str:
        """Of all that decides about numbers. Raises ConfigError."""
        decided = decisive(configured(self.options, self.seed))
        text = {**decided, **self._asdict(), "options": None, "numerics": NUMERICS}
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def seconds(self) -> float:
        """About how long it takes, in one thread."""
        o = DEFAULTS | dict(self.options)
        steps = o["epochs"] * (o.get("num_images", 1437) // o["batch_size"])
        views = 2 + (o.get("n", 0) + 16 * ("every_view" in o.get("eta", ""))) / 6
        return steps * views * PASS[o["dataset"]] / 1000 + 10

    def perform(self, rules: Mapping[str, str]) -> Record:
        """Train and look. rules: {claim: hash of its rule} of all claims that ask for this run."""
        parts = emsiam.prepare(configured(self.options, self.seed))
        parts = switched(parts, self) if self.switched_at else parts
        parts = CHANGES[self.change](parts) if self.change else parts
        watch = Watch(parts, self)
        watch.look(self.switched_at, parts.state or {})
        for step in parts.alternation():
            watch.losses.append(step.loss)
            watch.look(step.step + 1, step.state)
            if watch.over:
                break
        rules_of = {f"rule_{claim}": text for claim, text in rules.items()}
        found = environment(parts.config)
        return Record(
            self.key,
            NUMERICS,
            parts.config.to_dict() | {"spec": self._asdict() | {"options": dict(self.options)}},
            watch.summary(),
            {},
            watch.curves(),
            {n: str(found[n]) for n in ENVIRONMENT} | {"commit": str(code_commit())} | rules_of,
            date.today().isoformat(),
        )

    def shortened(self) -> "Spec":
        """A few steps of it."""
        few = {"epochs": 2, **({"num_images": 128} if self.options.get("dataset") == "fashion_mnist" else {})}
        return self._replace(
            options={**self.options, **few},
            switched_at=min(self.switched_at, 11),
            ledger_every=11 if self.ledger_every else 0,
        )


def configured(options: Mapping[str, Any], seed: int) -> Config:
    """The configuration of a run: the same numbers on any machine, in one thread."""
    return Config(**{"threads": 1, "precision": "fp32", "schedule": "constant", "seed": seed, **options})


def code_commit() -> str | None:
    """The commit of the code, with + where it differs from it: results and pages may."""
    folders = [str(Path(emsiam.__file__).parent), str(Path(__file__).parents[1])]

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=folders[1], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", *folders) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def switched(parts: Parts, spec: Spec) -> Parts:
    """The parts with the weights of SimSiam after so many steps, and the batches from there on.

    A solver that has an h of its own begins with SimSiam's.
    """
    c = parts.config
    epochs = math.ceil(spec.switched_at / parts.steps_per_epoch)
    data = {n: spec.options[n] for n in ("dataset", "num_images", "image_size", "batch_size") if n in spec.options}
    first = emsiam.prepare(configured({**data, "epochs": epochs}, spec.seed))
    for step in first.alternation():
        if step.step + 1 == spec.switched_at:
            break
    net, trained = parts.network, first.network
    net.F.load_state_dict(trained.F.state_dict())
    state = None
    if len(net.h.state_dict()):
        net.h.load_state_dict(trained.h.state_dict())
    elif parts.solver.func is regressed:
        state = {H + name: x.detach().clone() for name, x in trained.h.state_dict().items()}
        state |= {VELOCITY + name: torch.zeros_like(x) for name, x in trained.h.named_parameters()}
    return replace(parts, batches=stream(c, parts.images, start=spec.switched_at), state=state)


class Watch:
    """Looks at a run, when it is due."""

    def __init__(self, parts: Parts, spec: Spec):
        self.parts, self.spec = parts, spec
        self.ledger = Ledger(parts) if spec.ledger_every else None
        self.view = probe(parts.images, 1, dtype(parts.config))[0]
        self.losses: list[Tensor] = []
        self.lines: list[dict[str, float]] = []
        self.right: dict[str, Tensor] = {}  # of the last look at accuracies
        self.over, self.finite, self.low = False, True, 0

    def look(self, step: int, state: dict[str, Any]) -> None:
        spec, last = self.spec, step == self.parts.steps
        due = [every and (step % every == 0 or last) for every in (spec.spread_every, spec.right_every)]
        kept = self.ledger and step % spec.ledger_every == 0
        if not any((*due, kept)):
            return
        loss = torch.stack(self.losses).mean().item() if self.losses else math.nan
        self.losses = []
        parameters = torch.cat([x.detach().flatten() for x in self.parts.network.parameters()])
        if not parameters.isfinite().all():
            self.over, self.finite = True, False
            return
        line = {"step": step, "loss": loss}
        if due[0]:
            line |= spread(self.parts.network, self.view)
            self.low = self.low + 1 if line["pr_z"] < spec.ends_below else 0
            self.over = self.low >= 2
        if due[1] or self.over:
            self.right = right(self.parts.network, self.parts.images, dtype(self.parts.config))
            line |= {f"knn_{name}": x.double().mean().item() for name, x in self.right.items()}
        if kept and self.ledger:
            line |= self.ledger.look(state)
        self.lines.append(line)

    def curves(self) -> dict[str, list]:
        """The lines by column; None where a look was not due."""
        names = dict.fromkeys(name for line in self.lines for name in line)
        return {name: [short(line.get(name, math.nan)) for line in self.lines] for name in names}

    def summary(self) -> dict[str, Any]:
        """The numbers of the last look, and of each image whether kNN names it, packed."""
        ended = {"verdict": "ended" if self.finite else "diverged", "steps": self.lines[-1]["step"]}
        of_end = {name: self.lines[-1][name] for name in self.lines[-1] if name != "step"}
        if self.finite:
            of_end["linear"] = linear(self.parts.network, self.parts.images, dtype(self.parts.config))
        return ended | of_end | {"right": {n: packed(self.right[n]) for n in ("z", "p")}}


def packed(bits: Tensor) -> str:
    """[Q] true and false: their number, a colon, and hexadecimal digits, the first bit first."""
    return f"{len(bits)}:{np.packbits(bits.numpy()).tobytes().hex()}"


def unpacked(text: str) -> np.ndarray:
    """`packed` undone: [Q]."""
    number, digits = text.split(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=int(number)).astype(bool)
