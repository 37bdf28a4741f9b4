"""How is a command line read? Its flags are the fields of `Config`."""

import argparse
import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from .. import names
from ..ending import end_at_once, put_back
from ..errors import ConfigError, flag, launched, nearest
from .declared import ROLES
from .options import Config
from .rules import PATH, SWITCH, whole
from .words import sentence


class Parser(argparse.ArgumentParser):
    """Raises ConfigError for what cannot be parsed; --version prints the package's."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        from .. import __version__

        self.add_argument("--version", action="version", version=f"emsiam {__version__}")

    def error(self, message):
        raise ConfigError(message.removeprefix("argument "))


IMAGE_SIZE = whole(8, 4096)  # pixels a side of what others' networks see
STEM_PADDINGS = (1, 2)  # of a CIFAR stem's 3×3: the paper's and most others', and solo-learn's


def add_network(parser: argparse.ArgumentParser) -> None:
    """Flags that say of a file what it does not say itself."""
    parser.add_argument("--arch", help="network of a file that does not say, such as resnet50")
    parser.add_argument("--weights", metavar="NAME", help="of a file with several networks, such as teacher")
    parser.add_argument(
        "--stem-padding",
        type=int,
        choices=STEM_PADDINGS,
        help="of a CIFAR stem in a file. Default: 1, and 2 for files of solo-learn.",
    )


def add_images(parser: argparse.ArgumentParser, dataset: str, meaning: str) -> None:
    """Flags that say which images a network is shown. dataset, meaning: the flag of a data set, and what it says."""
    allowed = f"one of {', '.join(names.DATASETS)}. Default: the run's."
    parser.add_argument(dataset, choices=names.DATASETS, metavar="NAME", help=f"{meaning}: {allowed}")
    parser.add_argument("--data-dir", type=PATH.of_argument, help="where they are; alone: a folder of images")
    parser.add_argument("--download", action="store_true", help="fetch a torchvision data set there")
    parser.add_argument("--image-size", type=IMAGE_SIZE.of_argument, help="others' networks: side in pixels")


def command(main: Callable[..., int]) -> Callable[..., int]:
    """A command ends without a traceback: at once with 130 or 143 where a signal stops it, with the status of SIGPIPE
    where its reader goes away, as in `| head`, and with 1 where another process of torchrun's goes away.
    """

    @functools.wraps(main)
    def quiet(*arguments: Any, **options: Any) -> int:
        before = end_at_once()
        try:
            try:
                return main(*arguments, **options)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            return 128 + signal.SIGPIPE
        except RuntimeError as error:
            if not launched():
                raise
            from ..ranks import parted, rank

            if not (reason := parted(error)):
                raise
            print(f"process {rank()}: {reason}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # threads of the lost connections would wait for it
        finally:
            put_back(before)

    return quiet


EXAMPLES = """examples:
  SimSiam on digits, in a minute
    python -m emsiam.train
  a moving average of η in place of h, five seeds, two at once
    python -m emsiam.train --mode ema_eta --m 0.8 --seeds 0-4 --jobs 2
  the paper's settings for CIFAR-10
    python -m emsiam.train --preset simsiam-cifar10 --data-dir DIR

All options in one table, with data sets and resuming: docs/training.md"""


def parser() -> argparse.ArgumentParser:
    """The command line: a flag for each field, absent from the result where it is not given."""
    p = Parser(
        prog="python -m emsiam.train",
        usage="%(prog)s [OPTION …]",
        description="Train SimSiam and its EM variants.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {role: p.add_argument_group(title) for role, title in ROLES.items()}
    for f in dataclasses.fields(Config):
        group = groups[f.metadata["role"]]
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": sentence(f).replace("%", "%%")}
        if f.metadata["rule"] is SWITCH:
            group.add_argument(
                flag(f.name), action="store_true" if f.default is False else argparse.BooleanOptionalAction, **options
            )
        else:
            group.add_argument(flag(f.name), metavar=f.name.upper(), **options)
    add_seeds(p)
    return p


def add_seeds(p: argparse.ArgumentParser) -> None:
    """What trains several runs; no option of any one of them."""
    group = p.add_argument_group("several runs")
    group.add_argument(
        "--seeds",
        default=argparse.SUPPRESS,
        help="train one run for each seed, such as 0-4 or 0,3,7, each in OUT/seed-N",
    )
    group.add_argument(
        "--jobs",
        type=whole(1, 1000).of_argument,
        default=argparse.SUPPRESS,
        help="runs trained at the same time. Default: 1.",
    )


def parse_seeds(arguments: list[str]) -> tuple[str | None, int, list[str]]:
    """Seeds, how many runs at once, and the arguments of each run. Raises ConfigError."""
    p = Parser(add_help=False)
    add_seeds(p)
    known, others = p.parse_known_args(arguments)
    found = vars(known)
    if "jobs" in found and "seeds" not in found:
        raise ConfigError("--jobs: is of several runs; add --seeds, such as --seeds 0-4")
    return found.get("seeds"), found.get("jobs", 1), others


def parse(arguments: list[str]) -> tuple[Config, set[str]]:
    """The configuration of a command line, and the names of the options that it gives. Raises ConfigError."""
    p = parser()
    arguments = arguments[arguments[:1] == ["--"] :]  # torchrun needs it before --m, and may hand it on
    parsed, unknown = p.parse_known_args(arguments)
    if unknown:
        flags = [s for action in p._actions for s in action.option_strings]
        raise ConfigError(f"{unknown[0]}: no such option{nearest(unknown[0].split('=')[0], flags)}")
    return Config(**vars(parsed)), set(vars(parsed))
