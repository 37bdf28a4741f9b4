"""What SimSiam learns on one data set serves on another, more than untrained weights do: linearly, and by kNN.

Paper: Table 5 fine-tunes detectors (docs/detection.md); this table has no counterpart in it.
Here: the backbone of SimSiam, of digits (8×8, 120 epochs), mnist5k (28×28, 12) and shapes (32×32, in colour, 12: the
runs of the table cifar), frozen, on another's images, resized to the size it knows, grey where it knows grey, and
normalised as in training. Rows on the same images differ in the size and colour they are seen in, too.
"untrained": as initialised, BN's statistics of one epoch. Linear: logistic regression, C chosen on a part of the
training images.
What would settle it: shapes at 8×8 and in grey, which show whether a difference is of content or of size and colour.
Command: python -m experiments.transfer
"""

import sys

from ._sweep import main
from ._table import Row
from .cifar import SMALL

GROUP = "systems"

SOURCES = {"digits": {}, "mnist5k": {"dataset": "mnist5k", "epochs": 12}, "shapes": SMALL}
UNTRAINED = {"epochs": 1, "lr": 1e-9}


def rows(source: str, target: str) -> tuple[Row, Row]:
    """Trained on the source, and untrained, on the images of the target."""
    asked = {"linear": ("linear", {"eval_dataset": target}), "kNN there": ("knn", {"eval_dataset": target})}
    against = f"untrained ({source}) → {target}"
    return (
        Row(against, {**SOURCES[source], **UNTRAINED}, evaluations=asked, against=against),
        Row(f"{source} → {target}", SOURCES[source], evaluations=asked, against=against),
    )


PAIRS = (
    *(("digits", "mnist5k"), ("shapes", "mnist5k"), ("mnist5k", "mnist5k")),
    *(("mnist5k", "digits"), ("digits", "digits")),
    *(("mnist5k", "shapes"), ("shapes", "shapes")),
)
ROWS = tuple(row for pair in PAIRS for row in rows(*pair))

TABLE = {"metrics": ("linear", "kNN there"), "by": "linear"}

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS, **TABLE))
