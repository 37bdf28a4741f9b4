"""python -m emsiam: the commands, each with what it is for."""

import argparse
import pkgutil
import sys
from pathlib import Path

from .config import Parser, command
from .errors import ConfigError, one_line

HERE = Path(__file__).parent


def commands() -> list[str]:
    """The first lines of the modules that are commands, which are read and not run."""
    files = [HERE / f"{file.name}.py" for file in pkgutil.iter_modules([str(HERE)]) if not file.ispkg]
    first = [file.read_text().partition("\n")[0].strip('"') for file in files]
    return [line for line in first if line.startswith("python -m emsiam.")]


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(
        prog="python -m emsiam",
        description="Why does SimSiam not collapse? Train it and its EM variants, and see what becomes of z.",
        epilog="commands, each with --help:\n  " + "\n  ".join(commands()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    try:
        parser.parse_args(arguments)
    except ConfigError as error:
        print(f"emsiam: {one_line(error)}", file=sys.stderr)
        return 2
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
