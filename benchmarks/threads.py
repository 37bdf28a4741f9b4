"""python benchmarks/threads.py [--repeats N]: how long may a thread spin for another, on a quiet and a busy machine?

Each setting trains with two threads in a process of its own, settings interleaved; then again beside busy processes.
A thread that spins for a partner that is not running wastes the time in which that partner could run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

import torch

SETTINGS: dict[str, Mapping[str, str]] = {
    # libgomp's own first
    **{f"GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)} for n in (300_000, 30_000, 10_000, 1_000)},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
NETWORKS = {"tiny": (8, 128, 120), "resnet18": (32, 32, 8)}  # side, batch, steps
BUSY = 3  # processes


def measured(arch: str) -> float:
    """Milliseconds of a step, the median of one training."""
    from emsiam.alternate import alternate
    from emsiam.build import loop_options, network, objective_of, solver_of
    from emsiam.config import Config, preset, resolve
    from emsiam.data import batches, sets
    from emsiam.optim import SGD
    from emsiam.recipes import PAPER

    side, size, steps = NETWORKS[arch]
    if arch == "tiny":
        images = sets.digits()
    else:
        pixels = torch.randint(256, (512, 3, side, side), dtype=torch.uint8)
        images = sets.image_set("random", PAPER, (pixels, torch.zeros(512)), (pixels[:1], torch.zeros(1)))
    options = Config(arch=arch, batch_size=size, dim=128, device="cpu")
    config, _ = resolve(preset(options), len(images.images), images.shape)
    net = network(config, images.shape)
    stream = batches.batches(images, seed=0, batch_size=size, start=0, stop=steps, symmetry="sym", dtype=torch.float32)
    optimizer = SGD(net, lr=0.01, momentum=0.9, wd=0, steps=steps)
    times, last = [], time.perf_counter()
    parts = solver_of(config), objective_of(config), optimizer, stream
    for _ in alternate(net, *parts, **loop_options(config)):
        now = time.perf_counter()
        times.append(1e3 * (now - last))
        last = now
    return statistics.median(times[len(times) // 6 :])


def step_ms(arch: str, setting: Mapping[str, str]) -> float:
    known = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in known}
    command = [sys.executable, __file__, "--child", arch]
    done = subprocess.run(command, env={**clean, "OMP_NUM_THREADS": "2", **setting}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def table(arch: str, repeats: int) -> dict[str, float]:
    """{setting: milliseconds}, medians of repeats."""
    by_setting: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(repeats):
        for name, setting in SETTINGS.items():
            by_setting[name].append(step_ms(arch, setting))
    return {name: statistics.median(times) for name, times in by_setting.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(measured(given.child))
        sys.exit()
    import _report

    quiet = {arch: table(arch, given.repeats) for arch in NETWORKS}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        busy = {arch: table(arch, given.repeats) for arch in NETWORKS}
    finally:
        for other in others:
            other.kill()
    heads = [f"{arch}, {state}" for arch in NETWORKS for state in ("quiet", f"beside {BUSY} busy processes")]
    lines = [f"Milliseconds per step on {os.cpu_count()} cores, two threads (× the first row).", ""]
    lines += [f"| | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    first = next(iter(SETTINGS))
    for name in SETTINGS:
        cells = [
            f"{times[name]:.1f} ({times[name] / times[first]:.2f}×)"
            for arch in NETWORKS
            for times in (quiet[arch], busy[arch])
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    _report.write("python benchmarks/threads.py", "\n".join(lines))
