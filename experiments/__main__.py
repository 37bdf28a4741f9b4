"""python -m experiments [GROUP]: the tables and their claims, or the names of one group's, for make."""

import argparse

from . import GROUPS, claim, tables

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument(
        "group", nargs="?", choices=GROUPS, help="; ".join(f"{g}: {what}" for g, what in GROUPS.items())
    )
    group = parser.parse_args().group
    for name, module in tables(group).items():
        print(name if group else f"python -m experiments.{name}\n    {claim(module)}")
