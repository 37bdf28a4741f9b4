"""How are the runs of a table made? By key, each once, several at a time; what is recorded is not made again."""

import argparse
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import submitit
from tqdm import tqdm

import emsiam.train
from emsiam.config import Config, having, load_images, resolve
from emsiam.config.resolution import read_images
from emsiam.errors import ConfigError, given_flag
from emsiam.evaluate import evaluate
from emsiam.files import plain
from emsiam.runs.run import Run

from ._records import Record, Records, record

NUMERICS = 1  # raised when the same options come to give other numbers: results of before are then not used
EVALUATIONS = 2  # likewise, of evaluations of the same runs
INTERRUPTED = "interrupted; the same command goes on"

Task = TypeVar("Task")


class Job(NamedTuple):
    """One run of a table."""

    key: str
    folder: Path
    arguments: list[str]  # of `python -m emsiam.train`
    evaluations: dict[str, tuple[str, dict[str, Any]]]  # see `Row`

    @property
    def asked(self) -> dict[str, str]:
        """{metric: what is asked}, by which tables share evaluations."""
        return {
            metric: "_".join([f"evaluated{EVALUATIONS}", task, *(f"{n}={v}" for n, v in options.items())])
            for metric, (task, options) in self.evaluations.items()
        }

    def evaluated(self, metric: str) -> Path:
        """The file of an evaluation in the run's directory."""
        return self.folder / f"{self.asked[metric]}.json"


def together(jobs: Sequence[Job]) -> list[Job]:
    """Each run once, with the evaluations of all rows that share it."""
    by_key: dict[str, Job] = {}
    for job in jobs:
        shared = by_key.setdefault(job.key, job._replace(evaluations={}))
        more = {job.asked[metric]: asked for metric, asked in job.evaluations.items()}
        by_key[job.key] = shared._replace(evaluations=shared.evaluations | more)
    return list(by_key.values())


seen = functools.lru_cache(maxsize=8)(read_images)  # many rows are of one data set


def decisive(config: Config) -> dict[str, Any]:
    """The options, resolved, that decide about a run's numbers, and the digest of its images. Raises ConfigError."""
    config, data, _ = load_images(config, read=seen)
    resolved, _ = resolve(config, len(data.images), data.shape, len(data.labels))
    kept = {name: value for name, value in resolved.to_dict().items() if name not in having("no_number")}
    if ":" in (config.eta or ""):
        kept["eta"] = f"{kept['eta']} {Path(str(config.eta).rpartition(':')[0]).read_text()}"
    return kept | {"files": data.digest}


