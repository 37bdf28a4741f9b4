"""A way of your own to solve for η, with the loop in your own hands: python examples/own_solver.py

The same function serves the command: python -m emsiam.train --eta examples/own_solver.py:trimmed_mean --n 6
"""

import emsiam
from emsiam.eta import solver


@solver(per_image=())
def trimmed_mean(state, F_t, batch, *, n=6):
    """η_x is the mean of n new views without the smallest and the largest value of each channel."""
    z = F_t(batch.draw(n)).sort(0).values[1:-1]  # [n − 2, B, d], under θᵗ, no gradient
    eta = z.mean(0)
    return eta.expand(len(batch.trained), *eta.shape), state  # a target for each trained view


if __name__ == "__main__":
    parts = emsiam.prepare(emsiam.Config(epochs=3, n=6), solver=trimmed_mean)
    for step in parts.alternation():
        if (step.step + 1) % 11 == 0:
            print(f"step {step.step + 1:3} of {parts.steps}  loss {step.loss:.3f}")
