"""python -m experiments.paper_scale: docs/paper_scale.md, the commands on CIFAR-10 and ImageNet."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from emsiam import optim
from emsiam.alternate import Step, alternate
from emsiam.build import loop_options, network, objective_of, solver_of
from emsiam.config import DEFAULTS, PRESETS, Config, preset, resolve
from emsiam.data.batches import Batch, views_of
from emsiam.errors import given_flag

from . import tables
from ._table import Row

FILE = Path(__file__).parents[1] / "docs" / "paper_scale.md"
SETS = {  # preset: images to train on, their shape, the command's options
    "simsiam-cifar10": (50_000, (3, 32, 32), "--data-dir DIR --download"),
    "simsiam-imagenet": (1_281_167, (3, 224, 224), "--data-dir DIR"),
}
A100 = 2470  # images/s: training of ResNet-50 at 224×224 in mixed precision, see HEAD
HEAD = """# The tables at the paper's scale

Made by `python -m experiments.paper_scale` from the rows of [experiments/](../experiments) and the presets; nothing
here is typed by hand. A row on digits that is longer, wider or warmed up is so here in proportion. For an interval,
each with `--seed` 0 to 4. What is not the paper's: all systems have SimSiam's optimiser, lr and weight decay; MoCo's
momentum is 0.99 (0.999 there); SwAV has d prototypes, at most 3,000 (3,000 there); none is tuned. The batch is 512
for all, as in most of the paper's tables; Table 4's is 4,096 for SimCLR, BYOL and SwAV, and 256 for MoCo and SimSiam.

Hours are those of one A100, estimated, not measured. The FLOPs of a step, forward and backward,
are counted (`torch.utils.flop_counter`), and taken to run at {rate:.0f} TFLOP/s, as NVIDIA trains ResNet-50 there
({A100:,} images/s in mixed precision; DeepLearningExamples at 291f0d0, PyTorch/Classification/ConvNets/resnet50v1.5).
Small images reach less of it, several times less perhaps, and reading files, evaluations and looks come on top: these
are lower bounds. For the backward pass ImageNet's ResNet-50 keeps {kept:.0f} MB an image, of two views in bf16
(counted): {needs:.0f} GB for a batch of 512 on one GPU; larger ones and smaller cards need several. A bank of η on the
device adds 10.5 GB (`--bank host --bank-dtype bf16`: 5 in memory).

Several GPUs: `torchrun --nproc-per-node=8 -m emsiam.train -- …`, with the numbers of one. ImageNet's DIR holds
`train/` and `val/`, in each a folder a class.
"""


def scaled(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A row's options under a preset: lengths and widths in proportion, and none that are of a small data set."""
    o, to = dict(options), PRESETS[name]
    if "dataset" in o:
        o = {n: v for n, v in o.items() if n not in ("dataset", "num_images", "batch_size", "epochs", "precision")}
    for option, of in (("epochs", "epochs"), ("warmup_epochs", "epochs"), ("dim", "dim")):
        if option in o:
            o[option] = o[option] * to[of] // DEFAULTS[of]
    return {n: v for n, v in o.items() if to.get(n) != v}


def command(options: Mapping[str, Any], name: str) -> str:
    """The command line of a row under a preset."""
    flags = [given_flag(n, v) for n, v in scaled(options, name).items()]
    return " ".join(["python -m emsiam.train --preset", name, SETS[name][2], *flags])


def hours(options: Mapping[str, Any], name: str) -> float:
    """Hours of one A100, by the FLOPs of all steps."""
    number, shape, _ = SETS[name]
    config = Config(preset=name, device="cpu", precision="fp32", bank="device", **scaled(options, name))
    resolved, _ = resolve(preset(config), number, shape)
    c = resolved.to_dict()
    decides = {n: c.get(n) for n in ("preset", "mode", "symmetry", "predictor", "dim", "stop_grad", "similarity", "bn")}
    images = resolved.epochs * (number // resolved.batch_size) * resolved.batch_size
    return images * step_flops(tuple(decides.items())) / rate() / 3600


@functools.cache
def step_flops(options: tuple[tuple[str, Any], ...]) -> float:
    """FLOPs of an image in a step, counted in a real one of two images."""
    steps = two_images(options)
    with FlopCounterMode(display=False) as counted:
        next(steps)
    return counted.get_total_flops() / 2


@functools.cache
def step_bytes(preset_name: str) -> float:
    """What autograd keeps of an image in a step of a preset in bf16, its weights left out."""
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.shape[:1] == (2,):  # of images, not of weights
            kept[x.data_ptr()] = x.numel() * x.element_size()
        return x

    steps = two_images((("preset", preset_name), ("precision", "bf16")))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        next(steps)
    return sum(kept.values()) / 2


def two_images(options: tuple[tuple[str, Any], ...]) -> Iterator[Step]:
    """Real training of two images, not begun."""
    name = dict(options)["preset"]
    number, shape, _ = SETS[name]
    c, _ = resolve(preset(Config(**{"device": "cpu", "precision": "fp32"} | dict(options))), number, shape)
    net = network(c, shape)
    views = torch.randn(views_of(c.symmetry), 2, *shape)

    def draw(n: int) -> torch.Tensor:
        return views[:1].expand(n, -1, -1, -1, -1)

    batch = Batch.of(0, torch.arange(2), views, c.symmetry, draw=draw, num_images=2)
    optimizer = optim.SGD(net, lr=0.01, momentum=c.momentum, wd=c.wd, steps=1)
    return alternate(net, solver_of(c), objective_of(c), optimizer, [batch], **loop_options(c))


@functools.cache
def rate() -> float:
    """FLOP/s of an A100 by its images/s of ResNet-50, forward and backward."""
    net = torchvision.models.resnet50()
    with FlopCounterMode(display=False) as counted:
        cross_entropy(net(torch.randn(2, 3, 224, 224)), torch.zeros(2, dtype=torch.long)).backward()
    return A100 * counted.get_total_flops() / 2


def section(names: list[str], rows: tuple[Row, ...], presets: tuple[str, ...]) -> str:
    """A section for tables that have the same rows at scale; the paper's numbers belong to the last preset."""
    lines = [f"## {', '.join(f'`{name}`' for name in names)}"]
    for name in presets:
        lines += ["", "```sh"]
        for row in rows:
            paper = "" if row.paper is None or name != presets[-1] else f", paper {row.paper:g}"
            lines.append(f"{command(row.options, name)}  # {row.name}{paper}; > {hours(row.options, name):.1f} h")
        lines.append("```")
    return "\n".join(lines)


def text() -> str:
    """The text of docs/paper_scale.md. Tables that are the same at this scale are one."""
    sections: dict[tuple[str, ...], tuple[list[str], tuple[Row, ...], tuple[str, ...]]] = {}
    for name, module in tables().items():
        if len({row.options.get("dataset") for row in module.ROWS}) > 1:
            continue  # it is about data sets, and has no rows at this scale
        rows, presets = (*module.ROWS, *getattr(module, "AT_SCALE", ())), getattr(module, "PRESETS", tuple(SETS))
        commands = tuple(command(row.options, "simsiam-imagenet") for row in rows)
        sections.setdefault(commands, ([], rows, presets))[0].append(name)
    kept = step_bytes("simsiam-imagenet")
    head = HEAD.format(rate=rate() / 1e12, A100=A100, kept=kept / 1e6, needs=512 * kept / 1e9)
    return "\n\n".join([head.rstrip(), *(section(*table) for table in sections.values())]) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(FILE.relative_to(Path.cwd()))
