"""What is read of a run at a look? Numbers that need no labels, and the accuracies that are the truth."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from emsiam.alternate import Step
from emsiam.build import Parts, dtype
from emsiam.data.probe_set import PROBE_VIEWS, probe
from emsiam.diagnostics import collapse, em
from emsiam.diagnostics.evidence import intervals
from emsiam.evaluation.classifiers import knn_predict, leave_one_out, ridge
from emsiam.training.observe import look

from ..claims._measure import FEW, TEMPERATURE, K, seen

VIEWS = 2  # as many as somebody has who brings embeddings
SMALL = 64  # images
BESIDE = ("residual_norm", "participation_ratio", "effective_rank", "view_auc")  # of what z is compared with


def accuracies(parts: Parts) -> dict[str, float]:
    """{knn_z, linear_z, knn_p, linear_p}, see the truth."""
    data = parts.images
    known, asked = seen(parts.network, data, dtype(parts.config))
    found = {}
    for name in ("z", "p"):
        mean, std = known[name].mean(0), known[name].std(0).clamp_min(1e-12)
        x, q = ((y - mean) / std for y in (known[name], asked[name]))
        options = {"k": K, "t": TEMPERATURE, "num_classes": data.num_classes}
        if len(data.test_images) >= FEW:
            right = knn_predict(x, data.labels, q, **options) == data.test_labels
        else:
            labels = torch.cat([data.labels, data.test_labels])
            right = leave_one_out(torch.cat([x, q]), labels, **options) == labels
        found[f"knn_{name}"] = right.double().mean().item()
        scores, _ = ridge(x, data.labels, q)
        found[f"linear_{name}"] = (scores.argmax(1) == data.test_labels).double().mean().item()
    return found


def described(x: Tensor, name: str, few: bool = False) -> dict[str, float]:
    """Numbers of x [n, N, d] by name, intervals too. Nothing where x is not finite. few: of BESIDE alone."""
    if not x.isfinite().all():
        return {}
    numbers = collapse.measure(x[:VIEWS]) | of_lengths(x[0])
    found = {f"{name}_{number}": value for number, value in numbers.items() if number in BESIDE or not few}
    values = collapse.spectrum(x[0]).tolist()
    found |= {f"{name}_eigenvalue_{2**i}": values[2**i - 1] for i in range(len(values).bit_length())}
    for number, (low, high) in intervals(x[:VIEWS]).items():
        found |= {f"{name}_{number}_low": low, f"{name}_{number}_high": high}
    if len(x) > VIEWS:
        found |= {f"{name}_{f.__name__}_8": f(x).item() for f in (collapse.lidar, collapse.between_share)}
    return found


def of_lengths(x: Tensor) -> dict[str, float]:
    """Detectors of others that look at x [N, d] as it is, and not at unit vectors.

    rankme: Garrido et al. 2023. monai: the effective rank score of MONAI 1.6.1's EmbeddingCollapseMetric, 1 for a
    collapse: of centred x, 1 less the perplexity of its singular values over min(N − 1, d), and 1 for a constant.
    """

    def perplexity(sigma: Tensor) -> float:
        return torch.special.entr(sigma / sigma.sum()).sum().exp().item() if sigma.sum() > 0 else 0.0

    x = x.double()
    centred = perplexity(torch.linalg.svdvals(x - x.mean(0)))
    return {"rankme": perplexity(torch.linalg.svdvals(x)), "monai": 1 - centred / min(len(x) - 1, x.shape[1])}


class Looker:
    """Looks at a run. Its views are those of every run on these images under this T."""

    def __init__(self, parts: Parts):
        self.parts = parts
        self.views = probe(parts.images, PROBE_VIEWS, dtype(parts.config))

    def of(self, views: Tensor) -> dict[str, float]:
        """Numbers of the backbone's centred features, of z and of p, with batch statistics."""
        net = self.parts.network
        z, p = look(net, views, tuple(range(len(views))))
        backbone = torch.stack([look(net.F.backbone, x) for x in views[:VIEWS]])
        centred = backbone - backbone.mean((0, 1))  # features after a ReLU have a mean
        found = described(centred, "centred", few=True) | described(z, "z") | described(p, "p")
        if len(views) > 1 and not isinstance(net.h, nn.Identity):
            found["rank_ratio"] = collapse.rank_ratio(p[0], z[0]).item()
            found["prediction_quality"] = em.prediction_quality(p[:2], z[:2]).item()
        return found

    def look(self) -> dict[str, float]:
        return self.of(self.views) | accuracies(self.parts)

    def pixels(self) -> dict[str, float]:
        """Numbers of what the network is given."""
        return described(self.views[:VIEWS].flatten(2), "x", few=True)

    def variants(self) -> Iterator[tuple[str, dict[str, float]]]:
        """The same network, looked at in ways that should not change what is said of it."""
        yield "64 images", self.of(self.views[:, :SMALL])
        yield "every image twice", self.of(self.views[:, : len(self.views[0]) // 2].repeat(1, 2, 1, 1, 1))
        z, p = look(self.parts.network, self.views, tuple(range(VIEWS)))
        yield "bfloat16", described(z.bfloat16(), "z") | described(p.bfloat16(), "p")
        net = self.parts.network
        net.eval()
        with torch.no_grad():
            z = torch.stack([net.F(x) for x in self.views[:VIEWS]])
            p = torch.stack([net.predict(net.F.embed(x)) for x in self.views[:VIEWS]])
        net.train()
        yield "running statistics", described(z, "z") | described(p, "p")


def supervised(parts: Parts) -> Iterator[int]:
    """Train F to name classes by a linear map of z, a step at a time: cross-entropy of one view."""
    net, data = parts.network, parts.images
    assert data.classes is not None
    classes = data.classes
    head = nn.Linear(parts.config.width, data.num_classes)
    nn.init.zeros_(head.weight)
    sgd = torch.optim.SGD(
        [*net.F.parameters(), *head.parameters()], parts.config.lr * parts.config.batch_size / 256, 0.9
    )
    for step, batch in enumerate(parts.batches):
        loss = functional.cross_entropy(head(net.F(batch.views[0]).float()), classes[batch.ids])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        yield step + 1


def alternating(parts: Parts) -> Iterator[int]:
    """Train as the parts say, a step at a time."""
    step: Step
    for step in parts.alternation():
        yield step.step + 1
