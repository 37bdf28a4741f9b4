"""A symmetric loss helps accuracy, it does not prevent collapse; it is like denser sampling of T (§4.6).

Paper: symmetric 68.1, asymmetric 64.8, asymmetric with two pairs an image (2×) 67.3.
Here: digits, 120 epochs. "asymmetric" makes as many passes of F a step as "symmetric", and trains half the pairs of
views; 2× trains as many pairs a step, and should be its equal if symmetrisation is denser sampling; twice the epochs
trains as many in all, in twice the steps. 20 runs, 9 minutes on 2 cores.
What would settle it: shapes or CIFAR-10 (docs/paper_scale.md), where kNN is not near its ceiling.
Command: python -m experiments.symmetrization
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("symmetric", {}, 68.1),
    Row("asymmetric", {"symmetry": "asym"}, 64.8),
    Row("asymmetric 2×", {"symmetry": "asym2x"}, 67.3),
    Row("asymmetric, twice the epochs", {"symmetry": "asym", "epochs": 240}),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
