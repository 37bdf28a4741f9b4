"""python -m emsiam.train: train SimSiam or one of its EM variants, and say what became of it."""

import sys

from . import ranks
from .config import ConfigError, parse
from .run import PICTURE, Run
from .training import fit


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input, 3 the loss is not finite."""
    try:
        run = fit(parse(arguments))
    except ConfigError as error:
        print(f"emsiam.train: {error}", file=sys.stderr)
        return 2
    if ranks.rank() == 0:
        print(report(run))
    return 3 if run.summary["verdict"] == "diverged" else 0


def report(run: Run) -> str:
    """What became of a run, in a few lines."""
    s = run.summary
    head = f"{s['mode']} on {s['dataset']}: {s['verdict']} after {s['steps']:,} steps, {s['seconds']:.0f} s"
    if s["verdict"] == "diverged":
        return f"{head}\n  the loss is not finite; the last good checkpoint is kept\n  picture {run.path / PICTURE}"
    return (
        f"{head}\n"
        f"  loss {s['loss']:.3f}   std·√d {s['z_std_ratio']:.2f} (1 healthy, 0 collapsed)   "
        f"participation ratio {s['participation_ratio']:.1f} of {run.config.dim}\n"
        f"  kNN {s['knn_acc1']:.3f} (untrained {s['knn_acc1_init']:.3f}, best {s['knn_acc1_best']:.3f})\n"
        f"  picture {run.path / PICTURE}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
