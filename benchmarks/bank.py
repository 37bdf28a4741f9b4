"""python benchmarks/bank.py [DIR]: a bank of η of ImageNet's size, created, updated and read back.

1,281,167 rows of 2048 in bf16, in host memory and in a file mapped in DIR (default: here), each in a process of its
own: every row is visited once and half of them twice, 512 a step, by `moving_average` itself. Peak memory is told
beside what arithmetic says; rows are compared with an average formed apart.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import _report
import torch

from emsiam.data.batches import Batch
from emsiam.eta.bank import needed
from emsiam.eta.memory import moving_average
from emsiam.training.summary import peak_rss_mb

ROWS, DIM, BATCH, DTYPE, M = 1_281_167, 2048, 512, "bf16", 0.8
WATCHED = 64  # steps whose rows are followed by hand


def representation(step: int) -> torch.Tensor:
    """[2, BATCH, DIM]: two views, made anew from the step; a few different ones are enough."""
    return torch.randn(2, BATCH, DIM, generator=torch.Generator().manual_seed(step % WATCHED))


def visits(place: str) -> dict:
    solve = partial(moving_average, m=M, bank=place, bank_dtype=DTYPE)
    made = {step: representation(step) for step in range(WATCHED)}
    baseline = peak_rss_mb()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).split(BATCH)[:-1]
    order = [*order, *order[: len(order) // 2]]
    state, times, no_views = {}, [], torch.empty(0)
    for step, ids in enumerate(order):
        batch = Batch(step, ids, no_views, (0, 1), (1, 0), made[step % WATCHED], lambda n: no_views, ROWS, lambda x: x)
        began = time.perf_counter()
        _, state = solve(state, lambda views: views, batch)
        times.append(time.perf_counter() - began)
    first = len(order) * 2 // 3  # of the second round: its rows have been visited twice
    worst = 0.0
    for step in range(WATCHED):
        once = made[step].mean(0).bfloat16().float()
        expected = M * once + (1 - M) * made[(first + step) % WATCHED].mean(0)
        worst = max(worst, (state["rows"][order[step]].float() - expected).abs().max().item())
    visited, again = times[1:first], times[first:]
    return {
        "create and first step, s": times[0],
        "first visit, ms a step": 1e3 * statistics.median(visited),
        "later visit, ms a step": 1e3 * statistics.median(again),
        "largest difference to an average apart": worst,
        "peak memory, MiB": peak_rss_mb(),
        "of it before, MiB": baseline,
        "arithmetic for the bank, MiB": needed(ROWS, DIM, DTYPE, torch.float32) / 2**20,
    }


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(visits(sys.argv[2])))
        sys.exit()
    directory = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent)
    columns = {}
    for name, place in (("host memory", "host"), ("mapped file", directory)):
        done = subprocess.run([sys.executable, __file__, "one", place], capture_output=True, text=True, check=True)
        columns[name] = json.loads(done.stdout)
    lines = [f"| | {' | '.join(columns)} |", "|---|---|---|"]
    for what in columns["host memory"]:
        lines.append(f"| {what} | {' | '.join(f'{column[what]:.4g}' for column in columns.values())} |")
    text = f"{ROWS:,} × {DIM} in {DTYPE}, {BATCH} images a step, m = {M}; {os.cpu_count()} cores.\n\n" + "\n".join(
        lines
    )
    _report.write("python benchmarks/bank.py", text)
