"""How do runs move, and where do they part? Runs in, numbers out; docs/numbers.md has the fields."""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..checkpoint import load_checkpoint
from ..config import having
from ..diagnostics import trajectory as t
from ..diagnostics.statistics import difference, mean_interval
from ..errors import ConfigError
from ..metrics import CRITERIA, shown_in
from ..runs.run import Run, check_code
from .pairing import endings, grouped, paired, reached, same_images, same_start

IMAGES = 128  # of the probe set, for Procrustes and the plane


COMPARED = tuple(m.name for m in shown_in("compared"))


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """What can be said of two or more runs, as far as they have come; docs/numbers.md has the fields.

    Raises ConfigError for fewer than two, for one without a line, and for a run given twice.
    """
    if len(runs) < 2:
        raise ConfigError("two or more runs are needed")
    names = endings([run.path for run in runs])
    paths, weights = zip(*map(_read, runs), strict=True)
    groups = grouped(runs, names)
    similar = _cka(runs, paths)
    listed = [_describe(run, name, path) for run, name, path in zip(runs, names, paths, strict=True)]
    for entry, group in zip(listed, (g for n in names for g in groups if n in groups[g]), strict=True):
        entry["group"] = group
    short = cache(lambda i, step: _short(paths[i][step]))
    pairs = []
    for i, j in itertools.combinations(range(len(runs)), 2):
        cka = similar[i, j]
        pairs.append(
            {
                "a": names[i],
                "b": names[j],
                "paired": paired(runs[i], runs[j]),
                "same_images": same_images(runs[i], runs[j]),
                "cka": cka,
                "procrustes": {s: t.procrustes(short(i, s), short(j, s)) for s in _few(sorted(cka))},
                "parts_at": t.parting(cka) if paired(runs[i], runs[j]) and same_start(runs[i], runs[j]) else None,
                "angle_of_weights": _angles(weights[i], weights[j]) if same_start(runs[i], runs[j]) else {},
                "unlike": _unlike(runs[i], runs[j]),
            }
        )
        pairs[-1]["note"] = _note(pairs[-1], listed[i], listed[j])
    return {
        "runs": listed,
        "groups": [_summarise(name, members, runs, names) for name, members in groups.items()],
        "pairs": pairs,
        "seed_band": {name: _band(members, names, similar) for name, members in groups.items() if len(members) > 1},
        "differences": list(_differences(groups, runs, names)),
        "plane": _plane(runs, names, [{s: t.gram(z[:IMAGES]) for s, z in path.items()} for path in paths], same_images),
        "weight_plane": _plane(runs, names, weights, same_start),
    }


def _read(run: Run) -> tuple[t.Path, t.Path]:
    """Snapshots and weights of a run. Raises ConfigError where something of it is missing or damaged."""
    about = "summary.json"
    try:
        numbers = [run.so_far[name] for name in ("loss", "steps", *(n for n in COMPARED if n in run.so_far))]
        if not all(x is None or isinstance(x, int | float) for x in numbers) or not isinstance(
            run.so_far["verdict"], str
        ):
            raise ValueError
        about = "metrics.jsonl"
        _ = run.metrics[["step", "lr", "loss", *(n for n in COMPARED if n in run.metrics)]].astype(float)
        about = "probe.json"
        images = len(run.probe["ids"])
        _ = run.probe["labels"], run.probe["files"]
        about = "snapshots"
        path = run.snapshots()
        z = path[0]
        if (
            z.ndim != 2
            or len(z) != images
            or any(x.shape != z.shape or not np.isfinite(x).all() for x in path.values())
        ):
            raise ValueError
        about = "weights"
        weights = run.weights()
        if path.keys() != weights.keys() or any(w.shape != (t.SKETCH,) for w in weights.values()):
            raise ValueError
    except ConfigError:  # which names the file
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{run.path / about} is missing or damaged") from error
    return path, weights


