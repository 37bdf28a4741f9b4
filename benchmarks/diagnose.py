"""python benchmarks/diagnose.py [--repeats N]: what do the diagnostics cost at their default cadence?

Whole runs on digits with the defaults; the time inside each kind of look, as a share of the run. Medians.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from functools import wraps

import _report

from emsiam import Config, fit
from emsiam.training.monitors import HalfSteps, Snapshots
from emsiam.training.watch import Watch

KINDS = {
    (HalfSteps, "look"): "alternations watched (`--diagnose-every`)",
    (Snapshots, "look"): "snapshots of z and of the weights",
    (Watch, "_measure"): "log lines and kNN evaluations",
}


def timed(kind, look, spent):
    @wraps(look)
    def inside(*given, **options):
        began = time.perf_counter()
        answer = look(*given, **options)
        spent[kind] += time.perf_counter() - began
        return answer

    return inside


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    spent: dict[tuple, float] = defaultdict(float)
    for kind in KINDS:
        setattr(*kind, timed(kind, getattr(*kind), spent))
    modes = {mode: defaultdict(list) for mode in ("onestep", "multistep", "ema_eta")}
    for _ in range(repeats):
        for mode, shares in modes.items():
            spent.clear()
            with tempfile.TemporaryDirectory() as folder:
                seconds = fit(Config(mode=mode, quiet=True, out=f"{folder}/run")).summary["seconds"]
            shares["the run, s"].append(seconds)
            for name in KINDS:
                shares[name].append(spent[name] / seconds)
    lines = ["Runs on digits with the defaults, 1,320 steps.", "", f"| | {' | '.join(modes)} |", "|---|---|---|---|"]
    rows = {"the run, s": ("the run, s", "{:.1f}"), **{name: (what, "{:.1%}") for name, what in KINDS.items()}}
    for name, (what, form) in rows.items():
        lines.append(f"| {what} | {' | '.join(form.format(statistics.median(m[name])) for m in modes.values())} |")
    _report.write("python benchmarks/diagnose.py", "\n".join(lines))
