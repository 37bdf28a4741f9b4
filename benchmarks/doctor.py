"""python benchmarks/doctor.py [--repeats N]: what do the monitor and the doctor cost?

A look of `emsiam.Monitor` at what one step made of its batch, as a share of the steps between two looks at its default
cadence; and `emsiam.examine` of a ResNet-18 and of embeddings. Interleaved, medians.
"""

import argparse
import statistics

import _report
import torch
from _clock import seconds

import emsiam
from emsiam.doctor.monitor import EVERY
from emsiam.networks import build_backbone

NETWORKS = {  # images, and options of `emsiam.Config`
    "ResNet-18, 32×32, d = 2048, batch 128": ((3, 32, 32), {"arch": "resnet18", "dim": 2048, "hidden_dim": 2048}),
    "tiny, 8×8, d = 128, batch 128": ((1, 8, 8), {"arch": "tiny"}),
}


def monitored(shape, options, repeats):
    """Seconds of a step, and of a look at what it made."""
    images = torch.rand(256, *shape)
    parts = emsiam.prepare(emsiam.Config(**options, epochs=10**6, batch_size=128), images=images)
    made, alternation = {}, parts.alternation()
    parts.network.register_forward_hook(lambda _net, _given, zp: made.update(z=zp[0].detach(), p=zp[1].detach()))
    monitor = emsiam.Monitor(every=1)
    next(alternation)
    steps, looks = [], []
    for _ in range(repeats):
        steps.append(seconds(next, alternation)[0])
        looks.append(seconds(monitor.update, made["z"], made["p"][0])[0])
    return statistics.median(steps), statistics.median(looks)


def main(repeats):
    lines = ["| | a step, s | a look, s | its share of the steps between looks |", "|---|---|---|---|"]
    for name, (shape, options) in NETWORKS.items():
        step, look = monitored(shape, options, repeats)
        lines.append(f"| {name} | {step:.3f} | {look:.3f} | {look / (EVERY * step):.2%} |")
    net = build_backbone("resnet18", None, (3, 32, 32))[0]
    images, z = torch.rand(2000, 3, 32, 32), torch.randn(2, 2000, 2048)
    calls = {
        "examine(ResNet-18, 2,000 images of 32×32)": lambda: emsiam.examine(net, images),
        "examine(ResNet-18, two views of 2,000 images of 32×32)": lambda: emsiam.examine(
            net, torch.stack([images] * 2)
        ),
        "examine(z), 2 × 2,000 × 2,048": lambda: emsiam.examine(z),
    }
    took = {name: [] for name in calls}
    for _ in range(max(1, repeats // 5)):
        for name, call in calls.items():
            took[name].append(seconds(call)[0])
    lines += ["", "| | s |", "|---|---|", *(f"| {name} | {statistics.median(x):.1f} |" for name, x in took.items())]
    _report.write("python benchmarks/doctor.py", "\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    main(parser.parse_args().repeats)
