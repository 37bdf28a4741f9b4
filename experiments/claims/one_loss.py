"""No alternation whose two halves share one loss keeps what SimSiam keeps of images.

Why it can fail: §5.3 says that the alternation stays away from a constant because its first η is none and because
the optimiser has no gradient over all η_x together. That holds for every row below, so one of them should do as
SimSiam.
Rows: no h, η = F of the other view; h in θ with target h∘F (equal to no h with a deeper projector, which a test
shows); h in the η-step, §5.1 read literally: F is trained on h(F(T′x)) while h regresses E_T[F], starting from
SimSiam's h where F starts from SimSiam's.
Setting: digits, 4,400 steps, constant lr: k = 1 (10 seeds), k = 100 (5), and 4,400 steps on from a SimSiam of 1,320
(5). Shapes with a T of 16 draws, all of which make η, 1,092 steps (3). Fashion-MNIST at 14×14, 10,240 images, 3,040
steps (5).
Outcome: A_g at the end.
Cells: SimSiam's less a row's, in each setting.
Margins: passes above 5 points, fails below 1. On Fashion-MNIST SimSiam gains few points over the z of untrained
weights (untrained p is worse, and would make the gain look large): there a cell is the middle between those two
less a row's A_g, so it passes above 0, half of the gain being gone, and fails where less than a quarter of it is
gone.
Reason for 5 points: SimSiam's own A_p spread over 1 point in trials, images are lost at 3.
Supported means: what SimSiam keeps is not kept by descending one loss in turns, whichever loss is meant: its θ-step
and its η-step belong to different losses.
Contradicted means: an alternation over one loss can do what SimSiam does, and the hypothesis can be kept with that
loss.
Changes: none.
"""

from collections.abc import Mapping, Sequence

from .._records import Record
from ._rules import FIVE, SEEDS, THREE, Cell, above, bootstrap, difference
from ._runs import Spec
from ._settings import (
    DIGITS,
    FASHION,
    H_IN_ETA,
    H_TARGET,
    NO_H,
    ONE_LOSS,
    SIMSIAM,
    Row,
    at,
    k_steps,
    last,
    of_seeds,
    rights,
)

SHAPES = {
    "dataset": "shapes",
    "num_images": 5000,
    "batch_size": 32,
    "epochs": 7,
    "precision": "bf16",
    "lr": 0.3,
    "augment": "redraw=16",
}
OF_ALL = {  # all of a finite T in η
    NO_H.name: {"predictor": "none", "eta": "every_view"},
    H_TARGET.name: {"eta": "predicted_every_view"},
    H_IN_ETA.name: {"predictor": "none", "eta": "regressed", "eta_args": "rate=0.0375"},
}
FASHION_MNIST = "Fashion-MNIST"
AGO = 1320  # steps of SimSiam before
PASSES, FAILS = 0.05, 0.01
HALF, QUARTER = 0.5, 0.25


def settings(row: Row) -> dict[str, list[Spec]]:
    """{setting: a row's runs}."""
    digits, o = {"ledger_every": 100}, row.options
    fashion = {**FASHION, "num_images": 10_240, "epochs": 19, **o}
    if row is H_IN_ETA:
        fashion["eta_args"] = "rate=0.025"  # the encoder's own
    return {
        "digits, k = 1": of_seeds({**DIGITS, **o}, SEEDS, **digits),
        "digits, k = 100": of_seeds({**DIGITS, **k_steps(100), **o}, FIVE, **digits),
        "digits, from SimSiam": of_seeds({"epochs": 520, **o}, FIVE, switched_at=AGO, **digits),
        "shapes, all of T": of_seeds({**SHAPES, **OF_ALL.get(row.name, o)}, THREE, right_every=364),
        FASHION_MNIST: of_seeds(fashion, FIVE, right_every=1520),
    }


def wanted() -> dict[str, list[Spec]]:
    return {f"{where}: {row.name}": runs for row in (SIMSIAM, *ONE_LOSS) for where, runs in settings(row).items()}


def judge(found: Mapping[str, Sequence[Record]]) -> list[Cell]:
    cells = []
    for where in settings(SIMSIAM):
        base = found[f"{where}: {SIMSIAM.name}"]
        for row in ONE_LOSS:
            cells.append(cell(f"{where}: {row.name}", base, found[f"{where}: {row.name}"], row))
    return cells


def cell(name: str, base: Sequence[Record], runs: Sequence[Record], row: Row) -> Cell:
    ours, theirs = last(base, "knn_p"), last(runs, f"knn_{row.sees}")
    both = bootstrap(rights(base, "p"), rights(runs, row.sees))
    note = f"A_g {sum(theirs) / len(theirs):.3f}, SimSiam {sum(ours) / len(ours):.3f}"
    if not name.startswith(FASHION_MNIST):
        return above(name, difference(ours, theirs), PASSES, fails=FAILS, bootstrap=both, note=note)
    untrained = at(base, "knn_z", 0)
    note += (
        f", untrained z {sum(untrained) / len(untrained):.3f}; SimSiam less the row {both[0]:+.3f} to {both[1]:+.3f}"
    )
    half, quarter = (
        difference([(1 - part) * s + part * u for s, u in zip(ours, untrained, strict=True)], theirs)
        for part in (HALF, QUARTER)
    )
    made = above(name, half, 0.0, note=note)
    if difference(ours, untrained).interval()[0] <= 0:
        return made._replace(verdict="undecided", note=f"{note}; SimSiam gains nothing here")
    if made.verdict == "fails" and quarter.interval()[1] >= 0:
        return made._replace(verdict="undecided")
    return made
