"""What is read of a network at a look? Accuracies of its outputs, their std and rank, and L at the half-steps.

All leaves no trace in what is trained: it works on copies, and draws random numbers of the probe set alone.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from emsiam.build import Parts, dtype
from emsiam.data.batches import Batch
from emsiam.data.images import ImageSet
from emsiam.data.probe_set import PROBE_VIEWS, probe, probe_ids
from emsiam.diagnostics import collapse
from emsiam.diagnostics.em import distance
from emsiam.evaluation.classifiers import knn_predict, leave_one_out, ridge
from emsiam.networks import Siamese
from emsiam.objective import unit
from emsiam.training.observe import cut, look, passes

OUTPUTS = ("backbone", "hidden", "z", "p")  # hidden: of the projector, before its last layer
FEW = 1000  # test images: below it every image is a query, compared with all others
PART = 2048  # images per pass in eval mode
K, TEMPERATURE = 20, 0.1  # of kNN, as the monitor's


def re_estimated(net: Siamese, x: Tensor) -> Siamese:
    """A copy in eval mode, its BN statistics those of the images x [N, C, H, W], all in one pass."""
    made = copy.deepcopy(net).train()
    for module in made.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the mean of all passes, of which there is one
    with torch.no_grad():
        made.predict(made.F.embed(x))
    return made.eval()


@torch.no_grad()
def outputs(net: Siamese, x: Tensor) -> dict[str, Tensor]:
    """OUTPUTS by name, each [N, width], of images x [N, C, H, W]."""
    layers = list(net.F.projector.children())
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    backbone = net.F.backbone(x)
    hidden = nn.Sequential(*layers[:last])(backbone)
    e = nn.Sequential(*layers[last:])(hidden)
    return dict(zip(OUTPUTS, (backbone, hidden, net.F.score(e), net.F.score(net.predict(e))), strict=True))


def seen(net: Siamese, data: ImageSet, numbers: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`outputs` of images with labels and of test images, with the BN statistics of the training images."""
    net = re_estimated(net, data.normalise(data.images[torch.arange(len(data.images))]).to(numbers))

    def of(images: Any) -> dict[str, Tensor]:
        ids = torch.arange(len(images)).split(PART)
        parts = [outputs(net, data.normalise(images[some]).to(numbers)) for some in ids]
        return {name: torch.cat([part[name] for part in parts]) for name in OUTPUTS}

    return of(data.labelled), of(data.test_images)


def right(net: Siamese, data: ImageSet, numbers: torch.dtype) -> dict[str, Tensor]:
    """{output: [Q] whether kNN names an image's class}.

    Where test images are FEW the queries are all images, each compared with all others: labels are never trained on.
    """
    known, asked = seen(net, data, numbers)
    options = {"k": K, "t": TEMPERATURE, "num_classes": data.num_classes}
    if len(data.test_images) >= FEW:
        return {n: knn_predict(known[n], data.labels, asked[n], **options) == data.test_labels for n in OUTPUTS}
    labels = torch.cat([data.labels, data.test_labels])
    return {n: leave_one_out(torch.cat([known[n], asked[n]]), labels, **options) == labels for n in OUTPUTS}


def linear(net: Siamese, data: ImageSet, numbers: torch.dtype) -> float:
    """Accuracy of ridge regression on the backbone's features, test images."""
    known, asked = seen(net, data, numbers)
    scores, _ = ridge(known["backbone"], data.labels, asked["backbone"])
    return (scores.argmax(1) == data.test_labels).double().mean().item()


def spread(net: Siamese, view: Tensor) -> dict[str, float]:
    """std·√d and participation ratio of z and p of a view [P, C, H, W], with batch statistics, and mean squares."""
    z, p = look(net, view[None], (0,))
    numbers = {}
    for name, x in (("z", z[0]), ("p", p[0])):
        numbers[f"square_{name}"] = x.square().sum(-1).mean().item()
        numbers[f"std_{name}"] = collapse.z_std_ratio(x).item()
        numbers[f"pr_{name}"] = collapse.participation_ratio(x).item()
    return numbers


class Ledger:
    """L(θ, η) at the ends of half-steps, a window of steps being one alternation.

    η is solved from 8 views of each image of the probe set, L is taken over 8 others: with one view or a few an η
    that has seen the views of L is favoured. All is of unit vectors: ‖p̂ − η̂‖² = 2 + 2D.
    """

    def __init__(self, parts: Parts):
        self.net, self.solve, self.num_images = parts.network, parts.solver, len(parts.images.images)
        self.ids = probe_ids(parts.images)
        self.views = probe(parts.images, 2 * PROBE_VIEWS, dtype(parts.config))
        self.before: Tensor | None = None  # η of the look before

    def look(self, state: dict[str, Any]) -> dict[str, float]:
        """trained_*: of the loss that is trained, of p (of z, where there is no h); f_*: of (5), of F alone; other_*:
        of (5) with the η of another image. *_before: L(θᵗ, ηᵗ⁻¹); *_solved: L(θᵗ, ηᵗ); trained_least: at the best η.

        cosine: of E_T[h∘F] and E_T[F], mean over images.
        """
        z, p = (unit(x) for x in look(self.net, self.views, tuple(range(2 * PROBE_VIEWS))))
        eta, used, held = self._eta(state), slice(PROBE_VIEWS), slice(PROBE_VIEWS, None)
        least = unit(p[used].mean(0))
        found = {
            "trained_solved": distance(p[held], eta),
            "trained_least": distance(p[held], least),
            "f_solved": distance(z[held], eta),
            "other_solved": distance(z[held], eta.roll(1, 0)),
            "cosine": (least * unit(z[used].mean(0))).sum(-1).mean(),
        }
        if self.before is not None:
            found |= {
                "trained_before": distance(p[held], self.before),
                "f_before": distance(z[held], self.before),
                "other_before": distance(z[held], self.before.roll(1, 0)),
            }
        self.before = eta
        return {name: x.item() for name, x in found.items()}

    def _eta(self, state: dict[str, Any]) -> Tensor:
        """η̂ [P, d]: the mean of the solver's unit targets over the views that it may use."""
        state = cut(self.solve, state, self.ids, self.num_images)
        positions, targets = torch.arange(len(self.ids)), []
        for views in self.views[:PROBE_VIEWS].split(2):
            batch = Batch.of(0, positions, views, draw=_no_more, num_images=len(positions))
            targets.append(unit(self.solve(state, passes(self.net), batch)[0]))
        return unit(torch.cat(targets).mean(0))


def _no_more(n: int) -> Tensor:
    raise ValueError("a ledger is kept of solvers that take one view")
