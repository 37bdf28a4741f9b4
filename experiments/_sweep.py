"""How does a list of configurations become a table? Runs by key, several at once, seeds in pairs, intervals.

An experiment is a module with a docstring and ROWS, the first of them the baseline. Of the docstring a table takes its
first paragraph, the claim; what follows "Here:", what is run; and what follows "To decide:", what would settle where
rows and paper differ.
"""

import argparse
import fcntl
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas
import submitit
from scipy import stats
from tqdm import tqdm

import emsiam.train
from emsiam.config import Config, having, load_images, resolve
from emsiam.diagnostics.trajectory import difference
from emsiam.errors import ConfigError, given_flag, one_line
from emsiam.evaluate import evaluate
from emsiam.files import plain
from emsiam.metrics import heading, shown_in
from emsiam.runs.run import Run

NUMERICS = 1  # raised when the same options come to give other numbers: results of before are then not used
METRICS = ("knn_acc1", *(m.name for m in shown_in("results") if m.name != "knn_acc1"))  # the outcome comes first
KINDS = {  # of failure, by the verdict that shows it
    "healthy": "",
    "dimensional collapse": "collapse",
    "complete collapse": "collapse",
    "not converging": "slow or stuck",
    "diverged": "diverges",
}
SEAL = "seal"  # digest of a run that came to its end
NO_TABLE = "The paper has no such table."
INTERRUPTED = "interrupted; the same command goes on"


class Row(NamedTuple):
    """One line of a table."""

    name: str
    options: Mapping[str, Any] = MappingProxyType({})  # of `emsiam.Config`, all others at their defaults
    paper: float | None = None  # its number, where it has this row
    fails: str | None = None  # how it fails there, as in KINDS; with a number and without this, it does not
    against: str = ""  # the row it is compared with, by default the first
    # after training: metric -> task of `emsiam.evaluate` and its options, whose top-1 it is
    evaluations: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType({})


class Job(NamedTuple):
    """One run of a table."""

    key: str
    folder: Path
    arguments: list[str]  # of `python -m emsiam.train`
    evaluations: dict[str, tuple[str, dict[str, Any]]]  # see `Row`

    def evaluated(self, metric: str) -> Path:
        """The file of an evaluation, named after what is asked, so that tables share it."""
        task, options = self.evaluations[metric]
        return self.folder / ("_".join(["evaluated", task, *(f"{n}={v}" for n, v in options.items())]) + ".json")


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once, a thread each (all processors)")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where runs run (local)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where runs and tables go (results)")
    parser.add_argument("--smoke", action="store_true", help="one short run a row, to see that all of it works")
    given = parser.parse_args(arguments)
    if given.seeds < 1 or given.jobs < 1:
        parser.error("--seeds and --jobs: allowed is a number from 1")
    if given.smoke:
        rows = [row._replace(options={**row.options, "epochs": 1, "warmup_epochs": 0}) for row in rows]
        given.seeds, given.out = 1, given.out / "smoke"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    try:
        table = [jobs(row.options, given.seeds, given.out, row.evaluations) for row in rows]
        wanted = together([job for line in table for job in line])
        failed = run(wanted, given.jobs, given.launcher, given.out)
    except KeyboardInterrupt:
        failed = [INTERRUPTED]
    except (ConfigError, OSError, RuntimeError, TypeError) as error:  # submitit raises RuntimeErrors of its own
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        return 130 if failed == [INTERRUPTED] else 1
    result = tabulate(text, rows, table, metrics, by, curve)
    short = name.rpartition(".")[2]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{short}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    from .report import against, picture, table_of

    picture(result).savefig(given.out / f"{short}.png", dpi=110)
    told = "One short run a row: nothing is judged." if given.smoke else against(result)
    print(table_of(result), told, given.out / f"{short}.json", sep="\n\n")
    return 0


def together(jobs: Sequence[Job]) -> list[Job]:
    """Each run once, with the evaluations of all rows that share it."""
    found: dict[str, Job] = {}
    for job in jobs:
        shared = found.setdefault(job.key, job._replace(evaluations={}))
        more = {str(job.evaluated(metric)): asked for metric, asked in job.evaluations.items()}
        found[job.key] = shared._replace(evaluations=shared.evaluations | more)
    return list(found.values())


