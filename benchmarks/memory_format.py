"""python benchmarks/memory_format.py: a training step of `tiny`, contiguous against channels_last, fp32 and bf16.

Interleaved repeats on the same data, medians; the ratio is of times, > 1 where the first is slower.
"""

import statistics

import _report
import torch
from _clock import seconds

from emsiam import networks

REPEATS, STEPS = 15, 10


def network(memory_format, autocast, size):
    torch.manual_seed(0)
    backbone, width = networks.build_backbone("tiny", None, (1, size, size))
    projector = networks.build_projector(width, hidden_dim=128, dim=128, layers=3, bn="default", output_affine=True)
    h = networks.build_predictor("mlp", dim=128, pred_dim=32, bn="default")
    return networks.Siamese(backbone, projector, h, autocast).to(memory_format=memory_format)


def steps(net, views):
    for _ in range(STEPS):
        z, p = net(views, (0, 1))
        (p * z.detach().flip(0)).mean().backward()


if __name__ == "__main__":
    lines = ["Batch 128, two views, forward and backward.", "", "| | ms | × channels_last fp32 |", "|---|---|---|"]
    for size in (8, 28):
        views = torch.randn(2, 128, 1, size, size)
        kinds = {
            "contiguous fp32": network(torch.contiguous_format, False, size),
            "channels_last fp32": network(torch.channels_last, False, size),
            "channels_last bf16": network(torch.channels_last, True, size),
        }
        times = {name: [] for name in kinds}
        for repeat in range(REPEATS + 1):
            for name, net in kinds.items():
                took = seconds(steps, net, views)[0] / STEPS
                if repeat:  # the first warms up
                    times[name].append(took)
        medians = {name: statistics.median(t) for name, t in times.items()}
        base = medians["channels_last fp32"]
        lines += [f"| tiny, {size}×{size}, {name} | {1e3 * t:.2f} | {t / base:.2f} |" for name, t in medians.items()]
    _report.write("python benchmarks/memory_format.py", "\n".join(lines))
