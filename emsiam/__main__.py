"""python -m emsiam: the commands, each with what it is for."""

import argparse
import pkgutil
import sys
import textwrap
from importlib import import_module
from pathlib import Path

from .config import Parser, command
from .errors import ConfigError, one_line

HERE = Path(__file__).parent


def commands() -> dict[str, str]:
    """{name: the first line of a module that is a command}; they are read and not run."""
    names = [file.name for file in pkgutil.iter_modules([str(HERE)]) if not file.ispkg]
    first = {name: (HERE / f"{name}.py").read_text().partition("\n")[0].strip('"') for name in names}
    return {name: line for name, line in first.items() if line.startswith("python -m emsiam.")}


@command
def main(arguments: list[str]) -> int:
    """The command; `python -m emsiam train …` is `python -m emsiam.train …`. Status 0 done, 2 wrong input."""
    known = commands()
    if arguments[:1] and arguments[0] in known:
        return import_module(f"emsiam.{arguments[0]}").main(arguments[1:])
    lines = [textwrap.fill(line, 79, initial_indent="  ", subsequent_indent="      ") for line in known.values()]
    parser = Parser(
        prog="python -m emsiam",
        description="Why does SimSiam not collapse? Train it and its variants, and see.",
        epilog="\n".join(["commands, each with --help:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=known, metavar="COMMAND", help="one of those below")
    try:
        parser.parse_args(arguments)
    except ConfigError as error:
        print(f"emsiam: {one_line(error)}", file=sys.stderr)
        return 2
    parser.print_help()
    return 0


def console() -> int:
    """The console command `emsiam`."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(console())