def _few(steps: Sequence[int]) -> list[int]:
    """The first, the last and some between."""
    return sorted({steps[i] for i in np.linspace(0, len(steps) - 1, 9).round().astype(int)}) if steps else []


def _short(z: np.ndarray) -> np.ndarray:
    """z of IMAGES images in a basis of its own, at most IMAGES wide: no distance between images changes."""
    x = z[:IMAGES].astype(np.float64)
    if x.shape[1] <= len(x):
        return x
    x = x - x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u * s


def _angles(a: t.Path, b: t.Path) -> dict[int, float]:
    """Angle in degrees between the ways of two runs from their common start, at the steps that both have."""
    steps = sorted(set(a) & set(b))
    return {s: t.angle(a[s] - a[0], b[s] - b[0]) for s in steps[1:]}


def _cka(runs: Sequence[Run], paths: Sequence[t.Path]) -> dict[tuple[int, int], dict[int, float]]:
    """Linear CKA of every two runs of the same images at the steps that both have, one Gram matrix a snapshot."""
    cka: dict[tuple[int, int], dict[int, float]] = {pair: {} for pair in itertools.combinations(range(len(paths)), 2)}
    for step in sorted(set().union(*paths)):
        grams = {i: t.gram(path[step]).ravel() for i, path in enumerate(paths) if step in path}
        for i, j in itertools.combinations(grams, 2):
            if same_images(runs[i], runs[j]):
                cka[i, j][step] = float(grams[i] @ grams[j])
    return cka


def _describe(run: Run, name: str, path: t.Path) -> dict[str, Any]:
    metrics = run.metrics
    k = int(run.config.k or 1)
    onsets: dict[str, t.Onset | None] = {}
    for criterion, (column, bound) in CRITERIA.items():
        if column not in metrics:  # of runs before it was measured
            onsets[criterion] = None
            continue
        measured = metrics.dropna(subset=[column])
        onsets[criterion] = t.onset(measured.step.tolist(), measured[column].tolist(), bound, measured.lr.tolist(), k)
    ends = t.to_start_and_end(path)
    return {
        "name": name,
        "path": str(run.path),
        "dataset": run.config.dataset,
        "summary": run.so_far,
        "reached": reached(run, path),
        "steps_to_collapse": {criterion: o.step if o else None for criterion, o in onsets.items()},
        "onset": {criterion: o._asdict() if o else None for criterion, o in onsets.items()},
        "cka_to_start": {step: start for step, (start, _) in ends.items()},
        "cka_to_end": {step: end for step, (_, end) in ends.items()},
        "turning": t.turning({step: t.unit(z) for step, z in path.items()}),
        "weights_turning": t.turning(run.weights()),
    }


def _unlike(a: Run, b: Run) -> list[str]:
    """The options by which F begins elsewhere, of two runs of one seed."""
    if a.config.seed != b.config.seed or same_start(a, b):
        return []
    return [name for name in having("starts_F") if getattr(a.config, name) != getattr(b.config, name)]


