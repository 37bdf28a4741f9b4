"""Sub-problem (8): given θᵗ, which representation η_x should stand for each image of the batch?

A solver is one function

    solve(state, F_t, batch, *, m=0.8, …) -> eta, state

    state   a dict of tensors, empty at the start: what the solver remembers. It is saved and resumed as it is.
    F_t     F_θᵗ: views [N, B, C, H, W] -> z [N, B, d], without gradient and without touching the network; a solver with
            an encoder of its own finds θᵗ in F_t.theta, and F_t.under(weights, views) is a pass under others
    batch   `data.Batch`: batch.others are the other views, batch.draw(n) makes new ones, batch.ids names the images
    eta     [S, B, d], a target for each trained view

Its keyword-only parameters are its hyper-parameters; those named like an option (`--m`, `--n`) are set by it.
`python -m emsiam.train --eta FILE.py:FUNCTION` trains with a solver of your own.
"""

from .clusters import sinkhorn_codes
from .encoder import momentum_encoder, momentum_queue
from .fresh import expectation, other_view
from .memory import moving_average

SOLVERS = {
    solve.__name__: solve
    for solve in (other_view, expectation, moving_average, momentum_encoder, momentum_queue, sinkhorn_codes)
}
