"""A moving average of η for each image takes the predictor's place, and nothing collapses (§5.2). Or only later?

Paper: m = 0.8, no h 55.0; SimSiam 68.1, no h and no average 0.1.
Here: digits, 120 epochs, over m; and whether collapse is prevented or put off: m = 0.8 at two lengths of training and
with a constant lr, beside SimSiam's. A first visit takes η = z, so the first epoch is "no h, no average". The paper
reports accuracies, no rank. 45 runs, 31 minutes on 2 cores.
What would settle it: the commands of docs/paper_scale.md with a constant lr, or five times as long. They show whether
the paper's 55.0 is of a run that would collapse, had it gone on. The std of ẑ and its rank over time tell; accuracy
does not, as kNN on the backbone outlives the collapse of z here.
Command: python -m experiments.moving_average
"""

import sys

from ._sweep import main
from ._table import Row

BANK = {"mode": "ema_eta", "m": 0.8}
LONG = "SimSiam, 5 ×, constant lr"
ROWS = (
    Row("SimSiam, with h", {}, 68.1),
    Row("no h, no average", {"predictor": "none"}, 0.1, "collapse"),
    Row("m = 0.5", {"mode": "ema_eta", "m": 0.5}),
    Row("m = 0.8", BANK, 55.0),
    Row("m = 0.95", {"mode": "ema_eta", "m": 0.95}),
    Row("m = 0.8, constant lr", {**BANK, "schedule": "constant"}),
    Row("m = 0.8, 5 × as long", {**BANK, "epochs": 600}),
    Row("m = 0.8, 5 ×, constant lr", {**BANK, "epochs": 600, "schedule": "constant"}, against=LONG),
    Row(LONG, {"epochs": 600, "schedule": "constant"}),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
