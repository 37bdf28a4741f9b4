"""What are the doctor's errors? docs/doctor.md, from the recorded runs."""

import inspect
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence

from emsiam.diagnostics import verdict as rule
from emsiam.diagnostics.verdict import BOUNDS
from emsiam.doctor.examine import examine

from . import __doc__ as truth
from .cases import DATA
from .chosen import chosen, shares
from .judge import MOVED, SINGLE, Rate, Row, Watched, detector, rate, says_ill, says_lost
from .made import arrays

CHOSEN, REPORTED = ("digits", "shapes"), ("Fashion-MNIST", "mnist5k")
HEAD = """# The doctor: is it collapse?

    import emsiam
    print(emsiam.examine(z))                    # [N, d], or better [views, N, d]; numpy or PyTorch
    print(emsiam.examine(model, views))         # what a network makes of views
    print(emsiam.examine("runs/mine"))          # a run, a checkpoint, a file of embeddings
    monitor = emsiam.Monitor(); monitor.update(z)   # in a loop; examples/doctor

    python -m emsiam.diagnose RUN|CHECKPOINT|EMBEDDINGS.npz --html page.html

Files of embeddings are .npy, .npz, .safetensors or .pt. Exit status: 0 healthy, 10 not, 11 undecided or too early to
say, 2 wrong input. Three axes are read as [views, N, d], or as [N, tokens, d], whose mean over tokens is used;
`--layout` says which. An array without negative values is taken for features after a ReLU, and centred. At most 1,024
images are used (256 for a module), the same ones each time. A run needs its images: of one that was trained on
`images=…` pass `run.embed(images).z`.

Made by `python -m experiments.doctor` from results/doctor.runs.jsonl; no number here is typed by hand. A *look* is a
run at one step, as the doctor sees it.
"""

NOW = """*Not healthy*: the verdict is a collapse, or not converging. It *says lost* where it finds too few images again
by their other view, or calls z or p a constant. *Undecided* includes "too early to say", the verdict at step 20 of
every run unless z or p is a constant. The table gives shares of looks, with 95 % intervals over runs. *Between*:
accuracy is 1 to 3 points lower."""
LATER = """These are looks whose images of z are kept. *Not healthy*: a collapse, or not converging. Few directions that
still carry all images are called a dimensional collapse: the table shows how often images are lost afterwards."""
OTHERWISE = """The same networks at their last look were examined again: with fewer images, with every image twice, in
half precision, and with running BN statistics in place of a batch's."""
ALONE = """The area under the ROC curve: the chance that a look whose images are lost has a lower value than one whose
images are kept (a higher one of `singular_value_auc`, `alpha_req` and `monai`, which are high in a collapse);
0.5 is chance. These have no bound, so they are not to be compared with the shares above. A name that ends in
8 uses eight views. `help(emsiam.diagnostics.collapse)` says what each is, with its source; `monai` is the score of
MONAI's EmbeddingCollapseMetric."""

WATCHING = f"""`emsiam.Monitor` stood in the training loop of every run, with what a step makes of its batch: z of two
views, and p. It warns when the rank of z falls, when few directions are left, and when z or p is nearly a constant.
The std *has moved* once std·√d of z is below {MOVED:g} of its value at the first look. A negative number of steps means
that the warning came later."""


CHOICE = """Two bounds are no definitions: how many directions are few, and how often images must be found again. They
were set by trials on digits and shapes before these runs. Here each pair of data sets chooses the bounds with the
largest score on its own looks. The score is made of the shares in the last four columns: the first minus the second,
plus the third minus the fourth. The table shows these shares on the other pair, beside those of the rule's bounds."""


