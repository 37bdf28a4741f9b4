"""python -m emsiam.train: train SimSiam or one of its EM variants, and say what became of it."""

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runs.run import Run


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input, 3 the loss is not finite, 130 and 143 stopped by a signal, saved."""
    answer(lambda number, _: os._exit(128 + number))  # nothing has begun yet
    from .config import parse
    from .errors import BadImage, ConfigError, one_line

    caught: list[int] = []

    def catch(number, _):
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait for the end of a step

    try:
        config, given = parse(arguments)
        import numpy  # before PyTorch, which goes on without it where importing it fails

        from .training.run_training import fit

        answer(catch)
        run = fit(config, given, stop=caught)
    except (ConfigError, BadImage, OSError) as error:
        if speaks() or not isinstance(error, ConfigError):  # which one process alone may have met
            print(f"emsiam.train: {one_line(error)}", file=sys.stderr)
        return 2
    if not run.finished:
        if speaks():
            print(f"stopped and saved; --resume --out {run.path} goes on", file=sys.stderr)
        return 128 + (caught[0] if caught else signal.SIGTERM)
    if speaks():
        print(report(run))
    return 3 if run.summary["verdict"] == "diverged" else 0


def answer(handler: Callable) -> None:
    """Ctrl-C and the signal that ends a process get another answer from here on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def speaks() -> bool:
    """Whether this process speaks for all that train together: the first of them, or the only one."""
    if "RANK" not in os.environ:
        return True
    from . import ranks

    return ranks.rank() == 0


def report(run: "Run") -> str:
    """What became of a run, in a few lines."""
    from .checkpoint import load_checkpoint
    from .metrics import shown_in, training_order
    from .runs.run import PICTURE

    s, shown = run.summary, training_order(shown_in("end"))
    head = f"{s['mode']} on {s['dataset']}: {s['verdict']} after {s['steps']:,} steps, {s['seconds']:.0f} s"
    if s["verdict"] == "diverged":
        saved = load_checkpoint(run.path)
        kept = f"checkpoint of step {saved.step} is kept" if saved else "no checkpoint had been saved"
        return f"{head}\n  loss or weights are not finite; {kept}\n  picture {run.path / PICTURE}"
    return (
        f"{head}\n"
        f"  {'   '.join(m.said.format(m.written(s[m.name]), d=run.config.width) for m in shown)}\n"
        f"  kNN {s['knn_acc1']:.3f} (untrained {s['knn_acc1_init']:.3f}, best {s['knn_acc1_best']:.3f})"
        + (f"   online probe {s['probe_acc1']:.3f} (best {s['probe_acc1_best']:.3f})" if "probe_acc1" in s else "")
        + "\n"
        f"  picture {run.path / PICTURE}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