def jobs(
    options: Mapping[str, Any],
    seeds: int,
    out: Path,
    evaluations: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType({}),
) -> list[Job]:
    """The runs of one row, by seed. Raises ConfigError.

    A key is that of all options, resolved, of the files of the data set and of a solver of one's own, and of NUMERICS.
    """
    options = {"threads": 1, **options}
    config, data, _ = load_images(Config(**options))
    resolved, _ = resolve(config, len(data.images), data.shape, len(data.labels))
    told = {name: value for name, value in resolved.to_dict().items() if name not in having("no_number")}
    if ":" in (config.eta or ""):
        told["eta"] = f"{told['eta']} {Path(str(config.eta).rpartition(':')[0]).read_text()}"
    made = []
    for seed in range(seeds):
        text = json.dumps(told | {"seed": seed, "files": data.digest, "numerics": NUMERICS}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        flags = [part for n, v in (options | {"seed": seed}).items() for part in given_flag(n, v).split(" ", 1)]
        asked = {metric: (task, {**more}) for metric, (task, more) in evaluations.items()}
        made.append(Job(key, out / "runs" / key, [*flags, "--quiet", "--out", str(out / "runs" / key)], asked))
    return made


def digest(folder: Path) -> str:
    """Of the files that a table is made from."""
    files = (folder / name for name in ("config.json", "env.json", "metrics.jsonl", "summary.json"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def done(job: Job) -> bool:
    """Whether a run is there, whole, and evaluated. One that is damaged is removed."""
    seal = job.folder / SEAL
    if not job.folder.is_dir():
        return False
    try:
        if seal.exists() and seal.read_bytes() == digest(job.folder).encode():
            diverged = Run(job.folder).summary["verdict"] == "diverged"  # nothing to evaluate
            return diverged or all(accuracy(job, metric) is not None for metric in job.evaluations)
        if not seal.exists():  # to be gone on with, if it can be read
            begun = Run(job.folder)
            if (job.folder / "config.json").exists():
                _ = begun.config, begun.summary if begun.finished else None
            return False
    except (OSError, ValueError):
        pass
    print(f"{job.folder} is damaged and is run again", file=sys.stderr)
    shutil.rmtree(job.folder)
    return False


def accuracy(job: Job, metric: str) -> float | None:
    """Of an evaluation; None where there is none, or a damaged one."""
    try:
        return float(json.loads(job.evaluated(metric).read_text())["acc1"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def train(job: Job) -> int:
    """What a job runs: the command, on from where it was, and evaluations. Status of `python -m emsiam.train`."""
    os.setpgid(0, 0)  # Ctrl-C is for the sweep, which then asks each run once to save and end
    status = emsiam.train.main([*job.arguments, "--resume"])
    for metric, (task, options) in job.evaluations.items() if status == 0 else ():
        if accuracy(job, metric) is None:
            job.evaluated(metric).write_text(json.dumps(plain(evaluate(task, str(job.folder), **options)), indent=1))
    return status


def run(wanted: Sequence[Job], at_once: int, launcher: str, out: Path) -> list[str]:
    """Run what is not done yet; what failed, a line each.

    Interrupted, runs save and end; the same command goes on with them.
    """
    left = [job for job in wanted if not done(job)]
    if not left:
        return []
    out.mkdir(parents=True, exist_ok=True)
    alone = (out / ".sweep").open("w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"--out {out}: another sweep is at work there") from None
    os.environ["OMP_NUM_THREADS"] = "1"  # jobs take it over
    executor = submitit.AutoExecutor(folder=out / "logs", cluster=launcher)
    executor.update_parameters(name="emsiam", timeout_min=24 * 60, cpus_per_task=1, slurm_array_parallelism=at_once)
    failed: list[str] = []
    running: list[tuple[Job, submitit.Job]] = []
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(left), unit="run", smoothing=0, mininterval=1)
    try:
        if launcher == "slurm":  # which sees to how many run at once
            running = list(zip(left, executor.map_array(train, left), strict=True))
            left = []
        while left or running:
            while left and len(running) < at_once:
                job = left.pop(0)
                handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job takes this over
                running.append((job, executor.submit(train, job)))
                signal.signal(signal.SIGINT, handler)
            bar.set_postfix(running=len(running), left=len(left), refresh=False)
            bar.update(0)
            time.sleep(0.2)
            for job, submitted in [pair for pair in running if pair[1].done()]:
                running.remove((job, submitted))
                if reason := _ended(job, submitted):
                    failed.append(reason)
                bar.update()
    except KeyboardInterrupt:
        for _, submitted in running:
            if launcher == "local":
                with suppress(ProcessLookupError):
                    os.kill(int(submitted.job_id), signal.SIGTERM)  # which submitit hands on
            else:
                submitted.cancel()
        while launcher == "local" and not all(submitted.done() for _, submitted in running):
            time.sleep(0.1)
        return [INTERRUPTED]
    finally:
        bar.close()
        alone.close()
    return failed


def _ended(job: Job, submitted: submitit.Job) -> str:
    """Seal a run that ended; else why it did not."""
    error = submitted.exception()
    status = None if error else submitted.result()
    if status in (0, 3):  # 3: diverged, which is a result
        (job.folder / SEAL).write_text(digest(job.folder))
        return ""
    return f"python -m emsiam.train {' '.join(job.arguments)}: status {status}, see {submitted.paths.stderr}"


def mean_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean and its 95 % interval by the t distribution; none for one value."""
    x = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return {"mean": x.mean(), "low": x.mean() - half, "high": x.mean() + half, "n": len(x)}


def measured(job: Job) -> dict[str, Any]:
    """A run's summary, and its evaluations."""
    return Run(job.folder).summary | {metric: accuracy(job, metric) for metric in job.evaluations}


def tabulate(
    text: str,
    rows: Sequence[Row],
    table: Sequence[Sequence[Job]],
    metrics: Sequence[str] = METRICS,
    by: str = "knn_acc1",
    curve: str | None = None,
) -> dict[str, Any]:
    """The result of an experiment, as it is written; docs/tables.md has the fields."""
    summaries = {row.name: [measured(job) for job in line] for row, line in zip(rows, table, strict=True)}
    made = []
    for row, line in zip(rows, table, strict=True):
        found, baseline = summaries[row.name], row.against or rows[0].name
        entry: dict[str, Any] = {"name": row.name, "config": {**row.options}, "paper": row.paper}
        entry["fails"] = "" if row.fails is None and row.paper is not None else row.fails
        entry |= {"baseline": baseline, "metrics": {}, "difference": {}}
        for metric in metrics:
            values, base = (_values(of, metric) for of in (found, summaries[baseline]))
            if len(values) == len(found):
                entry["metrics"][metric] = mean_interval(values)
                if row.name != baseline and len(base) == len(found):
                    entry["difference"][metric] = difference(base, values, paired=True)._asdict()
        if curve:
            entry["curve"] = mean_curve([Run(job.folder).metrics.dropna(subset=curve) for job in line], curve)
        entry["verdicts"] = dict(Counter(s["verdict"] for s in found))
        kinds = Counter(KINDS[s["verdict"]] for s in found)
        entry["failed"] = max(kinds, key=lambda kind: (kinds[kind], kind))  # of as many a failure
        entry["runs"] = [
            {"seed": seed, "key": job.key, "summary": s} for seed, (job, s) in enumerate(zip(line, found, strict=True))
        ]
        made.append(entry)
    claim = " ".join(text.partition("\n\n")[0].split())
    decides = " ".join(text.partition("To decide:")[2].partition("\nCommand:")[0].split())
    here = " ".join(text.partition("Here:")[2].partition("\nTo decide:")[0].split())
    environments = [json.loads((job.folder / "env.json").read_text()) for line in table for job in line]
    names = ("torch", "torchvision", "numpy", "python", "platform", "device", "commit")
    kept = {n: ", ".join(sorted({str(e[n]) for e in environments})) for n in names}
    untrained = mean_interval([s["knn_acc1_init"] for s in summaries[rows[0].name]])
    head = {
        "claim": claim,
        "here": here,
        "untrained_knn_acc1": untrained,
        "date": date.today().isoformat(),
        "numerics": NUMERICS,
        "by": by,
        "environment": kept,
    }
    has = any(row.paper is not None or row.fails is not None for row in rows)
    said = differs(made, by) if has else []
    agree = "Direction and kind of failure agree with the paper in every row."
    agrees = "\n".join(said) or (agree if has else NO_TABLE)
    return plain(head | {"rows": made, "agrees": agrees, "decides": decides if said or not has else ""})


def mean_curve(tables: Sequence[pandas.DataFrame], column: str) -> dict[str, Any]:
    """Over epochs: mean and interval of a column, runs being logged at the same epochs."""
    spans = [mean_interval(values) for values in zip(*(table[column] for table in tables), strict=False)]
    epochs = tables[0]["epoch"].tolist()[: len(spans)]
    return {"of": column, "epoch": epochs, **{n: [span[n] for span in spans] for n in ("mean", "low", "high")}}


def _values(summaries: Sequence[dict[str, Any]], metric: str) -> list[float]:
    """Those that there are: what a run had before it diverged is not its result."""
    return [s[metric] for s in summaries if s["verdict"] != "diverged" and s.get(metric) is not None]


def differs(rows: Sequence[dict[str, Any]], by: str = "knn_acc1") -> list[str]:
    """Where direction, by accuracy against the baseline, or kind of failure are not the paper's, or are not seen."""
    said = []
    papers = {row["name"]: row["paper"] for row in rows}
    for row in rows:
        seen = ", ".join(f"{verdict} {n}" for verdict, n in row["verdicts"].items())
        kinds = [kind or "no failure" for kind in (row["failed"], row["fails"])]
        if row["fails"] is None and row["failed"]:
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}); the paper does not have it.")
        elif row["fails"] is not None and row["failed"] != row["fails"]:
            said.append(f"{row['name']}: {kinds[0]} here (verdicts: {seen}), {kinds[1]} in the paper.")
        moved, base = row["difference"].get(by), papers[row["baseline"]]
        if moved is None or row["paper"] is None or base is None or math.isnan(moved["p"]):
            continue
        points = row["paper"] - base
        span = f"{moved['mean']:+.3f} ({moved['low']:+.3f} to {moved['high']:+.3f})"
        told = f"{row['name']}: {heading(by)[0]} {span} here"
        theirs = f"accuracy {points:+.1f} points in the paper"
        none = moved["low"] <= 0 <= moved["high"]
        if points and none:
            said.append(f"{told}: no difference seen, where {moved['detectable']:.3f} would have been; {theirs}.")
        elif not none and points * moved["mean"] <= 0:
            said.append(f"{told}, {theirs}.")
    return said
