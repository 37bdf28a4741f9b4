"""Each other method becomes SimSiam when one part is removed: SimCLR's negatives, SwAV's online clustering, BYOL's
momentum encoder; a predictor or a stop-gradient added to those helps them little (§6.2).

Paper: SimCLR 66.5, + h 66.4, + h + stop-gradient 66.0; SwAV 66.5, + h 65.2, no stop-gradient NaN; BYOL 66.5 (Table 4).
BYOL's own ablation (Grill et al. 2020, 300 epochs): no h 0.2; τ = 0 0.3, which with h is SimSiam and works in the
paper. τ = 1 is a fixed random target.
Here: digits, 120 epochs, every system with SimSiam's optimiser, lr and weight decay, none tuned. The std, PR and loss
of SwAV are of the scores of its 128 prototypes, which h stands before.
What would settle it: CIFAR-10 (docs/paper_scale.md), with an lr of its own for each system; kNN on digits is near its
ceiling, as in the other tables.
Command: python -m experiments.relations
"""

import sys

from ._sweep import main
from ._table import Row

GROUP = "systems"

ROWS = (
    Row("SimSiam", {}, 68.1),
    Row("SimCLR", {"mode": "simclr"}, 66.5),
    Row("SimCLR + h", {"mode": "simclr", "predictor": "mlp"}, 66.4, against="SimCLR"),
    Row(
        "SimCLR + h + stop-gradient",
        {"mode": "simclr", "predictor": "mlp", "stop_grad": True},
        66.0,
        against="SimCLR",
    ),
    Row("SwAV", {"mode": "swav"}, 66.5),
    Row("SwAV + h", {"mode": "swav", "predictor": "mlp"}, 65.2, against="SwAV"),
    Row("SwAV, no stop-gradient", {"mode": "swav", "stop_grad": False}, None, "diverges", against="SwAV"),
    Row("BYOL", {"mode": "byol"}, 66.5),
    Row("BYOL, no h", {"mode": "byol", "predictor": "none"}, None, "collapse", against="BYOL"),
    Row("BYOL, τ = 0", {"mode": "byol", "tau": 0.0, "tau_schedule": "constant"}, None, "", against="BYOL"),
    Row("BYOL, τ = 1", {"mode": "byol", "tau": 1.0, "tau_schedule": "constant"}, against="BYOL"),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
