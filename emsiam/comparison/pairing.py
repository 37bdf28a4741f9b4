"""Which runs go together? Pairs of one seed, groups that differ by seed alone, and how each is called."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config import HYPERPARAMETERS, having
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

    A label is the mode, its solver, k, m or n, and the options in which groups on its data set differ, for each of them
    alike, those left out that are the mode's own; the data set stands before it where there are several. Where that is
    more than WIDEST characters, the rarest options that have room stand there, and "…". Where that does not tell a
    group from the others, there is the name of its run instead, or the beginning.
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

    def words(o: dict[str, Any], *, missing: bool) -> tuple[str, ...]:
        alike = [_flat(other) for other in of.values() if other["dataset"] == o["dataset"]]
        return ((f"{o['dataset']}: " if len(sets) > 1 else "") + o["mode"], *_told(_flat(o), alike, missing))

    told = {key: words(o, missing=False) for key, o in of.items()}
    seen = Counter(told.values())
    told = {key: w if seen[w] == 1 else words(of[key], missing=True) for key, w in told.items()}
    common = Counter(word for w in told.values() for word in w)
    texts = {key: _with_room(w, common) for key, w in told.items()}
    alike = Counter(texts.values())
    groups: dict[str, list[str]] = {}
    for key, members in found.items():
        text = texts[key]
        if alike[text] > 1 and text.endswith("…") and len(members) == 1 and len(members[0]) <= WIDEST:
            text = members[0]
        if text in groups:
            text = next(t for i in itertools.count(2) if (t := f"{text[: WIDEST - 5]} ({i})") not in groups)
        groups[text] = members
    return groups


def _told(o: dict[str, Any], alike: Sequence[dict[str, Any]], missing: bool) -> list[str]:
    """A run's options in words, among the options of all groups on the same data set.

    missing: also those that some do not have and that all others have alike, as they follow from what differs.
    """
    own = _own(o)
    of_mode = [(other, _own(other)) for other in alike if other["mode"] == o["mode"]]
    shown = []
    for name, value in o.items():
        if name in ("mode", "dataset"):
            continue
        among = alike
        if name in own and value == own[name]:  # told where a group of this mode chose another
            among = [other for other, its in of_mode if other.get(name, value) != its.get(name, value)]
        differs = any(other.get(name, None if missing else value) != value for other in among)
        chosen = name in HYPERPARAMETERS and name in own and value != own[name]
        if _tells(name, value) or chosen or differs:
            shown.append(f"{name}={_written(value)}")
    return shown


def _own(o: dict[str, Any]) -> dict[str, Any]:
    """What a run's mode, solver and width bring by themselves."""
    method = METHODS[o["mode"]]
    own = hyperparameters(SOLVERS.get(o.get("eta") or "", method.solve)) | {"pred_dim": max(1, o["dim"] // 4)}
    return own | {name: getattr(method, name) for name in ("predictor", "k", "stop_grad", "bn")}


def _tells(name: str, value: Any) -> bool:
    """Whether an option belongs into each label."""
    return name in ("eta", "m", "n") or (name == "k" and value > 1)


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Options, those in place of one that holds several under names."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _written(value: Any) -> str:
    """A value as on the command line; of a path its last part."""
    return ":".join(f"{x:g}" for x in value) if isinstance(value, list | tuple) else str(value).rpartition("/")[2]


def _with_room(words: Sequence[str], common: Counter[str]) -> str:
    """Words in at most WIDEST characters, in their order; "…" where some are left out, the commonest first."""
    if len(text := " ".join(words)) <= WIDEST:
        return text
    chosen = [words[0]]
    for word in sorted(words[1:], key=common.__getitem__):
        if len(" ".join([*chosen, word, "…"])) <= WIDEST:
            chosen.append(word)
    return " ".join([*(word for word in words if word in chosen), "…"])


def reached(run: Run, path: Iterable[int]) -> int:
    """The last step that is known of a run, of its lines or of its snapshots."""
    return max(run.so_far["steps"], *path)


def same_images(a: Run, b: Run) -> bool:
    """Whether two runs' snapshots show the same images."""
    return a.config.dataset == b.config.dataset and all(a.probe[name] == b.probe[name] for name in ("ids", "files"))


def same_start(a: Run, b: Run) -> bool:
    """Whether two runs begin with the same F."""
    return all(getattr(a.config, name) == getattr(b.config, name) for name in having("starts_F"))
