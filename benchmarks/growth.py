"""python benchmarks/growth.py: how does the time of a step grow, and what do two processes gain?

The tiny network on generated images of 32×32, with a bank (`ema_eta`), one of N, d, k, B changed at a time,
interleaved; the exponent is the slope of log time over log size, over the upper half of the sizes. Beside it 1 process
with 2 threads, and 2 with one each, by torchrun.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import _report
import numpy as np
import torch
from _clock import seconds

import emsiam
from emsiam import ranks

BASE: dict[str, Any] = {
    "mode": "ema_eta",
    "dataset": "shapes",
    "arch": "tiny",
    "num_images": 10_000,
    "dim": 128,
    "batch_size": 64,
}
BASE |= {"precision": "fp32", "epochs": 100}
SIZES = {
    "N, images": ("num_images", [2000, 10_000, 100_000, 1_000_000]),
    "d, width of z": ("dim", [128, 256, 512, 1024, 2048]),
    "k, steps per alternation": ("k", [1, 4, 16, 64]),
    "B, images per step": ("batch_size", [32, 64, 128, 256]),
}
WARM, STEPS, REPEATS = 2, 6, 3
OF_RANKS = BASE | {"mode": "onestep", "batch_size": 128, "device": "cpu"}


def stretch(trained, steps):
    """Seconds per step."""
    return seconds(lambda: [next(trained) for _ in range(steps)])[0] / steps


def growth(option, sizes):
    """Median milliseconds of a step for each size."""
    runs = [emsiam.prepare(emsiam.Config(**BASE | {option: size}, threads=2)).alternation() for size in sizes]
    times = [[] for _ in runs]
    for trained in runs:
        stretch(trained, WARM)
    for _ in range(REPEATS):
        for taken, trained in zip(times, runs, strict=True):
            taken.append(stretch(trained, STEPS))
    return [1e3 * statistics.median(taken) for taken in times]


def of_processes(number):
    """Milliseconds per step of as many processes, with 2 / number threads each."""
    env = os.environ | {"OMP_NUM_THREADS": str(2 // number)}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={number}",
        "--standalone",
        __file__,
        "rank",
    ]
    done = subprocess.run(launch, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def as_rank():
    """What each process of `of_processes` does."""
    from emsiam.build import assemble
    from emsiam.config.resolution import load_images, resolve

    config, images, _ = load_images(emsiam.Config(**OF_RANKS, threads=2 // ranks.world_size()))
    config, _ = resolve(config, len(images.images), images.shape, len(images.labels))
    torch.set_num_threads(config.threads or 1)
    with ranks.together("cpu"):
        trained = assemble(config, images).alternation()
        stretch(trained, WARM)
        times = [1e3 * stretch(trained, STEPS) for _ in range(REPEATS)]
        if ranks.rank() == 0:
            print(json.dumps(statistics.median(times)))


def main():
    lines = ["| | sizes | ms per step | exponent |", "|---|---|---|---|"]
    for name, (option, sizes) in SIZES.items():
        times = growth(option, sizes)
        half = len(sizes) // 2
        slope = np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0]
        shown = ", ".join(f"{size:,}" for size in sizes), ", ".join(f"{t:.4g}" for t in times)
        lines.append(f"| {name} | {shown[0]} | {shown[1]} | {slope:.2f} |")
    one, two = of_processes(1), of_processes(2)
    ratio = (
        f"Batch 128, SimSiam: 1 process with 2 threads {one:.4g} ms per step, 2 processes with one each {two:.4g} ms"
    )
    base = ", ".join(f"{name} {BASE[option]:,}" for name, (option, _) in SIZES.items() if option in BASE)
    text = "\n".join(lines) + f"\n\nWhere a size is not changed: {base}, k 1.\n\n{ratio} ({one / two:.2f}× as fast)."
    _report.write("python benchmarks/growth.py", text)


if __name__ == "__main__":
    as_rank() if sys.argv[1:] == ["rank"] else main()
