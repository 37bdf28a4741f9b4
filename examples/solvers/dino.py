"""η_x is F(T′(x)), less a moving centre and sharpened: DINO's target, for the cross-entropy.

    python -m emsiam.train --eta examples/solvers/dino.py:centred --similarity cross_entropy --predictor none \
        --eta-args sharpness=2

The similarity takes the softmax of η and of p, so the target is softmax((z − centre)·sharpness).
Source: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", Algorithm 1 and eq. (4).
"""

from emsiam.eta import solver


@solver(per_image=(), measurable=False)
def centred(state, F_t, batch, *, sharpness: float = 2.0, centre_momentum: float = 0.9):
    """(z − centre)·sharpness; the centre is a moving average of z over all images."""
    z = F_t(batch.others)  # [S, B, d]
    mean = batch.gather(z.transpose(0, 1)).mean((0, 1))
    centre = state.get("centre", mean)
    return (z - centre) * sharpness, {"centre": centre_momentum * centre + (1 - centre_momentum) * mean}
