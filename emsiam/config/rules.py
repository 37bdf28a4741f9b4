"""Which values may an option have? A rule turns what was given into a value, or raises."""

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..errors import nearest, refuse
from ..recipes import LIMITS, Recipe, strength


class Rule(NamedTuple):
    """Which values an option takes. parse: what was given to the value, or ValueError, TypeError or KeyError."""

    allowed: str
    parse: Callable[[Any], Any]

    def of_argument(self, text: str) -> Any:
        """The value of a command-line argument, as argparse asks for it."""
        try:
            return self.parse(text)
        except (ValueError, TypeError, KeyError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text} is not {self.allowed}") from None


def whole(low: int, high: int = 10**6, *, word: str | None = None) -> Rule:
    """A whole number from low to high, or a word."""

    def parse(value):
        if word is not None and value == word:
            return value
        number = int(value)
        if isinstance(value, bool) or not low <= number <= high or (not isinstance(value, str) and number != value):
            raise ValueError
        return number

    return Rule(f"a whole number from {low} to {high}" + (f", or {word}" if word else ""), parse)


def real(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number, low ≤ value ≤ high; above: low itself is not allowed."""

    def parse(value):
        number = float(value)
        if (
            isinstance(value, bool)
            or not (low <= number <= high and math.isfinite(number))
            or (above and number == low)
        ):
            raise ValueError
        return number

    span = f"{'>' if above else '≥'} {low:g}" + ("" if math.isinf(high) else f" and ≤ {high:g}")
    return Rule(f"a number {span}", parse)


def one_of(names: Iterable[str]) -> Rule:
    """One of some names."""
    table = {name: name for name in names}
    return Rule(", ".join(table), table.__getitem__)


def _arch(value):
    """`tiny`, or a name that torchvision knows, which is loaded to ask it."""
    if value == "tiny":
        return value
    from ..networks import archs

    if value not in archs():
        refuse("arch", value, f"allowed is {', '.join(archs()[:3])}, … (see docs/training.md){nearest(value, archs())}")
    return value


def solver(names: Iterable[str]) -> Rule:
    """One of some names, or a function of a user's file, which is not looked for yet."""
    choices, allowed = tuple(names), f"{', '.join(names)}, or FILE.py:FUNCTION"

    def parse(value):
        file, colon, _ = _path(value).rpartition(":")
        if str(value).endswith(".py"):
            refuse("eta", value, "a file alone; allowed is FILE.py:FUNCTION")
        if value not in choices and not (colon and file.endswith(".py")):
            raise ValueError
        return _path(value)

    return Rule(allowed, parse)


def _switch(value):
    if not isinstance(value, bool):
        raise ValueError
    return value


def _path(value):
    if not str(value):
        raise ValueError
    return os.path.expanduser(str(value))  # a shell does not in --out=~/run, nor does Python


def _digest(value):
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError
    return value


def _augment(value):
    """NAME=STRENGTH,… or a dict, to {name: strength}."""
    items = dict(item.split("=") for item in value.split(",")) if isinstance(value, str) else dict(value)
    strengths = {}
    for name, v in items.items():
        if name not in LIMITS:
            refuse("augment", f"{name}={v}", f"allowed is {', '.join(LIMITS)}{nearest(name, LIMITS)}")
        try:
            strengths[name] = strength(name, v)
        except (ValueError, TypeError):
            low, high = LIMITS[name]
            kind = type(Recipe._field_defaults[name])
            what = {int: "a whole number", bool: "0 or 1,", tuple: "LOW:HIGH, both"}.get(kind, "a number")
            refuse("augment", f"{name}={v}", f"allowed is {what} from {low} to {high}")
    return strengths


def _eta_args(value):
    """NAME=VALUE,… or a dict, to {name: value}; types are the solver's matter."""
    items = [item.split("=", 1) for item in value.split(",")] if isinstance(value, str) else list(dict(value).items())
    if not all(str(name).isidentifier() and str(x) for name, x in items):
        raise ValueError
    return dict(items)


ARCH = Rule("tiny, or the name of a torchvision classifier", _arch)
AUGMENT = Rule(f"NAME=STRENGTH or NAME=LOW:HIGH, with commas between, of {', '.join(LIMITS)}", _augment)
ETA_ARGS = Rule("NAME=VALUE, with commas between", _eta_args)
SWITCH = Rule("true or false", _switch)
PATH = Rule("a path", _path)
DIGEST = Rule("64 hexadecimal digits", _digest)
BANK = Rule("device, host, or a directory for a memory-mapped file", _path)
