"""What if η_x is estimated anew at every step, from views drawn for it? Nothing is remembered."""

import torch

from ..objective import unit
from ..traits import solver


@solver(per_image=(), passes_gradient=True, only_others=True, eta="F(T′(x))", forwards="0")
def other_view(state, F_t, batch):
    """One draw: the target of a view is the other view's representation. SimSiam's, eqs. (10) and (11)."""
    return F_t(batch.others), state  # (10)


@solver(per_image=(), then="mean of n views", averaged="n views", eta="1/n Σ F(Tᵢ(x))", forwards="n / 2", views="n")
def expectation(state, F_t, batch, *, n: int = 4):
    """The mean of n further views, shared by all trained views: a Monte Carlo estimate of E_T[F_θᵗ(T(x))].

    Its error shrinks as 1/√n. Averaging views as targets: FastSiam (2022), from the views that are trained on.
    """
    eta = F_t(batch.draw(n)).mean(0)  # (9)
    return eta.expand(len(batch.trained), *eta.shape), state


@solver(
    per_image=(), gives="means of unit vectors", measurable=False, eta="1/n Σ F̂(Tᵢ(x))", forwards="n / 2", views="n"
)
def mean_of_units(state, F_t, batch, *, n: int = 4):
    """The mean of ẑ of n further views, shared by all trained views.

    With `--similarity inner`, which leaves its length as it is, the expected gradient does not depend on n: the loss is
    linear in η. The cosine makes it a unit vector again. Source: footnote 5, (9) of unit vectors.
    """
    eta = unit(F_t(batch.draw(n))).mean(0)
    return eta.expand(len(batch.trained), *eta.shape), state


@solver(
    per_image=(),
    then="mean of the others",
    averaged="n − 1 views",
    eta="1/(n−1) Σ_{b≠a} F(T_b(x))",
    forwards="(n - 2) / 2",
    views="n - 1",
)
def leave_one_out(state, F_t, batch, *, n: int = 4):
    """The target of a trained view is the mean of the other n − 1 views of the image.

    The others are its partner and n − 2 further views. Source: FastSiam (Pototzky et al. 2022), which trains on all n.
    Raises ValueError for n < 2.
    """
    if n < 2:
        raise ValueError(f"n = {n}: a view needs another one; allowed is 2 or more")
    z = F_t(batch.others)
    further = F_t(batch.draw(n - 2)).sum(0) if n > 2 else 0
    return (z + further) / (n - 1), state


@solver(
    per_image=(),
    needs_all_of_T=True,
    measurable=False,
    then="mean over all of T",
    averaged="all views",
    eta="Σ_T P(T) F(T(x))",
    forwards="T / 2",
    views="T",
)
def every_view(state, F_t, batch):
    """E_T[F_θᵗ(T(x))] itself, of a T that has finitely many draws: eq. (9) without a Monte Carlo error.

    Batch statistics are those of the batch under each draw. On `shapes`, `--augment redraw=J` is such a T, and its
    draws are the states of a known nuisance; elsewhere it is what flips and greys leave.
    """
    eta = torch.stack([probability * F_t(view[None])[0] for probability, view in batch.every()]).sum(0)
    return eta.expand(len(batch.trained), *eta.shape), state
