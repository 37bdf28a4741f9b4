"""Which numbers do the pages give beside the rules? A text names one as [[name]]; here it is computed of the runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emsiam.diagnostics.statistics import Estimate, mean, welch

from .._records import Record
from . import both_halves, consistency, delay, eta_step, first_visits, many_steps
from ._rules import LOST
from ._settings import H_IN_ETA, H_TARGET, NO_H, SIMSIAM, at, curve, last

Groups = Mapping[str, Sequence[Record]]


def numbers(made: Mapping[str, Any], groups: Mapping[str, Groups]) -> dict[str, str]:
    """{name: number in words} of all claims that are decided."""
    found: dict[str, str] = {}
    for claim, count in COUNTED.items():
        if made[claim]["cells"]:
            ended = {g: [r for r in of if r.summary["verdict"] != "diverged"] for g, of in groups[claim].items()}
            found |= count(ended)
    return found


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


def average(runs: Sequence[Record], name: str, digits: int = 3) -> str:
    return f"{mean(last(runs, name)).mean:.{digits}f}"


def of_one_loss(found: Groups) -> dict[str, str]:
    said = {}
    for row in (NO_H, H_TARGET, H_IN_ETA):
        runs, base = (found[f"digits, k = 100: {name}"] for name in (row.name, SIMSIAM.name))
        of = f"knn_{row.sees}"
        said[f"short_{NAMES[row.name]}"] = points(welch(at(base, of, eta_step.STEPS), at(runs, of, eta_step.STEPS)))
    start, kept = found["digits, k = 1: h∘F as target"], found["digits, from SimSiam: h∘F as target"]
    for when, runs in (("start", start), ("kept", kept)):
        said |= {f"{when}_{of}": average(runs, f"knn_{of}") for of in ("z", "p")}
    return said | {"kept_rank": average(kept, "pr_z", 1)}


def of_eta_step(found: Groups) -> dict[str, str]:
    rises = np.concatenate([eta_step.fell(r, "trained_solved") < 0 for r in found[eta_step.ROW]])
    said = {"rises": f"{rises.sum()} of {rises.size}"}
    for row in (NO_H, H_TARGET, H_IN_ETA):
        runs = found[f"digits, k = 100: {row.name}"]
        said[f"g1_{NAMES[row.name]}"] = interval(mean(eta_step.taken(runs)))
    literal = [np.logical_and(*both_halves.half(r, "f")).mean() for r in found[f"digits, k = 100: {NO_H.name}"]]
    return said | {"literal_both": interval(mean(literal))}


def of_both_halves(found: Groups) -> dict[str, str]:
    runs = found[both_halves.ROW]
    eta, theta = (mean([both_halves.half(r, "f")[i].mean() for r in runs]) for i in (0, 1))
    cosine = mean([curve(r, "cosine")[1][-1] for r in runs])
    other = mean([both_halves.descents(r, "other") for r in runs])
    own = mean([both_halves.descents(r, "f") for r in runs])
    said = {"eta_down": f"{100 * eta.mean:.0f} %", "theta_down": interval(theta)}
    return said | {"both_other": interval(other), "both_own": interval(own), "cosine": interval(cosine, 3)}


def of_consistency(found: Groups) -> dict[str, str]:
    most, simsiam = (found[consistency.name(part)] for part in (0.9, 0.0))
    ranks = [np.log(last(runs, "pr_z")) for runs in (most, simsiam)]
    return {
        "window_share": interval(mean(eta_step.taken(simsiam))),
        "rank_most": ratio(welch(*ranks)),
        "length_most": f"{consistency.weight(most, 0.9):.2f}",
        "whole_z": average(found[consistency.name(1.0)], "knn_z"),
        "most_z": average(most, "knn_z"),
    }


def ratio(logs: Estimate) -> str:
    """An estimate of a logarithm as a ratio."""
    low, high = logs.interval()
    return f"{np.exp(logs.mean):.2f} ({np.exp(low):.2f} to {np.exp(high):.2f})"


def of_delay(found: Groups) -> dict[str, str]:
    bank, simsiam = found[delay.BANK], found[SIMSIAM.name]
    fell = [a - b for a, b in zip(at(bank, "knn_z", 0), last(bank, "knn_z"), strict=True)]
    said = {"below_untrained": points(mean(fell)), "seeds_lost": f"{sum(x >= LOST for x in fell)} of {len(fell)}"}
    for name, number in (("z", "knn_z"), ("backbone", "knn_backbone"), ("linear", "linear")):
        said[f"less_{name}"] = points(welch(last(simsiam, number), last(bank, number)))
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
    lost = [np.mean(at(runs, "knn_z", 0)) - np.mean(last(runs, "knn_z")) >= LOST for runs, _ in pairs.values()]
    ranks = [np.mean(last(runs, "pr_z")) / np.mean(last(simsiam, "pr_z")) for runs, simsiam in pairs.values()]
    few = [pairs[320, first] for first in first_visits.FIRST]
    gains = [points(welch(last(runs, "knn_backbone"), last(simsiam, "knn_backbone"))) for runs, simsiam in few]
    said |= {"visits_lost": f"{sum(lost)} of {len(lost)}", "visits_few": ", ".join(gains)}
    return said | {"visits_rank": f"{min(ranks):.2f} to {max(ranks):.2f}"}


def of_many_steps(found: Groups) -> dict[str, str]:
    one = last(found["k = 1"], many_steps.NUMBER)
    said = {"trial_sd": f"{100 * np.std(last(found[many_steps.TRIAL], many_steps.NUMBER), ddof=1):.2f}"}
    for k in (*many_steps.CELLS, *many_steps.SHOWN):
        said[f"steps_{k}"] = points(welch(last(found[f"k = {k}"], many_steps.NUMBER), one))
    return said


NAMES = {NO_H.name: "no_h", H_TARGET.name: "target", H_IN_ETA.name: "in_eta"}
COUNTED: dict[str, Callable[[Groups], dict[str, str]]] = {
    "one_loss": of_one_loss,
    "eta_step": of_eta_step,
    "both_halves": of_both_halves,
    "consistency": of_consistency,
    "delay": of_delay,
    "first_visits": of_first_visits,
    "many_steps": of_many_steps,
}