def jobs(
    options: Mapping[str, Any],
    seeds: int,
    out: Path,
    evaluations: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType({}),
) -> list[Job]:
    """The runs of one row, by seed. Raises ConfigError.

    A key is that of all options, resolved, of the files of the data set and of a solver of one's own, and of NUMERICS.
    """
    options = {"threads": 1, "precision": "fp32", "device": "cpu", **options}  # the same key on any machine
    text_of = decisive(Config(**options))
    made = []
    for seed in range(seeds):
        text = json.dumps(text_of | {"seed": seed, "numerics": NUMERICS}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        flags = [part for n, v in (options | {"seed": seed}).items() for part in given_flag(n, v).split(" ", 1)]
        asked = {metric: (task, {**more}) for metric, (task, more) in evaluations.items()}
        made.append(Job(key, out / "runs" / key, [*flags, "--quiet", "--out", str(out / "runs" / key)], asked))
    return made


def accuracy(job: Job, metric: str) -> float | None:
    """The accuracy of an evaluation in a run's directory; None where there is none, or a damaged one."""
    try:
        return float(json.loads(job.evaluated(metric).read_text())["acc1"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def clear_if_damaged(job: Job) -> None:
    """Remove the directory of a run that cannot be gone on with."""
    if not job.folder.is_dir():
        return
    try:
        begun = Run(job.folder)
        if (job.folder / "config.json").exists():
            _ = begun.config, begun.summary if begun.finished else None
    except (OSError, ValueError):
        print(f"{job.folder} is damaged and is run again", file=sys.stderr)
        shutil.rmtree(job.folder)


def train(job: Job) -> int:
    """What a job runs: the command, on from where it was, and evaluations. Status of `python -m emsiam.train`."""
    os.setpgid(0, 0)  # Ctrl-C is for the sweep, which then asks each run once to save and end
    status = emsiam.train.main([*job.arguments, "--resume"])
    for metric, (task, options) in job.evaluations.items() if status == 0 else ():
        if accuracy(job, metric) is None:
            job.evaluated(metric).write_text(json.dumps(plain(evaluate(task, str(job.folder), **options)), indent=1))
    return status


def run(wanted: Sequence[Job], at_once: int, launcher: str, records: Records) -> list[str]:
    """Run what is not done yet, and record each at once; what failed, a line each.

    Interrupted, runs save and end; the same command goes on with them.
    """
    left = [job for job in wanted if not records.find(job.key, job.asked.values())]
    records.take(job.key for job in wanted if job not in left)
    for job in left:
        clear_if_damaged(job)
    return at_work(
        left, train, functools.partial(_ended, records=records), at_once, launcher, records.folder, len(wanted)
    )


def asked(parser: argparse.ArgumentParser, arguments: Sequence[str] | None, smoke: str) -> argparse.Namespace:
    """What a sweep's command was asked, with its own options added.

    From now on signals end the command as Ctrl-C does, and it sees no GPU.
    """
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once, a thread each (all processors)")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where runs run (local)")
    parser.add_argument("--out", type=lambda text: Path(text).expanduser(), default=Path("results"), help="results")
    parser.add_argument("--smoke", action="store_true", help=smoke)
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error("--jobs: allowed is a number from 1")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a sweep's keys and numbers are those of CPUs
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    return given


def at_work(
    left: Sequence[Task],
    do: Callable[[Task], Any],
    ended: Callable[[Task, submitit.Job], str],
    at_once: int,
    launcher: str,
    out: Path,
    total: int,
) -> list[str]:
    """Do tasks, several at once, each in a process of its own with a thread; what failed, a line each.

    ended: called with each task that ended and its job; a reason where it failed, else nothing. total: with those that
    were done before. Raises ConfigError where another sweep is at work in `out`.
    """
    left = list(left)
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
    running: list[tuple[Task, submitit.Job]] = []
    bar = tqdm(total=total, initial=total - len(left), unit="run", smoothing=0, mininterval=1)
    try:
        if launcher == "slurm":  # which sees to how many run at once
            running = list(zip(left, executor.map_array(do, left), strict=True))
            left = []
        while left or running:
            while left and len(running) < at_once:
                task = left.pop(0)
                handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job takes this over
                running.append((task, executor.submit(do, task)))
                signal.signal(signal.SIGINT, handler)
            bar.set_postfix(running=len(running), left=len(left), refresh=False)
            bar.update(0)
            time.sleep(0.2)
            for task, submitted in [pair for pair in running if pair[1].done()]:
                running.remove((task, submitted))
                if reason := ended(task, submitted):
                    failed.append(reason)
                bar.update()
    except BaseException as error:
        _stop([submitted for _, submitted in running], launcher)
        if isinstance(error, KeyboardInterrupt):
            return [INTERRUPTED]
        raise
    finally:
        bar.close()
        alone.close()
    return failed


def anew(do: Callable[[Task], Record], task: Task) -> Record:
    """What a process runs, of a task that leaves nothing behind when it is interrupted: it begins anew."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setpgid(0, 0)  # Ctrl-C is for the command
    return do(task)


def recorded(records: Records, task: Any, submitted: submitit.Job) -> str:
    """Record what a task that ended returned; else why it did not."""
    if submitted.exception():
        return f"{task}: see {submitted.paths.stderr}"
    records.add(submitted.result())
    return ""


def _stop(running: Sequence[submitit.Job], launcher: str) -> None:
    """Ask jobs to end, and wait for those of this machine."""
    for submitted in running:
        if launcher == "local":
            with suppress(ProcessLookupError):
                os.kill(int(submitted.job_id), signal.SIGTERM)  # which submitit hands on
        else:
            submitted.cancel()
    while launcher == "local" and not all(submitted.done() for submitted in running):
        time.sleep(0.1)


def _ended(job: Job, submitted: submitit.Job, *, records: Records) -> str:
    """Record a run that ended; else why it did not."""
    error = submitted.exception()
    status = None if error else submitted.result()
    if status in (0, 3):  # 3: diverged, which is a result
        found = {job.asked[metric]: accuracy(job, metric) for metric in job.evaluations}
        evaluations = {asked: value for asked, value in found.items() if value is not None}
        records.add(record(job.key, NUMERICS, job.folder, evaluations))
        return ""
    return f"python -m emsiam.train {' '.join(job.arguments)}: status {status}, see {submitted.paths.stderr}"
