"""python docs/pictures.py: make the pictures of README and docs: collapse beside health, of three seeds; the comparison
page, in chromium; generated shapes.
"""

from functools import cache
from pathlib import Path

import torch
from matplotlib.figure import Figure

import emsiam.comparison.page
from emsiam import Config, fit
from emsiam.comparison.compare import compare
from emsiam.data.shapes import CONTENTS, Shapes
from emsiam.plots import trajectory

RUNS = {
    "SimSiam": {"mode": "onestep"},
    "multistep, k = 100": {"mode": "multistep", "k": 100},
    "moving average": {"mode": "ema_eta"},
    "no predictor": {"mode": "onestep", "predictor": "none"},
    "no stop-gradient": {"mode": "onestep", "stop_grad": False},
}
SEEDS = range(3)


@cache
def run(name, seed):
    out = Path("runs/pictures") / f"seed-{seed}" / name  # by which the page calls it
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


def comparison_page(file):
    """What a browser shows of the comparison page of one seed, at a laptop's size."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    runs = [run(name, 0) for name in RUNS]
    page = Path("runs/pictures/comparison.html").resolve()
    page.write_text(emsiam.comparison.page.page(runs, compare(runs)))
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,860"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options)
    try:
        browser.get(page.as_uri())
        WebDriverWait(browser, 60).until(
            lambda b: b.execute_script("return document.querySelectorAll('.main-svg').length")
        )
        browser.save_screenshot(str(file))
    finally:
        browser.quit()


if __name__ == "__main__":
    jobs = [(name, seed) for name in RUNS for seed in SEEDS]
    figure = trajectory([run(*job) for job in jobs], [name for name, _ in jobs], rows=2)
    figure.savefig(Path(__file__).with_name("collapse.png"), dpi=130)
    comparison_page(Path(__file__).with_name("comparison.png"))
    shapes().savefig(Path(__file__).with_name("shapes.png"), dpi=110)
