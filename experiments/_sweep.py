"""How does a list of configurations become a table? The command of an experiment.

An experiment is a module with a docstring and ROWS, the first of them the baseline. Of the docstring a table takes
its first paragraph, the claim; what follows "Here:", what is run; and what follows "What would settle it:", what
would settle where rows and paper differ.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from emsiam.config import command
from emsiam.errors import ConfigError, one_line

from ._jobs import INTERRUPTED, asked, jobs, run, together
from ._records import Records
from ._table import METRICS, Row, tabulate


@command
def main(
    name: str,
    text: str,
    rows: Sequence[Row],
    arguments: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    by: str = "knn_acc1",
    curve: str | None = None,
) -> int:
    """The command of an experiment. Status 0 done, 1 runs failed, 2 wrong input, 130 interrupted.

    metrics: what the table shows, of runs' summaries and rows' evaluations; by: the accuracy that rows are compared by.
    curve: a column of metrics.jsonl whose mean over training is kept, and drawn.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=text.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs a row (5)")
    given = asked(parser, arguments, smoke="one short run a row, to see that all of it works")
    if given.seeds < 1:
        parser.error("--seeds: allowed is a number from 1")
    if given.smoke:
        rows = [row._replace(options={**row.options, "epochs": 1, "warmup_epochs": 0}) for row in rows]
        given.seeds, given.out = 1, given.out / "smoke"
    short = name.rpartition(".")[2]
    try:
        table = [jobs(row.options, given.seeds, given.out, row.evaluations) for row in rows]
        wanted = together([job for line in table for job in line])
        records = Records(given.out, short)
        failed = run(wanted, given.jobs, given.launcher, records)
    except KeyboardInterrupt:
        failed = [INTERRUPTED]
    except (ConfigError, OSError, RuntimeError, TypeError) as error:  # submitit raises RuntimeErrors of its own
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        return 130 if failed == [INTERRUPTED] else 1
    result = tabulate(text, rows, table, records, metrics, by, curve)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{short}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    from .report import against, picture, table_of

    picture(result).savefig(given.out / f"{short}.png", dpi=110)
    judgement = "One short run a row: nothing is judged." if given.smoke else against(result)
    print(table_of(result), judgement, given.out / f"{short}.json", sep="\n\n")
    return 0
