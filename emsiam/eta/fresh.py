"""What if η_x is estimated anew at every step, from views drawn for it? Nothing is remembered."""

from ..traits import solver


@solver(per_image=(), passes_gradient=True)
def other_view(state, F_t, batch):
    """One draw: the target of a view is the other view's representation. SimSiam's, eqs. (10) and (11)."""
    return F_t(batch.others), state  # (10)


@solver(per_image=(), then="mean of n views", averaged="n views")
def expectation(state, F_t, batch, *, n: int = 4):
    """The mean of n further views, shared by all trained views: a Monte Carlo estimate of E_T[F_θᵗ(T(x))].

    Its error shrinks as 1/√n. Averaging views as targets: FastSiam (2022), from the views that are trained on.
    """
    eta = F_t(batch.draw(n)).mean(0)  # (9)
    return eta.expand(len(batch.trained), *eta.shape), state