def _note(pair: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> str:
    """What keeps two runs from being compared throughout."""
    if not pair["same_images"]:
        return f"{a['dataset']} and {b['dataset']}: their probe sets show other images, so z is not compared"
    notes = []
    if a["reached"] != b["reached"]:
        finished = all(run["summary"]["verdict"] != "unfinished" for run in (a, b))
        why = "so other schedules" if finished else "not finished"
        shared = f"z is compared at the {len(pair['cka'])} snapshots that both have"
        notes.append(f"{a['reached']:,} and {b['reached']:,} steps, {why}: {shared}")
    if pair["unlike"]:
        notes.append(f"other {', '.join(pair['unlike'])}: F begins elsewhere")
    return "; ".join(notes)


def _summarise(label: str, members: list[str], runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    values = _values(members, runs, names)
    return {"name": label, "runs": members, "metrics": {m: mean_interval(v) for m, v in values.items()}}


def _values(members: list[str], runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[float]]:
    """The last values of the members, by metric; NaN where a run diverged, is unfinished, or older than the metric."""
    by_name = {name: run.summary if run.finished else {} for name, run in zip(names, runs, strict=True)}
    summaries = [by_name[name] for name in members]
    return {m: [s[m] if s.get(m) is not None else math.nan for s in summaries] for m in COMPARED}


def _band(members: list[str], names: Sequence[str], similar: dict) -> dict[int, tuple[float, float]]:
    """Smallest and largest CKA between seeds of one group, by step: what another seed alone does."""
    chosen = [names.index(name) for name in members]
    curves = [similar[pair] for pair in itertools.combinations(sorted(chosen), 2)]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {step: (min(c[step] for c in curves), max(c[step] for c in curves)) for step in steps}


def _differences(groups: dict[str, list[str]], runs: Sequence[Run], names: Sequence[str]):
    """Every two groups on one data set, every metric: paired where each run of one has its partner in the other."""
    by_name = dict(zip(names, runs, strict=True))
    for a, b in itertools.combinations(groups, 2):
        one, two = groups[a], groups[b]
        if by_name[one[0]].probe["files"] != by_name[two[0]].probe["files"]:  # other images
            continue
        partners = [next((y for y in two if paired(by_name[x], by_name[y])), None) for x in one]
        pairs = None not in partners and len(set(partners)) == len(one) == len(two)
        second = [p for p in partners if p] if pairs else two
        x, y = (_values(members, runs, names) for members in (one, second))
        for metric in COMPARED:
            if all(map(math.isfinite, (*x[metric], *y[metric]))):
                yield {"a": a, "b": b, "metric": metric} | difference(x[metric], y[metric], paired=pairs)._asdict()


def _plane(
    runs: Sequence[Run], names: Sequence[str], paths: Sequence[t.Path], same: Callable[[Run, Run], bool]
) -> dict[str, Any]:
    """Paths of the runs that go with the first in one plane, and the plane of as many random walks of their lengths."""
    chosen = [i for i, run in enumerate(runs) if same(run, runs[0])]
    plane = t.plane([[paths[i][s] for s in sorted(paths[i])] for i in chosen])
    null = t.plane([list(t.random_walk(len(paths[i]), 2000, seed=i)) for i in chosen])
    return {
        "runs": {names[i]: p.tolist() for i, p in zip(chosen, plane.paths, strict=True)},
        "steps": {names[i]: sorted(paths[i]) for i in chosen},
        "explained": plane.explained,
        "random_walk": {"paths": [path.tolist() for path in null.paths], "explained": null.explained},
        "left_out": [name for i, name in enumerate(names) if i not in chosen],
    }


def updates(
    runs: Sequence[Run], groups: dict[str, list[str]], names: Sequence[str], steps: int, code: Collection[str] = ()
) -> dict[str, Any]:
    """Where each group's method would go from the first run's last checkpoint: angles in degrees of every two.

    groups: names of runs by group; names: those of `runs`, in their order. steps: of SGD that each method takes, whose
    sum is its move. code: solvers of the user's own that may run. A method that cannot start there has a reason in
    place of its angles. Raises ConfigError where the first run has no checkpoint. See `emsiam.revisit.update`.
    """
    from ..revisit import update

    moves: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    check_code(runs[0].path, runs[0].config.eta, code)
    if load_checkpoint(runs[0].path) is None:
        raise ConfigError(f"--updates: {runs[0].path} has no checkpoint to start from")
    for name, members in groups.items():
        run = runs[names.index(members[0])]
        try:
            check_code(run.path, run.config.eta, code)  # of the run that names it, not of the one that moves
            moves[name] = update(runs[0], run.config, steps=steps, code=code).cpu().numpy()
        except ConfigError as error:
            refused[name] = str(error)
    angles = [{"a": a, "b": b, "angle": t.angle(moves[a], moves[b])} for a, b in itertools.combinations(moves, 2)]
    return {"from": names[0], "steps": steps, "angles": angles, "refused": refused}
