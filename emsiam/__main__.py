"""python -m emsiam: the commands, each with what it is for."""

import argparse
import pkgutil
import sys
from pathlib import Path

from .config import Parser

HERE = Path(__file__).parent


def commands() -> list[str]:
    """The first lines of the modules that are commands, which are read and not run."""
    files = [HERE / f"{found.name}.py" for found in pkgutil.iter_modules([str(HERE)]) if not found.ispkg]
    first = [file.read_text().partition("\n")[0].strip('"') for file in files]
    return [line for line in first if line.startswith("python -m emsiam.")]


if __name__ == "__main__":
    parser = Parser(
        prog="python -m emsiam",
        description="Why does SimSiam not collapse? Train it and its EM variants, and see what becomes of z.",
        epilog="commands, each with --help:\n  " + "\n  ".join(commands()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    try:
        parser.parse_args()
    except ValueError as error:
        sys.exit(f"emsiam: {error}")
    parser.print_help()
