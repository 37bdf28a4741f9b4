"""What became of a run? What summary.json says beside the numbers of the monitors."""

import math
import resource
import sys
from typing import Any

import torch
from torch import Tensor, nn

from .. import ranks
from ..build import Parts, network
from ..data.probe_set import ProbeSet
from ..diagnostics import collapse
from ..diagnostics.em import prediction_quality
from ..diagnostics.verdict import RULE, Evidence, Judgement, Seen, judge, seen
from .observe import look, look_together

NOT_FINITE = Evidence(images=0, z=None)


def facts(parts: Parts, steps: int, seconds: float) -> dict[str, Any]:
    """Which run it was, how long, and what it took."""
    c, broken = parts.config, parts.images.broken
    return {
        "mode": c.mode,
        "dataset": c.dataset,
        "arch": c.arch,
        "seed": c.seed,
        "steps": steps,
        "epochs": steps // parts.steps_per_epoch,
        "seconds": seconds,
        "images_per_second": steps * c.batch_size / seconds,
        "peak_rss_mb": peak_rss_mb(),
        **({"broken_images": len(ranks.union(broken.reasons))} if broken and broken.skip else {}),
    }


class Verdicts:
    """Judges a run as the doctor does: by two views of the probe set, beside pixels and the network before training."""

    def __init__(self, parts: Parts, probe_set: ProbeSet):
        self.parts, self.probe_set = parts, probe_set
        self.beside: dict[str, Seen | None] = {}

    def of(self, z: Tensor, p: Tensor, steps: int) -> Judgement:
        """z [n, P, d] and p [2, P, d] of the probe set after so many steps, with batch statistics."""
        if not (z.isfinite().all() and p.isfinite().all()):
            return judge(NOT_FINITE)
        two = self.probe_set.views[:2]
        if not self.beside:
            before = network(self.parts.config, self.parts.images.shape).to(two.device).train()
            untrained = seen(torch.stack([look(before.F, x) for x in two]))
            self.beside = {"untrained": untrained, "pixels": seen(two.flatten(2))}
        no_h = isinstance(self.parts.network.h, nn.Identity)
        return judge(Evidence(two.shape[1], seen(z[:2]), None if no_h else seen(p), steps=steps, **self.beside))

    def now(self, steps: int) -> Judgement:
        """After so many steps."""
        z, p = look_together(self.parts.network, self.probe_set.views[:2], (0, 1))
        return self.of(z, p, steps)

    def summary(self, steps: int, finite: bool) -> dict[str, Any]:
        """The verdict with its reason, and what is read of the 8 views. finite: loss and weights."""
        z, p = look_together(self.parts.network, self.probe_set.views, (0, 1))
        judgement = self.of(z, p, steps) if finite else judge(NOT_FINITE)
        known = judgement.verdict != "diverged"
        return {
            "between_share": collapse.between_share(z).item() if known else math.nan,
            "prediction_quality": prediction_quality(p, z[:2]).item() if known else math.nan,
            "verdict": judgement.verdict,
            "reason": judgement.reason,
            "verdict_rule": RULE,
        }


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
