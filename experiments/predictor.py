"""Without a predictor SimSiam collapses; with a fixed random one it does not converge; its lr need not be decayed
(Table 1).

Paper: lr decayed with the rest 67.7, no h 0.1, fixed random h 1.5 (the loss stays high: no collapse), lr of h not
decayed 68.1.
Here: digits, 120 epochs, 20 runs, 6 minutes on 2 cores. Without h accuracy is not at chance, as in the paper, but
above that of random weights: kNN on the backbone does not show what becomes of z.
What would settle it: CIFAR-10 (docs/paper_scale.md): the 0.4 points between (c) and a decayed lr are below what 360
test images resolve.
Command: python -m experiments.predictor
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("h, lr decayed", {"fix_pred_lr": False}, 67.7),
    Row("(a) no h", {"predictor": "none"}, 0.1, "collapse"),
    Row("(b) h fixed random", {"predictor": "fixed"}, 1.5, "slow or stuck"),
    Row("(c) h, lr not decayed", {}, 68.1),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