def text(found: Sequence[Row], monitors: Sequence[Watched]) -> str:
    """The text of docs/doctor.md."""
    plain = [row for row in found if not row.way]
    parts = [
        f"{HEAD.rstrip()}\n\n{summed_up(plain)}",
        f"## The rule\n\n```\n{inspect.getdoc(rule.judge)}\n```\n\n{constants()}",
        f"## The truth\n\n{(truth or '').partition(chr(10))[2].strip()}",
        f"## Are images lost now?\n\n{NOW}\n\n{errors(plain)}",
        f"## Is z or p a constant?\n\n{constant(plain)}",
        f"## Will they be lost?\n\n{LATER}\n\n{foretold(plain)}",
        f"## The bounds\n\n{CHOICE}\n\n{exchanged(plain)}",
        f"## Robustness: fewer images, duplicates, half precision\n\n{OTHERWISE}\n\n{ways(found)}",
        f"## The monitor\n\n{WATCHING}\n\n{monitored(monitors)}",
        f"## Single numbers as detectors of lost images\n\n{ALONE}\n\n{singles(plain)}",
        f"## What is said of each case, at its last look\n\n{verdicts(plain)}",
        f"## Synthetic arrays\n\n{untrained()}",
    ]
    return "\n\n".join(parts) + "\n"


def summed_up(found: Sequence[Row]) -> str:
    """The errors in a sentence for each pair of data sets."""
    lines = []
    for pair, of in ((REPORTED, "where its bounds were not chosen"), (CHOSEN, "where its bounds were chosen")):
        here = [row for row in found if row.data in pair]
        lost, kept = ([row for row in here if row.lost is state] for state in (True, False))
        if lost and kept:
            lines.append(
                f"- On {' and '.join(pair)}, {of}: where images are lost, z is called collapsed or not converging in "
                f"{against(lost)} of the looks, and its images are said to be lost in {says(lost)}. Where images are "
                f"kept, these shares are {against(kept)} and {says(kept)}."
            )
    return "\n".join(lines)


def against(found: Sequence[Row]) -> str:
    """How often the verdict is a collapse, or not converging."""
    return share(rate([(row.key, says_ill(row.judgement)) for row in found]))


def says(found: Sequence[Row]) -> str:
    """How often it is that images are lost."""
    return share(rate([(row.key, says_lost(row.judgement) is True) for row in found]))


def share(r: Rate | None) -> str:
    return "" if r is None else f"{r.share:.0%}" + ("" if math.isnan(r.low) else f" ({r.low:.0%} to {r.high:.0%})")


def constants() -> str:
    names = ("CONSTANT", "READ", "FEW_DIRECTIONS", "ENOUGH", "CHANCE", "YOUNG", "FEWEST")
    return ", ".join(f"{name} = {getattr(rule, name):g}" for name in names) + "."


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def shown(r: Rate | None) -> str:
    if r is None:
        return ""
    ends = "" if math.isnan(r.low) else f" ({r.low:.2f} to {r.high:.2f})"
    return f"{r.share:.2f}{ends}; {r.looks} looks, {r.runs} runs"


def errors(found: Sequence[Row]) -> str:
    """How often the verdict says that images are lost, where they are, and where they are kept."""
    lines = []
    for data, of in itertools.product(DATA, ("z", "p")):
        here = [(r.lost if of == "z" else r.lost_p, r) for r in found if r.data == data]
        cells = [data, of]
        for state in (True, False):
            rows = [row for lost, row in here if lost is state]
            cells += [shown(rate([(r.key, says_ill(r.judgement)) for r in rows])), says(rows)]
            cells.append(share(rate([(r.key, says_lost(r.judgement) is None) for r in rows])))
        lines.append([*cells, str(sum(lost is None for lost, _ in here))])
    said = ("verdict not healthy", "says lost", "undecided")
    head = [f"images {state}: {what}" for state in ("lost", "kept") for what in said]
    return table(["", "of", *head, "between, left out"], lines)


def constant(found: Sequence[Row]) -> str:
    """How often the verdict is a complete collapse, where z or p is a constant, and where neither is."""
    lines = []
    for data in DATA:
        cells = [data]
        for state in (True, False):
            of = [row for row in found if row.data == data and row.constant is state]
            cells.append(shown(rate([(row.key, row.judgement.verdict == "complete collapse") for row in of])))
        lines.append(cells)
    return table(["", "z or p constant: says so", "neither constant: says so"], lines)


