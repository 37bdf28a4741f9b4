"""k SGD steps per alternation work too, where an epoch is longer than k: multi_step on generated images (§5.2).

Paper: k = 1 68.1, 10 68.7, 100 68.9, an epoch 67.0.
Here: 5,000 shapes in batches of 32, so that an epoch is 156 steps and a run 1,092. 20 runs, 18 minutes on 2 cores.
What would settle it: longer runs, as an epoch is a seventh of the training here and a hundredth in the paper; and
CIFAR-10 (docs/paper_scale.md). The verdict does not settle it: on shapes the participation ratio lies on both sides
of its bound (docs/numbers.md).
Command: python -m experiments.multi_step_shapes
"""

import sys

from ._sweep import main
from ._table import Row

SHAPES = {"dataset": "shapes", "num_images": 5000, "batch_size": 32, "epochs": 7, "precision": "bf16"}
ROWS = (
    Row("SimSiam, 1 step", SHAPES, 68.1),
    Row("10 steps", {**SHAPES, "mode": "multistep", "k": 10}, 68.7),
    Row("100 steps", {**SHAPES, "mode": "multistep", "k": 100}, 68.9),
    Row("an epoch", {**SHAPES, "mode": "multistep", "k": "epoch"}, 67.0),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
