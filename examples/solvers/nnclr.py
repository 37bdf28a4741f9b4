"""η_x is what the bank has nearest to F(T′(x)), of another image: NNCLR, with SimSiam's loss for the contrastive one.

    python -m emsiam.train --eta examples/solvers/nnclr.py:nearest_neighbour

Source: Dwibedi et al. 2021, "With a Little Help from My Friends", eq. (3).
"""

import torch

from emsiam.eta import solver
from emsiam.objective import unit


@solver(per_image=("rows", "visited"), measurable=False)
def nearest_neighbour(state, F_t, batch):
    """The row nearest by cosine, of an image that was visited; its own view where there is none yet."""
    z = unit(F_t(batch.others))  # [S, B, d]
    if not state:
        state = {
            "rows": z.new_zeros(batch.num_images, z.shape[-1]),
            "visited": torch.zeros(batch.num_images, dtype=torch.bool, device=z.device),
        }
    likeness = z @ state["rows"].T  # [S, B, num_images]
    own = torch.arange(batch.num_images, device=z.device) == batch.ids[:, None]
    likeness = likeness.masked_fill(own | ~state["visited"], -torch.inf)
    eta = torch.where(likeness.isneginf().all(-1, keepdim=True), z, state["rows"][likeness.argmax(-1)])
    ids = batch.gather(batch.ids)
    state["rows"][ids] = batch.gather(z.mean(0))
    state["visited"][ids] = True
    return eta, state
