"""BN in the heads helps optimisation, it does not prevent collapse: without it SimSiam is worse, and does not
collapse (Table 3).

Paper: default (every layer but h's output) 68.1, none 34.6 (no collapse; 10 of 100 epochs of warm-up), hidden
layers only 67.4, all layers unstable (no collapse).
Here: digits, 120 epochs, 20 runs, 6 minutes on 2 cores. Of (a) the paper says that it is hard to optimise, hence
"slow or stuck"; networks without BN misread (docs/numbers.md), and kNN is that of untrained weights.
What would settle it: CIFAR-10 (docs/paper_scale.md). (d) is unstable in the paper at 16 times the width and thousands
of steps, so that it may be the size; (b) needs a metric that is not near its ceiling.
Command: python -m experiments.batch_norm
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("(c) default", {}, 68.1),
    Row("(a) none, warm-up", {"bn": "none", "warmup_epochs": 12}, 34.6, "slow or stuck"),
    Row("(b) hidden layers only", {"bn": "hidden"}, 67.4),
    Row("(d) all layers", {"bn": "all"}, None, "unstable"),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
