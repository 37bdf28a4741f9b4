"""An explicit regulariser, as later methods have one, takes the place of both h and lag: with it, what collapsed
without it no longer does, even after 2.5 times the training.

VICReg (Bardes et al. 2022), Barlow Twins (Zbontar et al. 2021) and SIGReg (LeJEPA, Balestriero & LeCun 2025), without h
and without stop-gradient; then each with what SimSiam has (h and stop-gradient), or with what §5.2 puts in h's place
(a moving average of η for each image). The SimSiam paper has none of them, of the rows here "none", h and lag.
Here: digits, 120 epochs, SimSiam's optimiser, lr and weight decay, weights of the terms as published; and 2.5 times
as long with a constant lr, where a collapse that is only delayed has longer to show (moving_average). With h the
regulariser is of p = h(z): it holds z up through h only. "none" is SimSiam without h; the row after it has no
stop-gradient either and BN where the regularised rows have it, so that it differs from them in the objective alone.
"healthy" is said of z, which has not collapsed; how good the features are is kNN's to say.
What would settle it: CIFAR-10 (docs/paper_scale.md), with the weights of the terms and an lr of its own for each; kNN
on digits is near its ceiling.
Command: python -m experiments.regularizers
"""

import sys

from ._sweep import main
from ._table import Row

GROUP = "systems"

LONG = {"epochs": 300, "schedule": "constant"}
WITH_H = {"predictor": "mlp", "stop_grad": True}
LAG = {"eta": "moving_average", "m": 0.8, "stop_grad": True}
NAMES = {"vicreg": "VICReg", "barlow": "Barlow Twins", "sigreg": "SIGReg"}
ROWS = (
    Row("none", {"predictor": "none"}, 0.1, "collapse"),
    Row("none, no stop-gradient, hidden BN", {"predictor": "none", "stop_grad": False, "bn": "hidden"}),
    Row("h: SimSiam", {}, 68.1),
    Row("lag: a moving average", {"mode": "ema_eta", "m": 0.8}, 55.0),
    *(
        Row(name + more, {"mode": mode, **options}, against=against)
        for mode, name in NAMES.items()
        for more, options, against in (("", {}, ""), (", h", WITH_H, name), (", lag", LAG, name))
    ),
    *(Row(f"{name}, 2.5 ×, constant lr", {"mode": mode, **LONG}, against=name) for mode, name in NAMES.items()),
)

if __name__ == "__main__":
    sys.exit(main(__spec__.name, __doc__, ROWS))
