"""How often is the doctor right? Its verdict at every look beside the truth, and single numbers as detectors."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emsiam.diagnostics.evidence import many_images
from emsiam.diagnostics.verdict import Evidence, Judgement, Number, Seen, judge

from .._records import Record
from .runs import MONITOR

LOST, KEPT = -0.03, -0.01  # of an accuracy, against the same output before training
CONSTANT = 0.1
LATER = 4  # times the steps
MOVED = 0.9
RESAMPLES = 2000
SMALL = {"64 images": 64, "every image twice": 512}
IMAGES = 512
SINGLE = {  # number of z: whether a low one is to mean collapse
    "z_std_ratio": True,
    "participation_ratio": True,
    "effective_rank": True,
    "rankme": True,
    "lidar_8": True,
    "singular_value_auc": False,
    "alpha_req": False,
    "monai": False,
    "between_share_8": True,
    "view_auc": True,
}


class Row(NamedTuple):
    """A look at a run."""

    key: str  # of the run
    case: str
    data: str
    step: int
    way: str  # how it was looked at
    lost: bool | None  # images of z; None: between
    lost_p: bool | None  # of p, which is z where there is no h
    constant: bool  # z or p
    will_lose: bool | None  # None: lost already, between, or not looked at later
    evidence: Evidence
    judgement: Judgement
    numbers: dict[str, float]


def rows(records: Iterable[Record]) -> list[Row]:
    """All looks after the first step."""
    return [row for record in records for row in of_run(record)]


def lines(record: Record) -> list[dict[str, Any]]:
    """What was recorded, a line a look."""
    return [dict(zip(record.curves, values, strict=True)) for values in zip(*record.curves.values(), strict=True)]


def of_run(record: Record) -> list[Row]:
    looks = [look for look in lines(record) if not look["as"].startswith(MONITOR)]
    first, plain = looks[0], {look["step"]: look for look in looks if not look["as"]}
    state = {step: lost(look, first) for step, look in plain.items()}
    found = []
    for look in looks[1:]:
        if look.get("z_z_std_ratio") is None:
            continue
        step, now = look["step"], plain[look["step"]]
        later = next((state[s] for s in state if round(s / step, 1) == LATER and state[step] is False), None)
        spread = [now[f"{name}_z_std_ratio"] for name in ("z", "p")]
        evidence = evidence_of(look, first, record.config["dim"])
        numbers = {name: look[f"z_{name}"] for name in SINGLE if look.get(f"z_{name}") is not None}
        found.append(
            Row(
                record.key,
                record.config["case"],
                record.config["data"],
                step,
                look["as"],
                state[step],
                lost(now, first, "p"),
                min(spread) < CONSTANT,
                later,
                evidence,
                judge(evidence),
                numbers,
            )
        )
    return found


class Watched(NamedTuple):
    """What `emsiam.Monitor` said while a run was trained."""

    key: str
    case: str
    data: str
    lost: bool | None  # images of z, at any look; None: never, but once between
    constant: bool  # z or p, at any look
    warned: dict[str, int]  # of what, and at which step
    moved: int | None  # the step at which std·√d is first below MOVED of its first value, if it ever is


def watched(record: Record) -> Watched | None:
    """Nothing of a run without a monitor."""
    looks = lines(record)
    seen = [look for look in looks if look["as"] == MONITOR]
    if not seen:
        return None
    first, *plain = (look for look in looks if not look["as"])
    states = [lost(look, first) for look in plain]
    spreads = [look.get(f"{of}_z_std_ratio") for look in plain for of in ("z", "p")]
    start = seen[0]["z_z_std_ratio"]
    moved = [at["step"] for at in seen if at["z_z_std_ratio"] is None or at["z_z_std_ratio"] < MOVED * start]
    return Watched(
        record.key,
        record.config["case"],
        record.config["data"],
        True if True in states else None if None in states else False,
        any(x is not None and x < CONSTANT for x in spreads),
        {
            look["as"].removeprefix(f"{MONITOR}: "): look["step"]
            for look in looks
            if look["as"].startswith(f"{MONITOR}: ")
        },
        min(moved, default=None),
    )


def lost(look: dict[str, Any], first: dict[str, Any], of: str = "z") -> bool | None:
    """Whether images of z, or p, are lost, by kNN or by ridge regression; None between the margins."""
    names = [f"{by}_{of}" for by in ("knn", "linear") if look.get(f"{by}_{of}") is not None]
    moved = [round(look[name] - first[name], 9) for name in names]
    if not moved:
        return None
    return True if min(moved) <= LOST else False if min(moved) >= KEPT else None


def evidence_of(look: dict[str, Any], first: dict[str, Any], width: int) -> Evidence:
    """What the rule looks at."""

    def number(line: dict[str, Any], name: str) -> Number | None:
        values = [float(x) for end in ("", "_low", "_high") if (x := line.get(f"{name}{end}")) is not None]
        return Number(*values) if len(values) == len(Number._fields) else None

    def seen(line: dict[str, Any], of: str) -> Seen | None:
        spread, rank = (number(line, f"{of}_{n}") for n in ("residual_norm", "participation_ratio"))
        if not (spread and rank):
            return None
        directions = Number(*(many_images(ratio, images, width) for ratio in rank))
        return Seen(spread, directions, number(line, f"{of}_view_auc"))

    images = SMALL.get(look["as"], IMAGES)
    return Evidence(
        images,
        seen(look, "z"),
        seen(look, "p"),
        seen(first, "z"),
        seen(first, "x"),
        look["step"],
    )


def says_lost(j: Judgement) -> bool | None:
    """Whether a verdict says that images are lost; None where it does not say."""
    if j.verdict in ("undecided", "too early to say"):
        return None
    return j.number in ("view_auc", "z_residual_norm", "p_residual_norm", "finite")


def says_ill(j: Judgement) -> bool:
    """Whether a verdict says anything against a representation."""
    return j.verdict not in ("healthy", "undecided", "too early to say")


class Rate(NamedTuple):
    """A share of looks, with a 95 % interval over runs; NaN of one run."""

    share: float
    low: float
    high: float
    looks: int
    runs: int


def rate(pairs: Sequence[tuple[str, bool]], seed: int = 0) -> Rate | None:
    """The share of (run, whether) pairs that hold; None where there are none.

    The interval is by bootstrap over runs; where it has no width, as all looks are alike, by Clopper and Pearson.
    """
    if not pairs:
        return None
    by_run: dict[str, list[bool]] = {}
    for key, value in pairs:
        by_run.setdefault(key, []).append(value)
    right = np.array([sum(v) for v in by_run.values()], float)
    count = np.array([len(v) for v in by_run.values()], float)
    drawn = np.random.default_rng(seed).integers(len(right), size=(RESAMPLES, len(right)))
    many = right[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(many, [0.025, 0.975])
    share, runs = float(right.sum() / count.sum()), len(right)
    if runs == 1:
        low = high = math.nan
    elif share in (0, 1):
        low, high = (0, 1 - 0.025 ** (1 / runs)) if share == 0 else (0.025 ** (1 / runs), 1)
    return Rate(share, float(low), float(high), int(count.sum()), runs)


def area(scores: np.ndarray, ill: np.ndarray) -> float:
    """The chance that an ill look has a larger score than another one: the area under the ROC curve."""
    from scipy.stats import rankdata

    n = int(ill.sum())
    if n in (0, len(ill)):
        return math.nan
    return float((rankdata(scores)[ill].sum() - n * (n + 1) / 2) / (n * (len(ill) - n)))


def detector(found: Sequence[Row], name: str, truth: str, seed: int = 0) -> Rate | None:
    """A single number as a detector of a truth: the area, with an interval over runs."""
    used = [row for row in found if getattr(row, truth) is not None and name in row.numbers]
    if len({getattr(row, truth) for row in used}) < 2:
        return None
    sign = -1 if SINGLE[name] else 1
    scores = np.array([sign * row.numbers[name] for row in used])
    ill = np.array([bool(getattr(row, truth)) for row in used])
    keys = np.array([row.key for row in used])
    places = {key: np.flatnonzero(keys == key) for key in dict.fromkeys(keys.tolist())}
    rng, names, many = np.random.default_rng(seed), list(places), []
    for _ in range(RESAMPLES // 4):
        which = np.concatenate([places[names[i]] for i in rng.integers(len(names), size=len(names))])
        many.append(area(scores[which], ill[which]))
    low, high = np.nanquantile(many, [0.025, 0.975])
    return Rate(area(scores, ill), float(low), float(high), len(used), len(names))