def foretold(found: Sequence[Row]) -> str:
    """How often something is said against a run whose images are not lost yet."""
    lines = []
    for data in DATA:
        cells = [data]
        for lose in (True, False):
            of = [row for row in found if row.data == data and row.will_lose is lose]
            cells.append(shown(rate([(row.key, says_ill(row.judgement)) for row in of])))
        lines.append(cells)
    return table(["", "images will be lost: not healthy", "will not be lost: not healthy"], lines)


def exchanged(found: Sequence[Row]) -> str:
    """What each pair of data sets would choose, and its errors on the other pair."""
    lines = []
    for pair, other in ((CHOSEN, REPORTED), (REPORTED, CHOSEN)):
        mine, theirs = ([row for row in found if row.data in sets] for sets in (pair, other))
        for by, bounds in ((" and ".join(pair), chosen(mine)), ("the rule", BOUNDS)):
            numbers = [f"{x:.2f}" for x in shares(theirs, bounds)]
            lines.append([by, f"{bounds.directions:g}", f"{bounds.enough:g}", " and ".join(other), *numbers])
    head = ["chosen by", "few directions", "enough", "shares on", "images lost: says lost", "images kept: says lost"]
    return table([*head, "images will be lost: not healthy", "will not be lost: not healthy"], lines)


def ways(found: Sequence[Row]) -> str:
    """How often another look at the same network has the same verdict."""
    plain = {(row.key, row.step): row.judgement.verdict for row in found if not row.way}
    lines = [
        [way, shown(rate([(r.key, r.judgement.verdict == plain[r.key, r.step]) for r in found if r.way == way]))]
        for way in dict.fromkeys(row.way for row in found if row.way)
    ]
    return table(["", "the same verdict"], lines)


def singles(found: Sequence[Row]) -> str:
    """The area under the ROC curve of each number alone, low meaning ill where that is how it is meant."""
    lines = [
        [f"`{name}`", *(shown(detector([r for r in found if r.data == data], name, "lost")) for data in DATA)]
        for name in SINGLE
    ]
    return table(["z", *DATA], lines)


def verdicts(found: Sequence[Row]) -> str:
    """Counts of verdicts over seeds."""
    last = {(r.data, r.case): max(x.step for x in found if (x.data, x.case) == (r.data, r.case)) for r in found}
    lines = []
    for case in dict.fromkeys(row.case for row in found):
        cells = [case]
        for data in DATA:
            of = [r for r in found if (r.data, r.case) == (data, case) and r.step == last[data, case]]
            said = Counter(r.judgement.verdict for r in of)
            states = Counter({True: "lost", False: "kept", None: "between"}[r.lost] for r in of)
            told = ", ".join(f"{v} {n}" for v, n in said.items())
            cells.append(f"{told} (images {', '.join(f'{s} {n}' for s, n in states.items())})" if of else "")
        lines.append(cells)
    return table(["", *DATA], lines)


def monitored(found: Sequence[Watched]) -> str:
    """How often the monitor warns, and how many steps before the std moves."""
    lines = []
    for data in DATA:
        here = [w for w in found if w.data == data]
        ill, well = ([w for w in here if w.lost is state] for state in (True, False))
        ahead = [w.moved - min(w.warned.values()) for w in ill if w.warned and w.moved]
        never = sum(bool(w.warned) and w.moved is None for w in ill)
        steps = (
            f"{statistics.median(ahead):,.0f} ({min(ahead):,} to {max(ahead):,}); {len(ahead)} runs" if ahead else ""
        )
        lines.append(
            [
                data,
                shown(rate([(w.key, bool(w.warned)) for w in ill])),
                steps,
                str(never),
                shown(rate([(w.key, bool(w.warned)) for w in well])),
                str(sum(w.lost is None for w in here)),
            ]
        )
    head = ["", "images are lost at a look: warned", "steps from the warning until the std has moved: median (range)"]
    head += ["warned, and the std never moved", "never lost: warned", "between, left out"]
    return table(head, lines)


def untrained() -> str:
    """What is said of arrays whose truth is how they were made."""
    lines = []
    for made in arrays():
        said = examine(made.z).verdict
        lines.append([made.name, made.true, said, "" if said in made.allowed else "wrong"])
    return table(["z", "true of it", "said", ""], lines)
