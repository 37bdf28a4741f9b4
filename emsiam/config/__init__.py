"""What can be chosen, how is it read, and what follows from it? Options, the command line, `resolve`.

Options and the command line are known without PyTorch; what resolves them is loaded when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .command_line import (
    IMAGE_SIZE,
    STEM_PADDINGS,
    Parser,
    add_images,
    add_network,
    command,
    parse,
    parse_seeds,
    parser,
)
from .options import DATA_OPTIONS, HYPERPARAMETERS, Config, having
from .presets import DEFAULTS, PRESETS
from .words import documented

if TYPE_CHECKING:
    from .resolution import load_images, preset, resolve
    from .solvers import load_solver

__all__ = [
    "DATA_OPTIONS",
    "DEFAULTS",
    "HYPERPARAMETERS",
    "IMAGE_SIZE",
    "PRESETS",
    "STEM_PADDINGS",
    "Config",
    "ConfigError",
    "Parser",
    "add_images",
    "add_network",
    "command",
    "having",
    "load_images",
    "load_solver",
    "parse",
    "parse_seeds",
    "parser",
    "preset",
    "resolve",
]
Config.__doc__ = documented()  # for help(emsiam.Config)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'solvers' if name == 'load_solver' else 'resolution'}"), name)
