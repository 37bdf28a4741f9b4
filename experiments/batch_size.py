"""SimSiam works over a wide range of batch sizes (Table 2), with lr = base lr × batch/256.

Paper: 64 to 4096: 66.1 67.3 68.1 68.1 68.0 67.9 64.0; warm-up of 10 of 100 epochs from 1024 on.
Here: digits, 120 epochs, of whose 1,437 images 4096 do not make a batch. At 1024 an epoch is one step, a run 120. 25
runs, 8 minutes on 2 cores.
What would settle it: CIFAR-10's 800 epochs (docs/paper_scale.md), which leave steps enough at every size: at a fixed
number of epochs small batches take more steps, and on digits a run is short of steps, not of images.
Command: python -m experiments.batch_size
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("256", {"batch_size": 256}, 68.1),
    Row("64", {"batch_size": 64}, 66.1),
    Row("128", {"batch_size": 128}, 67.3),
    Row("512", {"batch_size": 512}, 68.1),
    Row("1024, warm-up", {"batch_size": 1024, "warmup_epochs": 12}, 68.0),
)
AT_SCALE = (  # rows that digits have too few images for
    Row("2048, warm-up", {"batch_size": 2048, "warmup_epochs": 12}, 67.9),
    Row("4096, warm-up", {"batch_size": 4096, "warmup_epochs": 12}, 64.0),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
