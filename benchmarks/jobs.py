"""python benchmarks/jobs.py [--repeats N]: what does `--jobs` gain? Two sweeps of the same four runs, interleaved.

Two at once with a thread each, against one at a time with a thread and with two threads. Wall-clock of all four,
start of processes included.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import _report

sys.path.insert(0, str(Path(__file__).parents[1]))
from experiments._jobs import jobs, run
from experiments._records import Records

WAYS = {"one at a time, 1 thread": (1, 1), "one at a time, 2 threads": (1, 2), "two at once, 1 thread each": (2, 1)}


def seconds(at_once: int, threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        wanted = jobs({"epochs": 60, "threads": threads}, 4, Path(folder))
        began = time.perf_counter()
        assert run(wanted, at_once, "local", Records(Path(folder), "jobs")) == []
        return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            times[name].append(seconds(*way))
    *ones, two = (statistics.median(t) for t in times.values())
    lines = ["Four runs of 60 epochs on digits, by the sweep engine.", "", "| | s | two at once is |", "|---|---|---|"]
    for name, t in zip(WAYS, (*ones, two), strict=True):
        lines.append(f"| {name} | {t:.1f} | {'' if t == two else f'{t / two:.2f}× as fast'} |")
    _report.write("python benchmarks/jobs.py", "\n".join(lines))
