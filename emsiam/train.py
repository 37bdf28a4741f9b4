"""python -m emsiam.train: train SimSiam or one of its EM variants, and say what became of it."""

import signal
import sys

from . import ranks
from .config import ConfigError, parse
from .folders import BadImage
from .run import PICTURE, Run, load_checkpoint
from .training import fit


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input, 3 the loss is not finite, 130 and 143 stopped by a signal, saved."""
    caught: list[int] = []

    def catch(number, _):
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait for the end of a step

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, catch)
    try:
        config, given = parse(arguments)
        run = fit(config, given, stop=caught)
    except (ConfigError, BadImage, OSError) as error:
        if ranks.rank() == 0 or not isinstance(error, ConfigError):  # which one process alone may have met
            print(f"emsiam.train: {one_line(error)}", file=sys.stderr)
        return 2
    if not run.finished:
        if ranks.rank() == 0:
            print(f"stopped and saved; --resume --out {run.path} goes on", file=sys.stderr)
        return 128 + (caught[0] if caught else signal.SIGTERM)
    if ranks.rank() == 0:
        print(report(run))
    return 3 if run.summary["verdict"] == "diverged" else 0


def one_line(error: Exception) -> str:
    """What is wrong; what an OSError is about comes first."""
    about = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return about.replace("\n", "\\n")


def report(run: Run) -> str:
    """What became of a run, in a few lines."""
    s = run.summary
    head = f"{s['mode']} on {s['dataset']}: {s['verdict']} after {s['steps']:,} steps, {s['seconds']:.0f} s"
    if s["verdict"] == "diverged":
        saved = load_checkpoint(run.path)
        kept = f"checkpoint of step {saved['step']} is kept" if saved else "no checkpoint had been saved"
        return f"{head}\n  loss or weights are not finite; {kept}\n  picture {run.path / PICTURE}"
    return (
        f"{head}\n"
        f"  loss {s['loss']:.3f}   std·√d {s['z_std_ratio']:.2f} (1 healthy, 0 collapsed)   "
        f"participation ratio {s['participation_ratio']:.1f} of {run.config.width}\n"
        f"  kNN {s['knn_acc1']:.3f} (untrained {s['knn_acc1_init']:.3f}, best {s['knn_acc1_best']:.3f})"
        + (f"   online probe {s['probe_acc1']:.3f} (best {s['probe_acc1_best']:.3f})" if "probe_acc1" in s else "")
        + "\n"
        f"  picture {run.path / PICTURE}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
