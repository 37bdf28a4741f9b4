"""python docs/pictures.py: make the README's pictures: collapse beside health, of three seeds; generated shapes."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from emsiam import Config, fit, load_run
from emsiam.data.shapes import CONTENTS, Shapes
from emsiam.plots import trajectory

RUNS = {
    "SimSiam": {"mode": "onestep"},
    "multistep, k = 100": {"mode": "multistep", "k": 100},
    "bank of η, no predictor": {"mode": "ema_eta"},
    "no predictor": {"mode": "onestep", "predictor": "none"},
    "no stop-gradient": {"mode": "onestep", "stop_grad": False},
}
SEEDS = range(3)


def run(name, seed):
    out = Path("runs/pictures") / f"{list(RUNS).index(name)}-{seed}"
    if (out / "summary.json").exists():
        return load_run(out)
    return fit(Config(**RUNS[name], seed=seed, out=str(out), overwrite=True))


def shapes():
    """Ten images, and below each its content under another state of nuisance: two views."""
    source, ids = Shapes(10), torch.arange(10)
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    axes = figure.subplots(2, 10)
    for row, pixels in zip(axes, (source[ids], source.shown(ids, ids)), strict=True):
        for axis, image in zip(row, pixels, strict=True):
            axis.imshow(image.permute(1, 2, 0))
            axis.set_axis_off()
    for axis, label in zip(axes[0], source.labels(ids).tolist(), strict=True):
        axis.set_title(" ".join(CONTENTS[label]), fontsize=8)
    return figure


if __name__ == "__main__":
    jobs = [(name, seed) for name in RUNS for seed in SEEDS]
    figure = trajectory([run(*job) for job in jobs], [name for name, _ in jobs], rows=2)
    figure.savefig(Path(__file__).with_name("collapse.png"), dpi=130)
    shapes().savefig(Path(__file__).with_name("shapes.png"), dpi=110)
