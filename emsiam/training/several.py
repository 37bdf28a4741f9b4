"""How is one configuration trained with several seeds? A process each, so many at once; then mean and interval."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import processor
from ..diagnostics.statistics import mean_interval, spelled
from ..ending import NUMBERS, put_back
from ..errors import ConfigError
from ..metrics import METRICS, shown_in
from ..runs.run import Run

DIVERGED = 3  # a status
STOPPED = [128 + number for number in NUMBERS]


class Several:
    """Runs below a folder, one for each seed: FOLDER/seed-N."""

    def __init__(
        self,
        arguments: Sequence[str],
        seeds: Sequence[int],
        jobs: int,
        folder: Path,
        of_new: Sequence[str],
        resume: bool,
        quiet: bool,
    ):
        """of_new: more arguments, of a run that begins; resume: whether runs go on that have begun; quiet: no bar."""
        self.arguments, self.seeds, self.jobs, self.folder = arguments, seeds, jobs, folder
        self.of_new, self.resume, self.quiet = of_new, resume, quiet
        self.running: dict[int, subprocess.Popen] = {}
        self.lock, self.caught = threading.RLock(), 0  # a second signal may come while the first is answered

    def train(self) -> int:
        """Train them all. Status as of a training: that of the first run that did not end well."""
        before = {number: signal.signal(number, self._stop) for number in NUMBERS}
        try:
            bar = tqdm(total=len(self.seeds), unit="run", leave=False, disable=self.quiet)
            with ThreadPoolExecutor(self.jobs) as pool, bar:
                statuses = []
                for seed, (status, said, wrong) in zip(self.seeds, pool.map(self._one, self.seeds), strict=True):
                    bar.update()
                    statuses.append(status)
                    if said:
                        bar.write(f"seed {seed}: {said.splitlines()[0]}", file=sys.stdout)
                    failed = status not in (0, *STOPPED)
                    if wrong and (failed or seed == self.seeds[0]):  # every seed has the same notes
                        bar.write(wrong.rstrip(), file=sys.stderr)
        finally:
            put_back(before)
        if self.caught:
            print(f"stopped and saved; to go on: the same command with --resume --out {self.folder}", file=sys.stderr)
            return 128 + self.caught
        if not set(statuses) - {0, DIVERGED}:
            print(report([Run(self.at(seed)) for seed in self.seeds], self.folder))
        return next((status for status in statuses if status), 0)

    def at(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}"

    def _one(self, seed: int) -> tuple[int, str, str]:
        """A run's status, and what it printed."""
        command = [sys.executable, "-m", "emsiam.train", *self.arguments, "--seed", str(seed), "--quiet"]
        if not (self.resume and (self.at(seed) / "config.json").exists()):
            command += self.of_new
        with self.lock:
            if self.caught:
                return 128 + self.caught, "", ""
            process = subprocess.Popen(
                [*command, "--out", str(self.at(seed))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,  # Ctrl-C is for this command, which hands it on once
            )
            self.running[seed] = process
        said, wrong = process.communicate()
        with self.lock:
            del self.running[seed]
        return process.returncode, said, wrong

    def _stop(self, number: int, _: Any) -> None:
        """Runs end after the step at hand, and are saved; a second signal ends them at once."""
        with self.lock:  # no run is being started meanwhile, and missed
            self.caught = number
            for process in self.running.values():
                process.send_signal(number)


def seeds_of(text: str) -> list[int]:
    """The numbers that 0-4 or 0,3,7 stands for. Raises ConfigError."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ConfigError(f"--seeds {text}: allowed are numbers such as 0-4 or 0,3,7")
        if int(last or first) < int(first):
            raise ConfigError(f"--seeds {text}: {part} runs backwards; allowed is {last}-{first}")
        found += range(int(first), int(last or first) + 1)
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--seeds {text}: allowed are seeds that differ, such as 0-4 or 0,3,7")
    return found


def threads(jobs: int) -> list[str]:
    """Options that keep so many processes from using the same processors."""
    return ["--threads", str(max(1, processor.own() // jobs))] if jobs > 1 else []


def report(runs: Sequence[Run], folder: Path) -> str:
    """Verdicts, and each number's mean and 95 % interval over the runs that did not diverge."""
    summaries = [run.summary for run in runs]
    counts = Counter(s["verdict"] for s in summaries)
    ended = [s for s in summaries if s["verdict"] != "diverged"]
    lines = [f"{len(runs)} runs: {', '.join(f'{verdict} {n}' for verdict, n in counts.items())}"]
    if len(ended) > 1:
        lines.append("  means (95 % interval over runs, by the t distribution)")
    for m in [*shown_in("end"), METRICS["knn_acc1"], METRICS["knn_z_acc1"]]:
        values = [s[m.name] for s in ended if s.get(m.name) is not None]
        if values:
            lines.append(f"  {m.short:9s} {spelled(mean_interval(values), m.digits)}")
    return "\n".join([*lines, f"  runs in {folder}; python -m emsiam.compare {folder}/seed-* shows them"])
