"""What if η_x is remembered from earlier visits? A bank with a row for each image, in place of the predictor."""

import itertools
from typing import Literal

import torch
from torch import Tensor

from ..objective import unit
from ..ranks import rank
from ..traits import solver
from . import bank as banks
from .encoder import weights_in

PIECE = 2**12  # rows drawn at once; a multiple of 16, so that they are those of one draw

THETA0 = "theta0."  # names of θ⁰ in the state
PIXELS = 2 * 2**30  # bytes of views that are kept
# Of weights m^age, today's view with the variance of one view and earlier visits with that of two.
AVERAGED = {"lag": "m / (1 - m) * epoch", "views": "2 / ((1 - m) / (1 + m) + (1 - m)**2)"}


@solver(
    per_image=("rows", "visited"),
    spread=True,
    placed=("rows",),
    then="bank[x]",
    averaged="η_x over the visits of an image",
    eta="m·η_x + (1−m)·F(T′(x))",
    forwards="0",
    memory="4 * N * d",
    **AVERAGED,
)
def moving_average(
    state,
    F_t,
    batch,
    *,
    m: float = 0.8,
    bank: str = "device",
    bank_dtype: str = "fp32",
    first: Literal["own", "theta0", "random"] = "own",
    target: Literal["mixed", "bank"] = "mixed",
    rows_of: Literal["z", "unit"] = "z",
):
    """η_x ← m·η_x + (1−m)·F_θᵗ(T′(x)), §5.2; a first visit takes F_θᵗ(T′(x)) as it is.

    With a symmetric loss the target of view a is m·η_x + (1−m)·z_b, b ≠ a, and the mean of the targets is stored.
    Rows are averages of z as F gives it; the objective normalises. With m = 0 this is `other_view`, and so it is
    with any m in the first epoch, whose visits are all first ones (where first = own).
    state: rows [num_images, d], visited [num_images]; a row never visited is never read. bank, bank_dtype: where the
    rows are and how they are rounded when stored, see `emsiam.eta.bank`; the average is formed in fp32.
    What the paper leaves open: first, what stands for η before a first visit: nothing, F_θ⁰(T′(x)) of a frozen θ⁰, or a
    random direction of the length of z; target: with today's view, or what the bank had before it; rows_of: averages
    of z or of ẑ.
    Source of the per-image bank: Wu et al. 2018 (momentum 0.5, renormalised); of m = 0.8 and no predictor: the paper.
    """
    z = F_t(batch.others)
    z = unit(z) if rows_of == "unit" else z
    if not state:
        state = {
            "rows": banks.rows(batch, z.shape[2:], banks.dtype_of(bank_dtype, z.dtype), bank, z.device),
            "visited": banks.rows(batch, (), torch.bool, "device", z.device),
        }
        if first == "random":
            state["rows"].copy_(directions(batch, z.shape[-1]))
        if first == "theta0":
            state |= {THETA0 + name: x.clone() for name, x in F_t.theta.items()}
    rows, visited = state["rows"], state["visited"]
    before = banks.read(visited, batch)[:, None]
    known = banks.read(rows, batch).to(z)
    if first == "random":
        known = torch.where(before, known, unit(known) * z.norm(dim=-1, keepdim=True))
    elif first == "theta0" and batch.gather((~before).float()).any():  # in all processes: a GPU waits, and saves a pass
        start = F_t.under(weights_in(state, THETA0), batch.others)
        known = torch.where(before, known, unit(start) if rows_of == "unit" else start)
    if first == "own":
        eta = torch.where(before, m * known + (1 - m) * z, z)
        given = eta if target == "mixed" else torch.where(before, known, z)
    else:
        eta = m * known + (1 - m) * z
        given = eta if target == "mixed" else known.expand_as(z)
    banks.write(rows, batch, eta.mean(0))
    banks.write(visited, batch, torch.ones_like(before[:, 0]))
    return given, state


