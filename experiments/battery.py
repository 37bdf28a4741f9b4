"""Which ways to solve for η keep the rank of z, with and without h? Every solver on digits and on Fashion-MNIST.

What is trained, and the rule: `_battery`. What it says: `battery_page`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from emsiam.build import assemble
from emsiam.config import Config, command, load_images, resolve
from emsiam.errors import ConfigError, one_line
from emsiam.eta import SOLVERS
from emsiam.files import write_json
from emsiam.training.trial import check_places

from ._battery import COMMITTED, NAME, SETS, SIMSIAM, Entry, entries, estimate, tabulate, wanted
from ._jobs import INTERRUPTED, asked, run, together
from ._records import Records
from ._times import step_ms
from .battery_page import beside, picture, text


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 1 runs failed, 2 wrong input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.battery", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--eta", help="a solver of yours, FILE.py:FUNCTION, or one of the package, among the committed others"
    )
    given = asked(parser, arguments, smoke="one short run of each, to see that all of it works")
    try:
        return battery(given.eta, given.jobs, given.launcher, given.out, given.smoke)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except (ConfigError, OSError, RuntimeError, TypeError) as error:
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2


def battery(eta: str | None, at_once: int, launcher: str, out: Path, smoke: bool) -> int:
    """Run what is left of the battery, or of one solver beside it, and write what they say."""
    which: Sequence[Entry] = COMMITTED
    if eta:
        tried(eta)
        simsiam = [e for e in COMMITTED if e.name == SIMSIAM and e.h]
        which = simsiam + [e for e in entries([eta]) if e not in simsiam]
    if smoke:
        which, out = shortened(which), out / "smoke"
    seeds = 1 if smoke else None
    table = wanted(which, out, seeds)
    records = Records(out, NAME if not eta else f"{NAME}_own")
    print(estimate(table, records, at_once), file=sys.stderr)
    failed = run(
        together([job for lines in table.values() for line in lines.values() for job in line]),
        at_once,
        launcher,
        records,
    )
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        return 130 if failed == [INTERRUPTED] else 1
    made = tabulate(which, table, records)
    for name, taken in times(which, records.file.with_suffix("").with_suffix(".times.json")).items():
        for e, found in zip(which, made[name]["solvers"], strict=True):
            found["time_over_simsiam"] = taken[e.shown] / taken[Entry(SIMSIAM, True, {}).shown]
    file = out / f"{NAME}.json"
    if eta:
        others = json.loads(file.read_text()) if file.exists() else {}
        print(beside(made, others, eta))
        return 0
    write_json(file, made, indent=1)
    picture(made).savefig(out / f"{NAME}.png", dpi=110)
    page = (Path("docs") if out == Path("results") else out) / f"{NAME}.md"
    page.write_text(text(made))
    print(page)
    return 0


def times(which: Sequence[Entry], file: Path) -> dict[str, dict[str, float]]:
    """{data set: {entry: milliseconds per step}}, measured in one go, alone on the machine, and kept."""
    known = json.loads(file.read_text()) if file.exists() else {}
    codes = {e.name: Path(e.name.rpartition(":")[0]).read_text() for e in which if ":" in e.name}
    if known.get("codes", {}) == codes and all(e.shown in known.get(name, {}) for name in SETS for e in which):
        return {name: known[name] for name in SETS}
    minutes = 2.5 * len(which) * len(SETS) / 60
    print(f"the time of a step of each, one after the other: about {minutes:.0f} minutes", file=sys.stderr)
    taken = {name: {e.shown: step_ms({**options, **e.options}) for e in which} for name, (options, _) in SETS.items()}
    write_json(file, taken | ({"codes": codes} if codes else {}), indent=1)
    return taken


def shortened(which: Sequence[Entry]) -> list[Entry]:
    """Each for an epoch."""
    return [e._replace(options={**e.options, "epochs": 1, "log_every": 1}) for e in which]


def tried(eta: str) -> None:
    """Raises ConfigError where a solver does not go with loss and T; a user's is asked for batches in two orders."""
    config, data, _ = load_images(Config(eta=eta, predictor="mlp", precision="fp32"))
    config, _ = resolve(config, len(data.images), data.shape, len(data.labels))
    parts = assemble(config, data)
    if eta not in SOLVERS:
        check_places(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
