"""python benchmarks/throughput.py [--repeats N]: how fast is a training step, against what it could be?

On the same network, data and machine, interleaved, medians over repeats; on CUDA where it is present:

    emsiam      batches + alternate, as `emsiam.train` runs them
    lightly     what a user would write today: lightly's SimSiam heads, loss and transform, a DataLoader, fp32
    lightly+    the same with bf16 autocast and channels_last
    model       the network alone on synthetic tensors: two views forward, loss, backward, SGD

and what emsiam's own parts add: the frozen passes of multistep, the bank, logging. Needs `pip install lightly`.
"""

import argparse
import itertools
import statistics
import time
from typing import Any

import _report
import numpy as np
import torch
from _clock import seconds
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from lightly.transforms import SimSiamTransform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from emsiam import data, objective, optim, processor
from emsiam.alternate import Frozen, alternate, hold
from emsiam.build import assemble, network
from emsiam.config import Config, preset, resolve
from emsiam.eta import SOLVERS
from emsiam.eta.memory import moving_average
from emsiam.networks import build_backbone
from emsiam.training.watch import Watch

BATCH = 128
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PROFILED = "device" if DEVICE.type == "cuda" else "cpu"
SETTLE = 2  # seconds


def colour_set():
    """10,000 colour images of 32×32 in memory, with CIFAR's T."""
    shapes = data.sets.shapes()
    images = torch.cat([shapes.images[ids] for ids in torch.arange(10_000).split(1000)])
    tests = shapes.test_images[torch.arange(2000)]
    labels = (images, shapes.labels), (tests, shapes.test_labels)
    return data.sets.image_set("shapes", data.sets.CIFAR, *labels)


# data set, options, lightly's transform, and how many steps warm up and are timed, and times --repeats
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], tuple[int, int, int]]] = {
    "ResNet-18, 32×32, d = 2048": (
        colour_set,
        {"arch": "resnet18", "dim": 2048, "hidden_dim": 2048},
        {"input_size": 32, "gaussian_blur": 0.0},
        (1, 3, 1),
    ),
    "tiny, 28×28, d = 128": (data.sets.mnist5k, {"arch": "tiny"}, {"input_size": 28}, (6, 15, 3)),
    "tiny, 8×8, d = 128": (data.sets.digits, {"arch": "tiny"}, {"input_size": 8}, (10, 30, 5)),
}
# lightly's transform with the strengths of HANDWRITTEN, on grey images
GREY = {"cj_prob": 1.0, "cj_sat": 0.0, "cj_hue": 0.0, "min_scale": 0.3, "random_gray_scale": 0.0, "gaussian_blur": 0.0}
GREY |= {"hf_prob": 0.0, "rr_prob": 1.0, "rr_degrees": 15}


def stepper(net, solve, config, stream, *, k=1, held=False):
    """A generator of training steps."""
    optimizer = optim.SGD(net, lr=0.05, momentum=config.momentum, wd=config.wd, steps=10**9)
    return alternate(net, solve, objective.loss, optimizer, stream, k=k, held=held)


def stream_of(images):
    return data.batches.batches(
        images, seed=0, batch_size=BATCH, start=0, stop=10**9, symmetry="sym", dtype=torch.float32
    )


def ours(images, config, mode_solve=SOLVERS["other_view"], **options):
    return stepper(network(config, images.shape).to(DEVICE), mode_solve, config, stream_of(images), **options)


def model(images, config):
    """The network alone, on the same tensors again and again."""
    views = torch.randn(2, BATCH, *images.shape, device=DEVICE)
    ids = torch.arange(BATCH, device=DEVICE)
    batch = data.batches.Batch.of(0, ids, views, draw=lambda n: views[:n], num_images=BATCH)
    return stepper(network(config, images.shape).to(DEVICE), SOLVERS["other_view"], config, itertools.repeat(batch))


def forward(images, config):
    """The frozen passes that multistep adds to a step: two views, no gradient."""
    net = network(config, images.shape).to(DEVICE)
    views = torch.randn(2, BATCH, *images.shape, device=DEVICE)
    F_t = Frozen(net.F, hold(net.F, copy=True), None)
    while True:
        yield F_t(views)


class Pictures(Dataset):
    def __init__(self, images, transform):
        pixels = images.images.permute(0, 2, 3, 1).cpu().numpy()
        self.pictures = [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in np.ascontiguousarray(pixels)]
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return self.transform(self.pictures[i])


class Lightly(nn.Module):
    def __init__(self, config, shape):
        super().__init__()
        self.backbone, width = build_backbone(config.arch, config.stem, shape)
        self.projector = SimSiamProjectionHead(width, config.hidden_dim, config.dim)
        self.predictor = SimSiamPredictionHead(config.dim, config.pred_dim, config.dim)

    def forward(self, x):
        z = self.projector(self.backbone(x).flatten(1))
        return z.detach(), self.predictor(z)


