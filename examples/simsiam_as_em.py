"""SimSiam as expectation-maximisation, the whole idea: python examples/simsiam_as_em.py [other_view|moving_average]

min over θ and η of L(θ, η) = E‖F_θ(T(x)) − η_x‖², by turns: η_x is solved under a θ that is held still, and gets no
gradient; then θ takes a step of SGD against η_x. With the other view as η_x this is SimSiam, Algorithm 1. With a
moving average for each image (§5.2) it needs no predictor, and its rank falls all the same. Some seconds on a laptop.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

from emsiam.alternate import alternate
from emsiam.data.batches import batches
from emsiam.data.sets import digits
from emsiam.diagnostics.collapse import participation_ratio, z_std_ratio
from emsiam.networks import Backbone, Siamese, mlp, tiny
from emsiam.optim import SGD

D, BATCH, EPOCHS = 128, 128, 20


def other_view(state, F_t, batch):
    """(8): η_x ← F_θᵗ(T′(x)), the representation of the other view."""
    return F_t(batch.others), state


def moving_average(state, F_t, batch, *, m=0.8):
    """(8): η_x ← m·η_x + (1−m)·F_θᵗ(T′(x)), a row for each image; a first visit takes F_θᵗ(T′(x)) as it is."""
    z = F_t(batch.others)  # [2, B, d]
    rows = state.get("rows", torch.full((batch.num_images, D), torch.nan))
    known = rows[batch.ids]
    eta = torch.where(known.isnan(), z, m * known + (1 - m) * z)
    rows[batch.ids] = eta.mean(0)
    return eta, {"rows": rows}


def loss(p, eta, batch, state):
    """(7): what θ minimises against η, a constant here; the negative cosine, over both views."""
    return -functional.cosine_similarity(p, eta, dim=-1).mean()


def train(solve):
    """Yields (step, loss, z [N, d] of one view of the last batch) now and then."""
    torch.manual_seed(0)
    predictor = mlp([D, D // 4, D], hidden_bn=True, output_bn=False) if solve is other_view else nn.Identity()
    projector = mlp([128, D, D, D], hidden_bn=True, output_bn=True)
    net = Siamese(Backbone(tiny(1), 1), projector, predictor)
    images = digits()
    steps = EPOCHS * (len(images.images) // BATCH)
    order = batches(images, seed=0, batch_size=BATCH, start=0, stop=steps, symmetry="sym", dtype=torch.float32)
    optimizer = SGD(net, lr=0.05, momentum=0.9, wd=5e-4, steps=steps)
    for step in alternate(net, solve, loss, optimizer, order, k=1, held=False):
        if step.step % 55 == 54:
            with torch.no_grad():
                yield step.step + 1, step.loss.item(), net.F(step.batch.views[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SimSiam as expectation-maximisation")
    parser.add_argument("solver", nargs="?", default="other_view", choices=("other_view", "moving_average"))
    solve = globals()[parser.parse_args().solver]
    print(f"{solve.__name__}: std·√d is 1 in health, 0 where all images are one point")
    for step, value, z in train(solve):
        std, rank = z_std_ratio(z).item(), participation_ratio(z).item()
        print(f"step {step:4}  loss {value:.3f}  std·√d {std:.2f}  participation ratio {rank:.1f}")
