"""python -m emsiam.train: train SimSiam or one of its EM variants, and say what became of it."""

import os
import shlex
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from .config import command

if TYPE_CHECKING:
    from .config import Config
    from .runs.run import Run

WIDTH = 79  # of what is printed after a run


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input, 3 the loss is not finite, 130 and 143 stopped by a signal, saved."""
    from .config import parse, parse_seeds
    from .errors import BadImage, ConfigError, speaks, tell

    try:
        seeds, jobs, arguments = parse_seeds(arguments)
        config, given = parse(arguments)
        import numpy  # before PyTorch, which goes on without it where importing it fails

        if seeds:
            return several(config, given, seeds, jobs, arguments)
        from .runs.run import Run
        from .training.run_training import Interrupted, fit

        before = config.resume and Run(Path(str(config.out))).finished
        status = 128 + signal.SIGTERM  # where another process of this training was stopped
        try:
            run = fit(config, given)
        except Interrupted as stopped:
            run, status = stopped.run, 128 + stopped.number
        if run.finished:
            status = 3 if run.summary["verdict"] == "diverged" else 0
            said, stream = report(run), sys.stdout
            if before and speaks():
                print(f"note: {run.path} is finished; this is what became of it", file=sys.stderr)
        else:
            eta = run.config.eta or ""
            code = ["--eta", eta] if ":" in eta else []
            again = f"{launcher()} {shlex.join(['emsiam.train', '--resume', '--out', str(run.path), *code])}"
            said, stream = f"stopped and saved; to go on: {again}", sys.stderr
    except (ConfigError, BadImage, OSError) as error:
        tell("emsiam.train", error)
        return 2
    if speaks():
        print(said, file=stream)
    return status


def launcher() -> str:
    """How this training was started, as far as it can be pasted."""
    from .errors import launched
    from .processor import sharers

    if not launched():
        return "python -m"
    return f"torchrun {f'--nproc-per-node {sharers()}' if str(sharers()) == os.environ['WORLD_SIZE'] else '…'} -m"


def several(config: "Config", given: set[str], seeds: str, jobs: int, arguments: list[str]) -> int:
    """Train several seeds, and say what they have in common. Raises ConfigError."""
    from dataclasses import replace

    from .config.resolution import load_images, resolve
    from .errors import ConfigError, launched
    from .runs.writer import new_directory
    from .training.resume import options_of
    from .training.several import Several, seeds_of, threads

    if "seed" in given or launched():
        raise ConfigError(f"--seeds: does not go with {'--seed' if 'seed' in given else 'torchrun'}")
    numbers = seeds_of(seeds)
    if not config.resume:  # what does not go together is said once
        config, data, _ = load_images(config)
        config, _ = resolve(config, len(data.images), data.shape, len(data.labels))
        del data  # each run has its own
    elif config.out is None:
        raise ConfigError("--resume: which runs? add --out DIR")
    folder = Path(config.out or new_directory(config))
    sweep = Several(
        arguments, numbers, jobs, folder, [] if "threads" in given else threads(jobs), config.resume, config.quiet
    )
    for seed in numbers:  # whether each may begin, or go on, before any does
        options_of(replace(config, seed=seed, out=str(sweep.at(seed))), given | {"seed"})
    return sweep.train()


def report(run: "Run") -> str:
    """What became of a run, in a few lines."""
    from .checkpoint import load_checkpoint
    from .errors import given_flag
    from .metrics import shown_in, training_order
    from .runs.run import PICTURE

    s = run.summary
    shown = [m for m in training_order(shown_in("end")) if m.name in s]  # else of a run before it was measured
    c = run.config
    solver = "".join(f" {given_flag(n, x)}" for n, x in (("eta", c.eta), ("eta_args", c.eta_args)) if x)
    head = f"{s['mode']}{solver} on {s['dataset']}: {s['verdict']} after {s['steps']:,} steps, {s['seconds']:.0f} s"
    if s["verdict"] == "diverged":
        saved = load_checkpoint(run.path)
        kept = f"checkpoint of step {saved.step} is kept" if saved else "no checkpoint had been saved"
        until = f" after step {s['finite_until_step']}" if "finite_until_step" in s else ""  # else of a run before
        return f"{head}\n  loss or weights are not finite{until}; {kept}\n  picture {run.path / PICTURE}"
    accuracies = "no accuracies: the images have no labels"
    if "knn_acc1" in s:
        accuracies = f"kNN {s['knn_acc1']:.3f} (untrained {s['knn_acc1_init']:.3f}, best {s['knn_acc1_best']:.3f})"
    if "knn_z_acc1" in s:
        accuracies += f"   of z {s['knn_z_acc1']:.3f} (untrained {s['knn_z_acc1_init']:.3f})"
    if "probe_acc1" in s:
        accuracies += f"   online probe {s['probe_acc1']:.3f} (best {s['probe_acc1_best']:.3f})"
    if "reason" in s:  # else of a run before there was one
        head += "\n" + textwrap.fill(s["reason"], WIDTH, initial_indent="  ", subsequent_indent="  ")
    return (
        f"{head}\n"
        f"  {'   '.join(m.said.format(m.written(s[m.name]), d=run.config.width) for m in shown)}\n"
        f"  {accuracies}\n"
        f"  picture {run.path / PICTURE}\n"
        f"{further(run)}"
    )


def further(run: "Run") -> str:
    """What to do with a run, as it can be pasted."""
    path = shlex.quote(str(run.path))
    return (
        f"  look at z     python -m emsiam.diagnose {path}\n"
        f"  with another  python -m emsiam.compare {path} OTHER\n"
        f"  curves        tensorboard --logdir {path}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
