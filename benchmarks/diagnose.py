"""python benchmarks/diagnose.py [--repeats N]: what do the diagnostics cost at their default cadence?

Whole runs on digits with the defaults, interleaved: as they are; without watching alternations; and without lines,
snapshots and evaluations between the ends either. Medians.
"""

import argparse
import statistics
import tempfile

import _report

from emsiam import Config, fit

NEVER = 10**6
KINDS = {
    "the defaults": {},
    "no alternation watched": {"diagnose_every": NEVER},
    "nothing looked at but the ends": {"diagnose_every": NEVER, "log_every": NEVER, "eval_every": NEVER},
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    lines = ["A run of onestep or ema_eta on digits, 1,320 steps.", "", "| | s | × the defaults |", "|---|---|---|"]
    for mode in ("onestep", "ema_eta"):
        seconds = {kind: [] for kind in KINDS}
        for _ in range(repeats):
            for kind, options in KINDS.items():
                with tempfile.TemporaryDirectory() as folder:
                    run = fit(Config(mode=mode, quiet=True, out=f"{folder}/run", **options))
                seconds[kind].append(run.summary["seconds"])
        medians = {kind: statistics.median(s) for kind, s in seconds.items()}
        base = medians["the defaults"]
        lines += [f"| {mode}, {kind} | {s:.2f} | {s / base:.3f} |" for kind, s in medians.items()]
    _report.write("python benchmarks/diagnose.py", "\n".join(lines))