def directions(batch, d: int) -> Tensor:
    """[n, d] random unit vectors: a row for each image that this process keeps, an image's always the same."""
    rng, images = torch.Generator().manual_seed(0), batch.num_images
    out = torch.zeros(banks.shared(images, batch.ranks), d)
    cuts = [*range(0, max(1, images - 15), PIECE), images]  # torch draws fewer than 16 numbers in another way
    for first, end in itertools.pairwise(cuts):  # those of all images are drawn, and at no time kept
        drawn, ids = unit(torch.randn(end - first, d, generator=rng)), torch.arange(first, end)
        own = ids % batch.ranks == rank() % batch.ranks  # of a batch that is not shared, as the probe set's, all
        out[ids[own] // batch.ranks] = drawn[own]
    return out


def _at_least_one(w: int) -> None:
    if w < 1:
        raise ValueError(f"w = {w}; allowed is 1 or more visits")


def counted(state, batch, z: Tensor, **rows: tuple[int, ...]):
    """A state with how often each image was visited, `visits`, and banks of rows of a shape, by name, all zeros."""
    if state:
        return state
    zeros = {name: banks.rows(batch, shape, z.dtype, "device", z.device) for name, shape in rows.items()}
    return {**zeros, "visits": banks.rows(batch, (), torch.int64, "device", z.device)}


def store(state, batch, **values: Tensor) -> None:
    """Store what belongs to the images of a batch, and count the visit."""
    for name, x in values.items():
        banks.write(state[name], batch, x)
    banks.write(state["visits"], batch, banks.read(state["visits"], batch) + 1)


@solver(
    per_image=("rows", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="η_x over the visits of an image",
    eta="(1−m)/(1−mᶜ) Σ mʲ F(T_j(x))",
    forwards="0",
    memory="4 * N * d",
    **AVERAGED,
)
def bias_corrected(state, F_t, batch, *, m: float = 0.8):
    """A moving average from zero, divided by 1 − mᶜ at visit c, so that no visit weighs more for being the first.

    state: rows [num_images, d], visits [num_images]. Source: Laine & Aila 2017 (temporal ensembling), §3.2.
    """
    z = F_t(batch.others)
    state = counted(state, batch, z, rows=z.shape[2:])
    rows = m * banks.read(state["rows"], batch) + (1 - m) * z
    visit = banks.read(state["visits"], batch) + 1
    store(state, batch, rows=rows.mean(0))
    return rows / (1 - m ** visit.to(z))[:, None], state


@solver(
    per_image=("rows", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="η_x over all visits of an image",
    measurable=False,
    eta="1/c Σ F(T_j(x))",
    forwards="0",
    memory="4 * N * d",
    lag="",
    views="",
)
def running_mean(state, F_t, batch):
    """The mean over all visits of an image, c of them: its lag and its number of views grow without end.

    state: rows [num_images, d], visits [num_images]. Source: steps of 1/c are Robbins & Monro's (1951).
    """
    z = F_t(batch.others)
    state = counted(state, batch, z, rows=z.shape[2:])
    before = banks.read(state["visits"], batch)[:, None]
    eta = (before * banks.read(state["rows"], batch) + z) / (before + 1)
    store(state, batch, rows=eta.mean(0))
    return eta, state


@solver(
    per_image=("recent", "visits"),
    only_others=True,
    spread=True,
    then="bank[x]",
    averaged="the last w visits of an image",
    eta="1/w Σ_{last w} F(T_j(x))",
    forwards="0",
    memory="4 * N * (w - 1) * d",
    lag="(w - 1) / 2 * epoch",
    views="2 / (1 / w + 1 / w**2)",
)
def window(state, F_t, batch, *, w: int = 9):
    """The mean of the last w visits of an image, today's among them, all with one weight.

    w = 9 has about the lag and the number of views of a moving average with m = 0.8.
    state: recent [num_images, w − 1, d], visits [num_images].
    Raises ValueError for w < 1.
    """
    _at_least_one(w)
    z = F_t(batch.others)
    state = counted(state, batch, z, recent=(w - 1, *z.shape[2:]))
    recent, visits = banks.read(state["recent"], batch), banks.read(state["visits"], batch)
    known = visits.clamp(max=w - 1)[:, None]
    eta = (recent.sum(1) + z) / (known + 1)
    if w > 1:
        recent[torch.arange(len(visits), device=z.device), visits % (w - 1)] = z.mean(0)
    store(state, batch, recent=recent)
    return eta, state


@solver(
    per_image=("views", "visits"),
    spread=True,
    then="bank[x]",
    averaged="the last w visits of an image, all under today's θ",
    measurable=False,
    at_most=PIXELS,
    eta="Σ_{j<w} mʲ F_θᵗ(T_j(x)) / Σ mʲ",
    forwards="(w - 1) / 2",
    memory="4 * N * (w - 1) * pixels",
    views="(1 - m**w)**2 / (1 - m)**2 / ((1 - m**(2 * w)) / (1 - m**2))",
)
def recomputed(state, F_t, batch, *, m: float = 0.8, w: int = 9):
    """The moving average over the last w visits, as if today's θ had made it: averaging without lag.

    The views of earlier visits are kept, and pass through F_θᵗ again. With two trained views an image's two views are
    kept in turn. state: views [num_images, w − 1, C, H, W], visits [num_images].
    Raises ValueError for w < 1.
    """
    _at_least_one(w)
    z = F_t(batch.others)
    state = counted(state, batch, z, views=(w - 1, *batch.others.shape[2:]))
    views, visits = banks.read(state["views"], batch), banks.read(state["visits"], batch)
    total, weight = z, torch.ones_like(z[0, :, :1])
    for age in range(1, w):
        known = (visits >= age)[:, None].to(z)
        at = (visits - age) % (w - 1)
        past = F_t(views[torch.arange(len(visits), device=z.device), at][None])[0]
        total = total + known * m**age * past
        weight = weight + m**age * known
    if w > 1:
        kept = batch.others[batch.step % len(batch.others)]
        views[torch.arange(len(visits), device=z.device), visits % (w - 1)] = kept.to(views)
    store(state, batch, views=views)
    return total / weight, state
