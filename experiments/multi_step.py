"""k SGD steps an alternation work too, with η held for as long: SimSiam is one step of an alternation (§5.2).

Paper: k = 1 68.1, 10 68.7, 100 68.9, an epoch 67.0.
Here: digits, where an epoch is 11 steps, so k = 100 is more than the epoch. 20 runs, 7 minutes on 2 cores.
Command: python -m experiments.multi_step
"""

import sys

from ._sweep import Row, main

ROWS = (
    Row("SimSiam, 1 step", {}, 68.1),
    Row("10 steps", {"mode": "multistep", "k": 10}, 68.7),
    Row("100 steps", {"mode": "multistep", "k": 100}, 68.9),
    Row("an epoch (11 steps)", {"mode": "multistep", "k": "epoch"}, 67.0),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
