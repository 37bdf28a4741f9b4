"""What is measured while a run trains? Monitors, each with a state of its own that a checkpoint holds under flat keys.

Measuring leaves no trace in what is trained: passes run on copies of the buffers and draw no random numbers. Every
process measures (batch statistics are shared), the first one writes. `watch` says when, and in which order.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import objective, ranks
from ..build import Parts, dtype
from ..data.batches import Batch
from ..data.probe_set import ProbeSet
from ..diagnostics.em import response
from ..diagnostics.trajectory import sketch
from ..errors import place
from ..evaluation import classifiers
from ..methods import METHODS
from ..metrics import OF_P
from ..networks import wide
from ..runs.writer import Writer
from ..traits import of_objective, of_solver
from .observe import AlternationWatch, look_together, schedule

SNAPSHOTS = 64  # at most
PART = 1024  # images a pass of the kNN monitor
PROBE_LR = 0.1  # base learning rate of the online probe, × batch/256


class Monitor(Protocol):
    """What is kept from step to step."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, saved: Mapping[str, Any]) -> None: ...


class Losses:
    """The losses of the last epoch, at least those since the last line; read off the device when they are asked for."""

    def __init__(self, parts: Parts):
        self.per_epoch, self.device = parts.steps_per_epoch, parts.config.device
        self.kept: list[Tensor] = []
        self.local = 0  # how many of them, the latest, are this process's own yet
        self.unlogged = 0  # steps since the last line

    def add(self, loss: Tensor) -> None:
        self.kept.append(loss)
        self.local += 1
        self.unlogged += 1

    def mean(self, last: int) -> float:
        """The mean loss of the last steps, over all processes."""
        if self.local:
            latest = torch.stack(self.kept[-self.local :])
            self.kept[-self.local :] = list(ranks.mean(latest))
            self.local = 0
        return torch.stack(self.kept[-last:]).mean().item()

    def finite_until(self, step: int) -> int:
        """How many of the first `step` steps had a finite loss, as far back as losses are kept."""
        self.mean(1)  # of all processes
        bad = (~torch.stack(self.kept).isfinite()).nonzero()[:, 0].tolist()
        return step - len(self.kept) + bad[0] if bad else step

    def logged(self) -> None:
        """A line has been written."""
        self.unlogged = 0
        self.kept = self.kept[-self.per_epoch :]

    def state_dict(self) -> dict[str, Any]:
        return {"losses": torch.stack(self.kept), "unlogged": self.unlogged}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.kept, self.unlogged = list(saved["losses"].to(self.device)), saved["unlogged"]


class Predictions:
    """Numbers of p on the probe set, with batch statistics: the first and the last."""

    def __init__(self, parts: Parts, probe_set: ProbeSet):
        self.net, self.views = parts.network, probe_set.views[:1]
        self.first: dict[str, float] | None = None  # of before training
        self.last: dict[str, float] = {}

    def evaluate(self) -> None:
        _, p = look_together(self.net, self.views, (0,))
        finite = p.isfinite().all()  # else the run is about to end
        self.last = {m.name: m.of_p(p[0]).item() for m in OF_P if m.of_p} if finite else {}
        self.first = self.last if self.first is None else self.first

    def numbers(self) -> dict[str, float]:
        return self.last

    def summary(self) -> dict[str, float]:
        return self.last | {f"{name}_init": x for name, x in (self.first or {}).items()}

    def state_dict(self) -> dict[str, Any]:
        return {"predictions": self.last, "predictions_init": self.first or {}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.last = dict(saved.get("predictions", {}))  # an older run did not measure them
        self.first = dict(saved.get("predictions_init", {}))


class Accuracies:
    """Accuracies on test images as they are: of the kNN monitor, and of the online probe as it learns."""

    def __init__(self, parts: Parts, probe_set: ProbeSet):
        self.config, self.images, self.net = parts.config, parts.images, parts.network
        self.knn: list[float] = []  # of the backbone, at step 0 and at each evaluation
        self.knn_z: list[float] = []  # of z, likewise
        self.linear: list[float] = []  # the online probe's, at each evaluation
        self.online = self._probe(probe_set) if parts.config.online_probe else None

    def _probe(self, probe_set: ProbeSet) -> classifiers.OnlineProbe:
        c, width = self.config, self._backbone(probe_set.views[0, :1]).shape[1]
        probe = classifiers.OnlineProbe(width, self.images.num_classes, lr=PROBE_LR * c.batch_size / 256)
        return probe.to(c.device, dtype(c))

    def learn(self, batch: Batch) -> None:
        """The online probe's step, on the first view of the whole batch, of all processes."""
        if self.online:
            assert self.images.classes is not None
            features = batch.gather(self._backbone(batch.views[0]))
            self.online.learn(features, self.images.classes[batch.gather(batch.ids)])

    def evaluate(self, step: int) -> None:
        """Measure all, where there are labels; before the first step the probe has learned nothing."""
        data = self.images
        if not data.num_classes:
            return
        (features, z), (queries, z_queries) = self._features(data.labelled), self._features(data.test_images)
        if self.online and step:
            self.linear.append((self.online(queries).argmax(1) == data.test_labels).double().mean().item())
        self.knn.append(self._knn(features, queries))
        self.knn_z.append(self._knn(z, z_queries))

    def _knn(self, features: Tensor, queries: Tensor) -> float:
        """The accuracy of the kNN monitor. The vectors are normalised in place."""
        c, data = self.config, self.images
        predicted = classifiers.knn_predict(
            features, data.labels, queries, k=c.knn_k, t=c.knn_t, num_classes=data.num_classes, in_place=True
        )
        return (predicted == data.test_labels).double().mean().item()

    def _features(self, images: Any) -> tuple[Tensor, ...]:
        """The backbone's features [N, f] and z [N, d] of images as they are, in eval mode."""

        def seen(ids: Tensor) -> tuple[Tensor, ...]:
            return self._backbone_and_z(self.images.normalise(images[ids]).to(dtype(self.config)))

        return classifiers.stacked(ranks.divided(torch.arange(len(images)).split(PART), seen), len(images))

    @torch.no_grad()
    def _backbone_and_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self._backbone(x)
        self.net.eval()
        z = self.net.F.score(self.net.F.projector(features))
        self.net.train()
        return features, z

    @torch.no_grad()
    def _backbone(self, x: Tensor) -> Tensor:
        """Features [B, f] in eval mode. On a GPU in bf16 where training is; on a CPU in fp32, as older runs."""
        self.net.eval()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.net.autocast and x.is_cuda):
            features = wide(self.net.F.backbone(x))
        self.net.train()
        return features

    def numbers(self) -> dict[str, float]:
        """The accuracies of the last evaluation; none where there are no labels."""
        if not self.knn:
            return {}
        of_z = {"knn_z_acc1": self.knn_z[-1]} if self.knn_z else {}
        return {"knn_acc1": self.knn[-1]} | of_z | ({"probe_acc1": self.linear[-1]} if self.linear else {})

    def summary(self) -> dict[str, float]:
        """The accuracies of the whole run: first, last and best."""
        if not self.knn:
            return {}
        numbers = {
            "knn_acc1": self.knn[-1],
            "knn_acc1_best": max(self.knn[1:], default=self.knn[0]),
            "knn_acc1_init": self.knn[0],
        }
        if len(self.knn_z) == len(self.knn):  # else an older run goes on, which did not measure it
            numbers |= {"knn_z_acc1": self.knn_z[-1], "knn_z_acc1_init": self.knn_z[0]}
        return numbers | ({"probe_acc1": self.linear[-1], "probe_acc1_best": max(self.linear)} if self.linear else {})

    def state_dict(self) -> dict[str, Any]:
        of_probe = (
            {"online": self.online.state_dict(), "online_sgd": self.online.sgd.state_dict()} if self.online else {}
        )
        of_z = {"knn_z": self.knn_z}
        return {"knn": self.knn, "linear": self.linear, "online": {}, "online_sgd": {}} | of_z | of_probe

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.knn, self.knn_z = list(saved["knn"]), list(saved.get("knn_z", ()))  # an older run did not measure it
        if self.online:
            self.linear = list(saved["linear"])
            self.online.load_state_dict(saved["online"])
            self.online.sgd.load_state_dict(saved["online_sgd"])


