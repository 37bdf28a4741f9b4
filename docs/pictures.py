"""python docs/pictures.py: make the README's picture, collapse beside health, from runs of three seeds."""

from pathlib import Path

from emsiam import Config, fit, load_run
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


if __name__ == "__main__":
    jobs = [(name, seed) for name in RUNS for seed in SEEDS]
    figure = trajectory([run(*job) for job in jobs], [name for name, _ in jobs])
    figure.savefig(Path(__file__).with_name("collapse.png"), dpi=110)
