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
from ..methods import METHODS
from ..runs.run import Run
from ..traits import hyperparameters


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


WIDEST = 40  # characters of a label


def grouped(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[str]]:
    """{label: names} of runs that differ by seed alone; a second run of one seed is another group.

    A label is the mode, its k, m or n, and the options in which a group differs from the first run on its data set,
    those left out that are the mode's own; the data set stands before it where there are several. Instead of a label of
    more than WIDEST characters there is the name of its run, or its beginning.
    """
    left = {*having("may_differ"), "digest"}  # which `files` begins with
    options = [{n: v for n, v in run.config.to_dict().items() if n not in left} for run in runs]
    for o, run in zip(options, runs, strict=True):
        o |= {"files": run.probe["files"][:6]} if run.probe["files"] else {}
    sets = list(dict.fromkeys(o["dataset"] for o in options))
    found: dict[str, list[str]] = {}  # by what a group has in common
    of: dict[str, dict[str, Any]] = {}
    runs_of_key: Counter[str] = Counter()
    for o, name, run in zip(options, names, runs, strict=True):
        key = json.dumps(o, sort_keys=True)
        runs_of_key[f"{run.config.seed} {key}"] += 1
        key += f" {runs_of_key[f'{run.config.seed} {key}']}"
        found.setdefault(key, []).append(name)
        of[key] = o

    def label(o: dict[str, Any], *, missing: bool) -> str:
        alike = [other for other in options if other["dataset"] == o["dataset"]]
        return (f"{o['dataset']}: " if len(sets) > 1 else "") + _label(o, alike, missing)

    texts = {key: label(o, missing=False) for key, o in of.items()}
    seen = Counter(texts.values())
    texts = {key: text if seen[text] == 1 else label(of[key], missing=True) for key, text in texts.items()}
    groups: dict[str, list[str]] = {}
    for key, members in found.items():
        text = texts[key]
        if len(text) > WIDEST:
            text = members[0] if len(members) == 1 and len(members[0]) <= WIDEST else f"{text[: WIDEST - 6]}…"
        if text in groups:
            text = next(t for i in itertools.count(2) if (t := f"{text[: WIDEST - 5]} ({i})") not in groups)
        groups[text] = members
    return groups


def _label(o: dict[str, Any], alike: Sequence[dict[str, Any]], missing: bool) -> str:
    """A run's options in words, among the options of all runs on the same data set.

    missing: also those that some runs do not have and that all others have alike, as they follow from what differs.
    """
    first, method = alike[0], METHODS[o["mode"]]
    solver = SOLVERS.get(o.get("eta") or "", method.solve)
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Config)} | hyperparameters(solver)
    defaults |= {"predictor": method.predictor, "k": method.k, "mode": o["mode"], "dataset": o["dataset"]}
    shown = []
    for name, value in o.items():
        usual = defaults.get(name) if defaults.get(name) is not None else first.get(name)
        differs = any(other.get(name, None if missing else value) != value for other in alike)
        if _tells(name, value) or (value != usual and (differs or name in HYPERPARAMETERS)):
            shown.append(f"{name}={_written(value, first.get(name))}")
    return " ".join([o["mode"], *shown])


def _tells(name: str, value: Any) -> bool:
    """Whether a hyper-parameter belongs into each label."""
    return name in ("m", "n") or (name == "k" and value > 1)


def _written(value: Any, first: Any) -> str:
    """A value; of several under names those that the first run has otherwise."""
    if not isinstance(value, dict):
        return str(value)
    known = first if isinstance(first, dict) else {}
    return ",".join(f"{n}:{v}" for n, v in value.items() if v != known.get(n))


def same_images(a: Run, b: Run) -> bool:
    """Whether two runs' snapshots show the same images."""
    return a.config.dataset == b.config.dataset and all(a.probe[name] == b.probe[name] for name in ("ids", "files"))


def same_start(a: Run, b: Run) -> bool:
    """Whether two runs begin with the same F."""
    return all(getattr(a.config, name) == getattr(b.config, name) for name in having("starts_F"))