class HalfSteps:
    """The two half-steps of the alternations that are due, see `observe.AlternationWatch`."""

    def __init__(self, parts: Parts, probe_set: ProbeSet):
        c = parts.config
        due = range(0, parts.steps + 1, parts.steps_per_epoch * int(c.diagnose_every or 1))
        self.device = c.device
        self.calls = schedule(list(due), int(c.k or 1))
        similarity = objective.SIMILARITIES.get(c.similarity or "", METHODS[c.mode].objective)
        number, self.note = views_of_solver(parts.solver)
        self.alternation = AlternationWatch(
            parts.network,
            parts.solver,
            probe_set,
            len(parts.images.images),
            cosine=of_objective(similarity).unit,
            views=number,
            total=parts.steps,
        )
        self.waiting: dict[str, float] = {}  # of the last alternation watched, until a line has it
        self.last: dict[str, float] = {}  # the last that a line has

    def look(self, step: int, state: dict[str, Any]) -> None:
        """Watch the alternation that is due at a step, if any. state: the solver's."""
        for call in self.calls.get(step, ()):
            self.waiting = getattr(self.alternation, call)(state, step) or self.waiting

    def numbers(self) -> dict[str, float]:
        return self.waiting

    def logged(self) -> None:
        """A line has been written."""
        self.last, self.waiting = self.waiting or self.last, {}

    def summary(self) -> dict[str, float]:
        return {name: r for name, r in self.last.items() if name in ("r_h", "r_linear")}

    def state_dict(self) -> dict[str, Any]:
        return {"em": self.waiting, "last_em": self.last, "alternation": self.alternation.kept}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.waiting, self.last = dict(saved["em"]), dict(saved["last_em"])
        self.alternation.kept = {name: x.to(self.device) for name, x in saved["alternation"].items()}


class Snapshots:
    """z of the probe set, and the weights of F in short, at log-spaced steps. They are files, and need no state."""

    def __init__(self, parts: Parts, probe_set: ProbeSet, writer: Writer | None):
        self.net, self.probe_set, self.writer = parts.network, probe_set, writer
        self.steps = {0, *np.geomspace(1, parts.steps, SNAPSHOTS - 1).round().astype(int).tolist()}

    def look(self, step: int) -> None:
        """Write one if it is due."""
        if step not in self.steps:
            return
        z = look_together(self.net.F, self.probe_set.views[0])
        weights = sketch(self.net.F.parameters()) if self.writer else z
        if self.writer and z.isfinite().all() and weights.isfinite().all():  # else the run is about to end
            self.writer.snapshot(step, z, weights)


def views_of_solver(solve: Callable) -> tuple[float, str]:
    """The solver's effective number of views, see `em.response`; NaN where it cannot be measured, and then why."""
    if not of_solver(solve).measurable:
        return math.nan, ""
    try:
        return response(solve, steps_per_epoch=2, epochs=200).views, ""
    except Exception as error:  # a user's solver may need real images, or be wrong
        reason = f"the solver fails on vectors in place of images ({place(error)})"
        return math.nan, f"{reason}; eta_gap_lag and eta_gap_sampling are left out; @solver(measurable=False) says so"
