"""How is wrong input refused? In one line, which names the flag or file, what was given, and what is allowed."""

import difflib
import os
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

ALONE = 5  # seconds after which a process that is not ended with the first one has an error of its own


class ConfigError(ValueError):
    """A wrong option or input, in one line: which flag or file, what it is, what is allowed."""


class BadImage(ValueError):
    """A file that is no image, or a damaged one: its path and what is wrong, in one line."""


class Damaged(ValueError):
    """A file that is not as it was written: in what, after the file's name and a colon."""


def flag(name: str) -> str:
    """An option's name on the command line."""
    return "--" + name.replace("_", "-")


def given_flag(name: str, value: Any) -> str:
    """An option as it is written on the command line."""
    if isinstance(value, dict):
        spans = {n: v if isinstance(v, list | tuple) else [v] for n, v in value.items()}
        value = ",".join(
            f"{n}={':'.join(str(int(x) if isinstance(x, bool) else x) for x in v)}" for n, v in spans.items()
        )
    return flag(name) if value is True else flag("no_" + name) if value is False else f"{flag(name)} {value}"


def refuse(name: str, value: Any, reason: str) -> NoReturn:
    """Raises ConfigError: which option, its value, and why not."""
    raise ConfigError(f"{given_flag(name, value)}: {reason}")


def nearest(value: Any, names: Iterable[str]) -> str:
    """A question about the name that was meant, or nothing."""
    close = difflib.get_close_matches(str(value), names, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_folder(name: str, file: str | None) -> None:
    """Raises ConfigError where a file that is to be written has no folder, or is one, or cannot be written: before the
    work, not after it.
    """
    if file is not None and not Path(file).parent.is_dir():
        refuse(name, file, f"there is no folder {Path(file).parent}")
    if file is not None and Path(file).is_dir():
        refuse(name, file, "is a folder; allowed is a file")
    if file is not None:
        try:
            tempfile.TemporaryFile(dir=Path(file).parent).close()
        except OSError as error:
            refuse(name, file, f"cannot be written there ({error.strerror})")


def one_line(error: Exception) -> str:
    """What is wrong; what an OSError is about comes first."""
    about = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return printable(about)


def tell(command: str, error: Exception) -> None:
    """Print why a command ends. What all processes refuse the first one says: others give torchrun the time to end them
    for it, and speak where they alone have met it.
    """
    if isinstance(error, ValueError) and not isinstance(error, BadImage) and not speaks():
        time.sleep(ALONE)
    print(f"{command}: {one_line(error)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text with what would move a terminal's cursor, or its colours, written as Python writes it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def place(error: BaseException) -> str:
    """What a user's code raised, and where in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__} in {Path(error.filename).name}:{error.lineno}: {error.msg}"
    lines = traceback.extract_tb(error.__traceback__)
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    others = {Path(__file__).parent, *map(Path, libraries)}
    theirs = [x for x in lines if x.filename[:1] != "<" and not others & set(Path(x.filename).parents)]
    at = f" in {Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}{at}: {error}"


def launched() -> bool:
    """Whether torchrun started this process, one of several or not."""
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()


def check_alone() -> None:
    """Raises ConfigError where torchrun started several processes of a command that is one process's."""
    if launched() and os.environ["WORLD_SIZE"] != "1":
        raise ConfigError(f"{os.environ['WORLD_SIZE']} processes: one does it all; start it without torchrun")


def speaks() -> bool:
    """Whether this process speaks for all that work together: the first of them, or the only one."""
    return not launched() or os.environ["RANK"] == "0"
