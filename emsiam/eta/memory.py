"""What if η_x is remembered from earlier visits? A bank with one row an image, in place of the predictor."""

import torch

from ..traits import solver
from . import bank as banks


@solver(per_image=("rows", "visited"), placed=("rows",), then="bank[x]", averaged="η_x over the visits of an image")
def moving_average(state, F_t, batch, *, m: float = 0.8, bank: str = "device", bank_dtype: str = "fp32"):
    """η_x ← m·η_x + (1−m)·F_θᵗ(T′(x)), §5.2; a first visit takes F_θᵗ(T′(x)) as it is.

    With a symmetric loss the target of view a is m·η_x + (1−m)·z_b, b ≠ a, and the mean of the targets is stored.
    Rows are averages of z as F gives it; the objective normalises. With m = 0 this is `other_view`.
    state: rows [num_images, d], visited [num_images]; a row never visited is never read. bank, bank_dtype: where the
    rows are and how they are rounded when stored, see `emsiam.eta.bank`; the average is formed in fp32.
    Source of the per-image bank: Wu et al. 2018 (momentum 0.5, renormalised); of m = 0.8 and no predictor: the paper.
    """
    z = F_t(batch.others)
    if not state:
        state = {
            "rows": banks.rows(batch.num_images, z.shape[-1], banks.dtype_of(bank_dtype, z.dtype), bank, z.device),
            "visited": torch.zeros(batch.num_images, dtype=torch.bool, device=z.device),
        }
    rows, visited = state["rows"], state["visited"]
    before = visited[batch.ids][:, None]
    eta = torch.where(before, m * banks.read(rows, batch.ids, z) + (1 - m) * z, z)
    ids = batch.gather(batch.ids)
    banks.write(rows, ids, batch.gather(eta.mean(0)))
    visited[ids] = True
    return eta, state
