"""SimSiam does not need the cosine: with a cross-entropy similarity it does not collapse either (§4.5).

Paper: cosine 68.1, cross-entropy 63.2.
Here: digits, 120 epochs, 10 runs, 3 minutes on 2 cores.
What would settle it: CIFAR-10 (docs/paper_scale.md).
Command: python -m experiments.similarity
"""

import sys

from ._sweep import main
from ._table import Row

ROWS = (
    Row("cosine", {}, 68.1),
    Row("cross-entropy", {"similarity": "cross_entropy"}, 63.2),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
