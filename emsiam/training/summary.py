"""What became of a run? What summary.json says beside the numbers of the monitors."""

import math
import resource
import sys
from typing import Any

from ..build import Parts
from ..data.probe_set import ProbeSet
from ..diagnostics import collapse
from ..diagnostics.em import prediction_quality
from ..diagnostics.verdict import Evidence, verdict
from .observe import look


def facts(parts: Parts, steps: int, seconds: float) -> dict[str, Any]:
    """Which run it was, how long, and what it took."""
    c = parts.config
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
    }


def judged(parts: Parts, probe_set: ProbeSet, finite: bool) -> dict[str, Any]:
    """The verdict, and what of its evidence a line does not have. finite: loss and weights."""
    e = evidence(parts, probe_set, finite)
    return {
        "between_share": e.between_share,
        "prediction_quality": e.prediction_quality,
        "verdict": verdict(e),
    }


def evidence(parts: Parts, probe_set: ProbeSet, finite: bool) -> Evidence:
    """What the verdict looks at, on the probe set with batch statistics."""
    z, p = look(parts.network, probe_set.views, (0, 1))
    if not z.isfinite().all():
        return Evidence(math.nan, math.nan, math.nan, math.nan, parts.config.width, finite=False)
    return Evidence(
        z_std_ratio=collapse.z_std_ratio(z[0]).item(),
        participation_ratio=collapse.participation_ratio(z[0]).item(),
        between_share=collapse.between_share(z).item(),
        prediction_quality=prediction_quality(p, z[:2]).item(),
        dim=parts.config.width,
        finite=finite,
    )


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
