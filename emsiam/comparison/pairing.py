"""Which runs go together? Pairs of one seed, groups that differ by seed alone, and how each is called."""

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config import HYPERPARAMETERS, Config, having
from ..errors import ConfigError
from ..eta import SOLVERS
from ..methods import METHODS, hyperparameters
from ..runs.run import Run


def endings(paths: Iterable[Path]) -> list[str]:
    """The shortest ending of each path that tells it from the others. Raises ConfigError for a path given twice."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ConfigError("a run is given twice")
    for length in itertools.count(1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError


def paired(a: Run, b: Run) -> bool:
    """Whether two runs saw the same images in the same order under the same draws, from the same seed."""
    return same_images(a, b) and all(getattr(a.config, name) == getattr(b.config, name) for name in having("pairs"))


def grouped(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[str]]:
    """{label: names} of runs that differ by seed alone. A label is the mode, its k, m or n, and the options in which a
    group differs from the first run, those left out that are the mode's own. A second run of one seed is another group.
    """
    left = {*having("may_differ"), "digest"}  # which `files` begins with
    options = [{n: v for n, v in run.config.to_dict().items() if n not in left} for run in runs]
    for o, run in zip(options, runs, strict=True):
        o |= {"files": run.probe["files"][:6]} if run.probe["files"] else {}
    values: dict[str, set[str]] = {}
    for o in options:
        for n, v in o.items():
            values.setdefault(n, set()).add(json.dumps(v, sort_keys=True))
    fields = {f.name: f.default for f in dataclasses.fields(Config)}
    groups: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    runs_of_key: Counter[str] = Counter()
    for o, name, run in zip(options, names, runs, strict=True):
        method = METHODS[o["mode"]]
        solver = SOLVERS.get(o.get("eta") or "", method.solve)
        defaults = fields | hyperparameters(solver) | {"predictor": method.predictor, "k": method.k, "mode": o["mode"]}
        alike = [other for other in options if other["mode"] == o["mode"]]
        candidates = (
            n for n in o if len(values[n]) > 1 or n in HYPERPARAMETERS or any(n not in other for other in alike)
        )
        shown = [
            f"{n}={_written(o[n])}"
            for n in candidates
            if _tells(n, o[n]) or o[n] not in (defaults.get(n), options[0].get(n))
        ]
        text = " ".join([o["mode"], *shown])
        key = json.dumps(o, sort_keys=True)
        runs_of_key[f"{run.config.seed} {key}"] += 1
        key += f" {runs_of_key[f'{run.config.seed} {key}']}"
        labels.setdefault(key, text if text not in labels.values() else f"{text} ({len(labels) + 1})")
        groups.setdefault(labels[key], []).append(name)
    return groups


def _tells(name: str, value: Any) -> bool:
    """Whether a hyper-parameter belongs into each label."""
    return name in ("m", "n") or (name == "k" and value > 1)


def _written(value: Any) -> str:
    return ",".join(f"{n}:{v}" for n, v in value.items() if v) if isinstance(value, dict) else str(value)


def same_images(a: Run, b: Run) -> bool:
    """Whether two runs' snapshots show the same images."""
    return a.config.dataset == b.config.dataset and all(a.probe[name] == b.probe[name] for name in ("ids", "files"))


def same_start(a: Run, b: Run) -> bool:
    """Whether two runs begin with the same F."""
    return all(getattr(a.config, name) == getattr(b.config, name) for name in having("starts_F"))
