"""Where are the numbers of finished runs kept? In results/NAME.runs.jsonl, a line each, which is committed.

A run that is found there is done, on any machine and without its directory: tables, pictures and docs are made of these
lines alone. A later line of the same key takes the place of an earlier one; tables share runs.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from emsiam.errors import ConfigError
from emsiam.files import plain
from emsiam.metrics import METRICS
from emsiam.runs.run import Run

POINTS = 64  # of a curve, beside those of evaluations
DIGITS = 6  # significant ones, of a curve
ENVIRONMENT = ("torch", "torchvision", "numpy", "python", "platform", "device", "commit")


class Record(NamedTuple):
    """A finished run."""

    key: str
    numerics: int
    config: dict[str, Any]  # resolved, seed and all
    summary: dict[str, Any]
    evaluations: dict[str, float]  # top-1, by what was asked
    curves: dict[str, list]  # by the columns of metrics.jsonl, thinned
    environment: dict[str, str]
    date: str  # when it ended

    def measured(self, evaluations: dict[str, str]) -> dict[str, Any]:
        """The summary, and evaluations {metric: what was asked}."""
        return self.summary | {metric: self.evaluations.get(asked) for metric, asked in evaluations.items()}


class Records:
    """The lines of a table's own file, and those of its neighbours."""

    def __init__(self, folder: Path, name: str):
        """Raises ConfigError for a line that is none, but for a last one that was cut off."""
        self.folder, self.file = folder, folder / f"{name}.runs.jsonl"
        self.own = _read(self.file)
        self.known: dict[str, Record] = {}
        for file in sorted(folder.glob("*.runs.jsonl")):
            self.known |= {key: _together(self.known.get(key), record) for key, record in _read(file).items()}
        for key, record in self.own.items():  # its own come first: on another machine numbers differ in the last digits
            self.known[key] = _together(self.known.get(key), record)

    def find(self, key: str, asked: Iterable[str]) -> Record | None:
        """A run with its evaluations, where it is done; one that diverged has none."""
        record = self.known.get(key)
        if record is None or record.summary["verdict"] == "diverged" or record.evaluations.keys() >= set(asked):
            return record
        return None

    def add(self, record: Record) -> None:
        """Append a line, at once and whole, with what was known of the run before."""
        record = self.known[record.key] = _together(self.known.get(record.key), record)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab+") as lines:
            lines.seek(0)
            lines.truncate(lines.read().rfind(b"\n") + 1)  # a line that was cut off as its process was killed
            lines.write(json.dumps(plain(record._asdict()), ensure_ascii=False).encode() + b"\n")
            lines.flush()
            os.fsync(lines.fileno())
        self.own[record.key] = record

    def take(self, keys: Iterable[str]) -> None:
        """Copy runs of other tables into the own file, which then stands alone."""
        for key in keys:
            if self.own.get(key) != self.known[key]:
                self.add(self.known[key])


def _read(file: Path) -> dict[str, Record]:
    records: dict[str, Record] = {}
    if not file.exists():
        return records
    *lines, _ = file.read_text().split("\n")  # what follows the last end of a line is being written, or was cut off
    for number, line in enumerate(lines, 1):
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{file}: line {number} is not a run's ({error})") from None
        records[record.key] = _together(records.get(record.key), record)
    return records


def _together(old: Record | None, new: Record) -> Record:
    """The newer one, with the evaluations of both where they are of the same numbers."""
    if old is None or old.summary["loss"] != new.summary["loss"]:
        return new
    return new._replace(evaluations=old.evaluations | new.evaluations, curves=new.curves or old.curves)


def record(key: str, numerics: int, folder: Path, evaluations: dict[str, float]) -> Record:
    """The record that a run's directory gives."""
    run = Run(folder)
    environment = json.loads((folder / "env.json").read_text())
    kept = {n: str(environment[n]) for n in ENVIRONMENT}
    today = date.today().isoformat()
    return Record(key, numerics, run.config.to_dict(), run.summary, evaluations, curves(run.metrics), kept, today)


def curves(lines: pandas.DataFrame) -> dict[str, list]:
    """Columns of metrics.jsonl, thinned: all evaluations, and POINTS lines evenly spaced."""
    spaced = (
        {round(i * (len(lines) - 1) / (POINTS - 1)) for i in range(POINTS)}
        if len(lines) > POINTS
        else range(len(lines))
    )
    evaluated = lines.index[lines["knn_acc1"].notna()].tolist() if "knn_acc1" in lines else []
    rows = lines.iloc[sorted({*spaced, *evaluated})]
    names = [n for n in ("step", "epoch", "lr", *METRICS) if n in rows and rows[n].notna().any()]
    return {n: [short(x) for x in rows[n].tolist()] for n in names}


def short(x: float) -> float | None:
    """A number of a curve with DIGITS significant digits; None where it is not finite."""
    return None if not math.isfinite(x) else int(x) if float(x).is_integer() else float(f"{x:.{DIGITS}g}")


def table(records: Sequence[Record], column: str) -> list[pandas.DataFrame]:
    """The curves of runs, the lines that have a column; none where a run has no curves."""
    if not all(column in r.curves for r in records):
        return []
    return [pandas.DataFrame(r.curves).dropna(subset=[column]) for r in records]
