"""k SGD steps per alternation work too, with η held for as long: SimSiam is one step of an alternation (§5.2).

Paper: k = 1 68.1, 10 68.7, 100 68.9, an epoch 67.0.
Here: digits, 120 epochs of 11 steps, so "10 steps" is about an epoch and "100 steps" nine, the reverse of the
paper's. 20 runs, 7 minutes on 2 cores.
What would settle it: CIFAR-10 (docs/paper_scale.md). On digits kNN is near its ceiling, and its 360 test images have
a standard error of 0.7 points, as large as the paper's differences; multi_step_shapes has more room.
Command: python -m experiments.multi_step
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("SimSiam, 1 step", {}, 68.1),
    Row("10 steps", {"mode": "multistep", "k": 10}, 68.7),
    Row("100 steps", {"mode": "multistep", "k": 100}, 68.9),
    Row("an epoch", {"mode": "multistep", "k": "epoch"}, 67.0),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
