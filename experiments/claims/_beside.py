"""Which numbers do the pages give beside the rules? A text names one as [[name]]; here it is computed of the runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emsiam.diagnostics.statistics import Estimate, mean, welch

from .._records import Record
from . import both_halves, consistency, controls, delay, eta_step, first_visits, many_steps
from ._rules import LOST
from ._settings import H_IN_ETA, H_TARGET, NO_H, SIMSIAM, at, curve, last

Groups = Mapping[str, Sequence[Record]]


def numbers(made: Mapping[str, Any], groups: Mapping[str, Groups]) -> dict[str, str]:
    """{name: number in words} of all claims that are decided."""
    found: dict[str, str] = {}
    for names, count in COUNTED:
        if all(made[name]["cells"] for name in names):
            found |= count(*({g: ended(runs) for g, runs in groups[name].items()} for name in names))
    return found


def ended(runs: Sequence[Record]) -> list[Record]:
    return [r for r in runs if r.summary["verdict"] != "diverged"]


def filled(text: str, found: Mapping[str, str]) -> str:
    """A text with its numbers, and … for what is not decided yet."""
    return re.sub(r"\[\[(\w+)\]\]", lambda m: found.get(m[1], "…"), text)


def points(found: Estimate) -> str:
    """An estimate in points, with its 95 % interval."""
    return interval(found._replace(mean=100 * found.mean, error=100 * found.error), 1)


def interval(found: Estimate, digits: int = 2) -> str:
    """An estimate with its 95 % interval."""
    mean_, low, high = (round(x, digits) + 0.0 for x in (found.mean, *found.interval()))  # no −0.0
    return f"{mean_:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})".replace("-", "−")


def percent(found: Estimate) -> str:
    """A share in percent, with its 95 % interval."""
    value, _, span = interval(found._replace(mean=100 * found.mean, error=100 * found.error), 0).partition(" ")
    return f"{value} % {span}"


def average(runs: Sequence[Record], name: str, digits: int = 3) -> str:
    return interval(mean(last(runs, name)), digits)


def of_one_loss(found: Groups) -> dict[str, str]:
    said = {}
    for row in (NO_H, H_TARGET, H_IN_ETA):
        runs, base = (found[f"digits, k = 100: {name}"] for name in (row.name, SIMSIAM.name))
        of = f"knn_{row.sees}"
        said[f"short_{CALLED[row.name]}"] = points(welch(at(base, of, eta_step.STEPS), at(runs, of, eta_step.STEPS)))
    start, kept = found["digits, k = 1: h∘F as target"], found["digits, from SimSiam: h∘F as target"]
    for when, runs in (("start", start), ("kept", kept)):
        said |= {f"{when}_{of}": average(runs, f"knn_{of}") for of in ("z", "p")}
    return said | {"kept_rank": average(kept, "pr_z", 1)}


def of_eta_step(found: Groups) -> dict[str, str]:
    simsiam, literal = (found[f"digits, k = 100: {row.name}"] for row in (SIMSIAM, NO_H))
    rises = np.concatenate([eta_step.fell(r, "trained_solved") < 0 for r in simsiam])
    said = {"rises": f"{rises.sum()} of {rises.size}"}
    for row in (NO_H, H_TARGET, H_IN_ETA):
        runs = found[f"digits, k = 100: {row.name}"]
        said[f"g1_{CALLED[row.name]}"] = interval(mean(eta_step.taken(runs)))
    both = [np.logical_and(*(half[:ALTERNATIONS] for half in both_halves.half(r, "f"))).mean() for r in literal]
    said["literal_both"] = interval(mean(both))
    for name, runs in (("simsiam", simsiam), ("literal", literal)):
        late = [theta_steps(r, "f")[LATE:ALTERNATIONS].mean() for r in runs]
        said[f"{name}_theta"] = interval(mean(late), 4)
    return said


def theta_steps(run: Record, of: str) -> np.ndarray:
    """What L fell by from the end of one η-step to the beginning of the next, by alternation."""
    (_, before), (_, solved) = (curve(run, f"{of}_{end}") for end in ("before", "solved"))
    return solved[1:-1] - before[1:]


def of_both_halves(found: Groups, delayed: Groups) -> dict[str, str]:
    runs, windows = found[both_halves.ROW], delayed[SIMSIAM.name]
    eta = np.concatenate([both_halves.half(r, "f")[0] for r in runs])
    theta = mean([both_halves.half(r, "f")[1].mean() for r in runs])
    cosine = mean([curve(r, "cosine")[1][-1] for r in runs])
    other = mean([both_halves.descents(r, "other") for r in runs])
    own = mean([both_halves.descents(r, "f") for r in runs])
    said = {"eta_down": f"{eta.sum()} of {eta.size}", "theta_down": interval(theta)}
    said |= {"both_other": interval(other), "both_own": interval(own), "cosine": interval(cosine, 3)}
    falls = [curve(r, "f_before")[1] for r in runs]
    both = [np.logical_and(*both_halves.half(r, "f")) for r in runs]
    shares = [(x[:-1] - x[1:])[b].sum() / (x[0] - x[-1]) for x, b in zip(falls, both, strict=True)]
    of_others = [curve(r, "other_before")[1] for r in runs]
    said |= {"fall_both": interval(mean(shares)), "others_least": f"{min(x.min() for x in of_others):.2f}"}
    gains = np.concatenate([eta_step.fell(r, "trained_solved") > 0 for r in windows])
    said |= {"windows": f"{gains.sum()} of {gains.size}", "window_share": interval(mean(eta_step.taken(windows)))}
    for name, of in (("trained", "trained"), ("five", "f")):
        down = mean([both_halves.half(r, of)[1].mean() for r in windows])
        said[f"window_{name}"] = percent(down)
    return said


def of_consistency(found: Groups) -> dict[str, str]:
    most, simsiam = (found[consistency.name(part)] for part in (0.9, 0.0))
    ranks = [np.log(last(runs, "pr_z")) for runs in (most, simsiam)]
    return {
        "rank_most": ratio(welch(*ranks)),
        "length_most": f"{consistency.weight(most, 0.9):.2f}",
        "whole_z": average(found[consistency.name(1.0)], "knn_z"),
        "most_z": average(most, "knn_z"),
    }


def ratio(logs: Estimate) -> str:
    """An estimate of a logarithm as a ratio."""
    low, high = logs.interval()
    return f"{np.exp(logs.mean):.2f} ({np.exp(low):.2f} to {np.exp(high):.2f})"


def of_delay(found: Groups, one_loss: Groups) -> dict[str, str]:
    bank, simsiam, without = found[delay.BANK], found[SIMSIAM.name], one_loss["digits, k = 1: no h"]
    said = {}
    for name, runs in (("average", bank), ("without", without)):
        fell = [a - b for a, b in zip(at(runs, "knn_z", 0), last(runs, "knn_z"), strict=True)]
        said[f"{name}_below"] = points(mean(fell))
        said[f"{name}_lost"] = f"{sum(x >= LOST for x in fell)} of {len(fell)}"
    for name, number in (("z", "knn_z"), ("backbone", "knn_backbone"), ("linear", "linear")):
        said[f"less_{name}"] = points(welch(last(simsiam, number), last(bank, number)))
        said[f"helps_{name}"] = points(welch(last(bank, number), last(without, number)))
    return said


def of_first_visits(found: Groups) -> dict[str, str]:
    pairs = {
        (images, first): (found[f"{images} images, {first}"], found[f"{images} images, {SIMSIAM.name}"])
        for images in first_visits.IMAGES
        for first in first_visits.FIRST
    }
    said = {}
    for name in ("knn_z", "knn_backbone", "linear"):
        less = [100 * welch(last(simsiam, name), last(runs, name)).mean for runs, simsiam in pairs.values()]
        said[f"visits_{name.removeprefix('knn_')}"] = f"{min(less):.1f} to {max(less):.1f}".replace("-", "−")
    fell = [np.subtract(at(runs, "knn_z", 0), last(runs, "knn_z")) for runs, _ in pairs.values()]
    lost = np.concatenate(fell) >= LOST
    ranks = [np.mean(last(runs, "pr_z")) / np.mean(last(simsiam, "pr_z")) for runs, simsiam in pairs.values()]
    few = [pairs[320, first] for first in first_visits.FIRST]
    gains = [points(welch(last(runs, "knn_backbone"), last(simsiam, "knn_backbone"))) for runs, simsiam in few]
    said |= {"visits_lost": f"{lost.sum()} of {lost.size}", "visits_few": ", ".join(gains)}
    return said | {"visits_rank": f"{min(ranks):.2f} to {max(ranks):.2f}"}


def of_many_steps(found: Groups) -> dict[str, str]:
    one = last(found["k = 1"], many_steps.NUMBER)
    said = {"trial_sd": f"{100 * np.std(last(found[many_steps.TRIAL], many_steps.NUMBER), ddof=1):.2f}"}
    for k in (*many_steps.CELLS, *many_steps.SHOWN):
        said[f"steps_{k}"] = points(welch(last(found[f"k = {k}"], many_steps.NUMBER), one))
    return said


def of_controls(found: Groups) -> dict[str, str]:
    """Under how many controls a row's A_z is clearly below SimSiam's by 5 points, or within 1 point of it."""
    cells = [cell for cell in controls.judge(found) if np.isfinite(cell.mean)]
    said = {}
    for row, name in (*CALLED.items(), *((row.name, f"part_{i}") for i, row in enumerate(controls.MIXED))):
        its = [cell for cell in cells if cell.name.endswith(f": {row}")]
        said[f"far_{name}"] = f"{sum(cell.low > 0.05 for cell in its)} of {len(its)}"
        said[f"near_{name}"] = f"{sum(cell.low > -0.01 and cell.high < 0.01 for cell in its)} of {len(its)}"
    return said


CALLED = {NO_H.name: "no_h", H_TARGET.name: "target", H_IN_ETA.name: "in_eta"}
ALTERNATIONS, LATE = eta_step.STEPS // 100 - 1, 9  # at k = 100 with an η before them; after which (5) hardly falls
COUNTED: list[tuple[tuple[str, ...], Callable[..., dict[str, str]]]] = [
    (("one_loss",), of_one_loss),
    (("eta_step",), of_eta_step),
    (("both_halves", "delay"), of_both_halves),
    (("consistency",), of_consistency),
    (("delay", "one_loss"), of_delay),
    (("first_visits",), of_first_visits),
    (("many_steps",), of_many_steps),
    (("controls",), of_controls),
]
