"""python -m experiments.doctor: run what is not done, and show what the doctor's rule makes of it.

Runs are recorded in results/doctor.runs.jsonl as they end.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from emsiam.config import command
from emsiam.errors import ConfigError, one_line
from emsiam.files import write_json

from .._jobs import INTERRUPTED, anew, asked, at_work, recorded
from .._records import Records
from ..claims.__main__ import check_committed, estimate
from .cases import DATA, cases
from .runs import Run

NAME = "doctor"


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 1 runs failed, 2 wrong input, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m experiments.doctor", description=__doc__)
    given = asked(parser, arguments, smoke="a few steps of each case; nothing is shown")
    try:
        return examine(given.jobs, given.launcher, given.out, given.smoke)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except (ConfigError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2


def wanted() -> list[Run]:
    """All runs."""
    return [Run(case, seed, DATA[case.data].looks) for case in cases() for seed in case.seeds]


def examine(at_once: int, launcher: str, out: Path, smoke: bool) -> int:
    """Run what is not recorded; then write what the rule makes of it."""
    runs = wanted()
    if smoke:
        runs, out = [run._replace(looks=(0, 2)) for run in runs if run.seed == run.case.seeds[0]], out / "smoke"
    records = Records(out, NAME)
    by_key = {run.key: run for run in runs}
    left = [run for key, run in by_key.items() if key not in records.own]
    if left:
        print(estimate(left, at_once), file=sys.stderr)
        if not smoke:
            check_committed()
    failed = at_work(left, partial(anew, Run.perform), partial(recorded, records), at_once, launcher, out, len(by_key))
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        return 130 if failed == [INTERRUPTED] else 1
    if not smoke:
        from .healthy import ranges
        from .judge import rows, watched
        from .page import text

        if out == Path("results"):
            write_json(Path("emsiam/doctor/healthy.json"), ranges(records.own[key] for key in by_key), indent=1)
        page = (Path("docs") if out == Path("results") else out) / f"{NAME}.md"
        known = [records.own[key] for key in by_key]
        page.write_text(text(rows(known), [w for record in known if (w := watched(record))]))
        print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