def lightly(images, config, transform, *, fast):
    strengths = (GREY if images.shape[0] == 1 else {}) | transform
    scale = {"mean": images.mean.flatten().tolist(), "std": images.std.flatten().tolist()}
    pictures = Pictures(images, SimSiamTransform(**strengths, normalize=scale))
    workers = processor.own()
    loader = DataLoader(
        pictures,
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=DEVICE.type == "cuda",
    )
    net = Lightly(config, images.shape)
    kind = torch.channels_last if fast else torch.contiguous_format
    net = net.to(DEVICE).to(memory_format=kind)
    criterion = NegativeCosineSimilarity()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.025, momentum=config.momentum, weight_decay=config.wd)
    while True:
        for x0, x1 in loader:
            x0, x1 = (x.to(DEVICE, non_blocking=True).contiguous(memory_format=kind) for x in (x0, x1))
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=fast):
                (z0, p0), (z1, p1) = net(x0), net(x1)
                loss = 0.5 * (criterion(z0, p1) + criterion(z1, p0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss


def interleave(contenders, warm, steps, repeats):
    """{name: median seconds a step}. Each stretch begins when the loaders' processes are idle, and with untimed steps,
    so that filled queues do not flatter it.
    """
    times = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, stream in contenders.items():
            for _ in range(
                max(warm, 2 * processor.own() + 2) if "lightly" in name else warm
            ):  # 2 batches a worker wait
                next(stream)
            times[name].append(seconds(lambda stream=stream: [next(stream) for _ in range(steps)])[0] / steps)
            time.sleep(SETTLE if "lightly" in name else 0)
    return {name: statistics.median(t) for name, t in times.items()}


def profile(stream):
    """Where a step's time goes: the shares of the largest operations, of five steps."""
    next(stream)
    with torch.profiler.profile() as seen:
        for _ in range(5):
            next(stream)
    spent = {e.key.replace("aten::", ""): getattr(e, f"self_{PROFILED}_time_total") for e in seen.key_averages()}
    largest = sorted(spent.items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{name} {t / sum(spent.values()):.0%}" for name, t in largest)


def bank_seconds(config, repeats):
    """Median seconds of the bank's part of a step: rows read, averaged and written; 50,000 rows."""
    z = torch.randn(2, BATCH, config.dim, device=DEVICE)
    order = torch.randperm(50_000).to(DEVICE).split(BATCH)
    state, times = {}, []
    for ids in order[:-1][: 40 * repeats]:
        batch = data.batches.Batch.of(0, ids, z, draw=lambda n: z[:n], num_images=50_000)
        took, (_, state) = seconds(moving_average, state, lambda views: views, batch)
        times.append(took)
    return statistics.median(times)


def line_seconds(images, config, repeats):
    """Median seconds of what a line of metrics.jsonl costs: the probe's pass and its numbers."""
    watch = Watch(assemble(config, images), None)
    return statistics.median([seconds(lambda: watch._measure(1, evaluate=False))[0] for _ in range(repeats + 1)][1:])


def sgd_seconds(images, config, repeats):
    """Median seconds of SGD's part of a step: every parameter moves, of gradients that are there."""
    net = network(config, images.shape).to(DEVICE)
    optimizer = optim.SGD(net, lr=0.05, momentum=config.momentum, wd=config.wd, steps=10**9)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.sgd.param_groups:
        group["foreach"] = True
    return statistics.median([seconds(optimizer.sgd.step)[0] for _ in range(20 * repeats)])


def run(name, repeats):
    make, options, transform, (warm, steps, times) = CASES[name]
    images = make().to(DEVICE)
    config, _ = resolve(preset(Config(**options)), len(images.images), images.shape)
    contenders = {
        "emsiam": ours(images, config),
        "model": model(images, config),
        "batch": stream_of(images),
        "lightly": lightly(images, config, transform, fast=False),
        "lightly+": lightly(images, config, transform, fast=True),
        "multistep k = 10": ours(images, config, k=10, held=True),
        "forward": forward(images, config),
    }
    s = interleave(contenders, warm, steps, repeats * times)
    bank, line = bank_seconds(config, repeats), line_seconds(images, config, repeats)
    sgd = sgd_seconds(images, config, repeats)
    rows = [
        (f"emsiam, {config.precision}", s["emsiam"], ""),
        ("lightly, fp32", s["lightly"], f"emsiam {s['lightly'] / s['emsiam']:.2f}× as fast"),
        ("lightly, bf16, channels_last", s["lightly+"], f"emsiam {s['lightly+'] / s['emsiam']:.2f}× as fast"),
        ("the model alone", s["model"], f"emsiam {s['model'] / s['emsiam']:.2f}× as fast"),
        (
            "multistep k = 10",
            s["multistep k = 10"],
            f"{s['multistep k = 10'] / (s['emsiam'] + s['forward']):.2f}× a step and its two frozen passes",
        ),
        ("a step's batch: ids, draws, T", s["batch"], f"{s['batch'] / s['emsiam']:.1%} of a step"),
        ("a step's SGD, in the model alone too", sgd, f"{sgd / s['emsiam']:.1%} of a step"),
        ("the bank's part", bank, f"{bank / s['emsiam']:.1%} of a step"),
        (f"a log line, every {config.log_every}", line, f"{line / config.log_every / s['emsiam']:.1%} of a step"),
    ]
    table = "\n".join(f"| {what} | {1e3 * t:.4g} | {BATCH / t:,.0f} | {note} |" for what, t, note in rows)
    ceiling = s["lightly"] / s["model"]
    rest = f"The model alone is {ceiling:.2f}× as fast as lightly's plain recipe: no pipeline around it can be faster."
    where = f"A step of emsiam by operation: {profile(contenders['emsiam'])}."
    return f"**{name}**, batch {BATCH}\n\n| | ms | images/s | |\n|---|---|---|---|\n{table}\n\n{rest} {where}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help="part of a case's name; without it all run and BENCHMARKS.md is written")
    given = parser.parse_args()
    texts = [run(name, given.repeats) for name in CASES if (given.case or "") in name]
    text = "\n".join(texts)
    print(text) if given.case else _report.write("python benchmarks/throughput.py", text)
