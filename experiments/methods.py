"""SimSiam is on a par with methods that use negatives, a queue, a momentum encoder or clusters (Table 4). SimCLR and
SwAV are said to need a large batch; SimSiam does not.

Paper, 100 epochs: SimCLR 66.5 (batch 4096), MoCo v2 67.4 (256), BYOL 66.5 (4096), SwAV 66.5 (4096), SimSiam 68.1 (256);
200 epochs: 68.3, 69.9, 70.6, 69.1, 70.0. That SimSiam gains less by longer training shows in it at 800 epochs only.
Here: digits, 120 epochs, and half of them; SimSiam, SimCLR and SwAV also with batches of 64 and 512, lr in proportion:
a batch of 512 takes 240 steps and sees 1,024 of the 1,437 images an epoch, one of 64 takes 2,640. SimSiam's optimiser,
base lr and weight decay for all, none tuned. MoCo's queue holds 256 targets, those of one step, and its τ is 0.99
(0.999 in MoCo); "shuffled BN" is in 8 groups.
What would settle it: the 800 epochs of CIFAR-10 (docs/paper_scale.md), with an lr of its own for each system. On
digits kNN is near its ceiling, and at a fixed number of epochs a large batch is short of steps.
Command: python -m experiments.methods
"""

import sys

from ._sweep import main
from ._table import Row

GROUP = "systems"

SYSTEMS = (  # mode, name, the paper's numbers after 100 and 200 epochs
    ("onestep", "SimSiam", 68.1, 70.0),
    ("simclr", "SimCLR", 66.5, 68.3),
    ("moco", "MoCo v2", 67.4, 69.9),
    ("byol", "BYOL", 66.5, 70.6),
    ("swav", "SwAV", 66.5, 69.1),
)
ROWS = (
    *(Row(name, {"mode": mode}, paper) for mode, name, paper, _ in SYSTEMS),
    Row("MoCo v2, shuffled BN", {"mode": "moco", "shuffle_bn": 8}, against="MoCo v2"),
    *(
        Row(f"{name}, batch {size}", {"mode": mode, "batch_size": size}, against=name)
        for mode, name, _, _ in SYSTEMS
        if name in ("SimSiam", "SimCLR", "SwAV")
        for size in (64, 512)
    ),
    *(Row(f"{name}, half as long", {"mode": mode, "epochs": 60}, against=name) for mode, name, _, _ in SYSTEMS),
)
AT_SCALE = tuple(
    Row(f"{name}, 2 × as long", {"mode": mode, "epochs": 240}, paper, against=name) for mode, name, _, paper in SYSTEMS
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
