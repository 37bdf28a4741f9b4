"""Without stop-gradient SimSiam collapses: the loss goes to -1, the std of ẑ to 0, accuracy to chance (Fig. 2).

Paper: 67.7 ± 0.1 (5 trials) with stop-gradient, 0.1 without; h's lr decayed.
Here: digits, 120 epochs, 10 runs, 3 minutes on 2 cores. Accuracy is far from chance, a tenth: kNN on the backbone
tells digits apart by features of random weights.
What would settle it: CIFAR-10 (docs/paper_scale.md).
Command: python -m experiments.stop_gradient
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("with stop-gradient", {"fix_pred_lr": False}, 67.7),
    Row("without", {"fix_pred_lr": False, "stop_grad": False}, 0.1, "collapse"),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
