"""How does a test run a command in a process of its own without paying for its imports? A warm process forks it.

One process for each pytest worker, multiprocessing's fork server, imports what the commands import and does nothing
else: it never computes, since the threads of OpenMP and of autograd do not survive a fork. A command is a child of it,
with its own process group, arguments, environment, directory and descriptors, and with default signal handlers.
`Process` has of subprocess.Popen what the tests use. test_warm.py holds the two against each other.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import matplotlib.figure

import emsiam.data.probe_set
import emsiam.plots
import emsiam.training.monitors

# what the commands load, early or late; none that is run as __main__, of which runpy would warn
PRELOADED = ["emsiam.training.run_training", "emsiam.evaluation.tasks", "emsiam.comparison.page", "emsiam.plots"]
PRELOADED += ["torchvision", "seaborn", "matplotlib.backends.backend_agg"]
PRELOADED += ["torch.utils.tensorboard", "sklearn.datasets", "sklearn.linear_model", "submitit"]
LONG = 600  # seconds: what a test waits for comes, however busy the machine; after so long something hangs
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(PRELOADED)


class Process:
    """`python -m MODULE ARGUMENTS`, forked. What it prints goes to files, so that it waits for no reader.

    files: where stdout and stderr are appended to, {pid} being its own; by default what `communicate` returns.
    pauses_at: how the name of a file ends, before whose opening it waits for `go`, or for a signal that ends it.
    pictures: whether a run draws its own, which takes a second.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[object] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        files: Sequence[str] = (),
        pauses_at: str = "",
        pictures: bool = False,
    ):
        self.args = [module, *map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory(prefix="warm-")
        self.files = list(files) or [f"{self.folder.name}/{name}" for name in ("stdout", "stderr")]
        pause = pauses_at, f"{self.folder.name}/paused", f"{self.folder.name}/go"
        asked = self.args, dict(os.environ if env is None else env), str(cwd or Path.cwd()), self.files, pause, pictures
        self.process = WARM.Process(target=_command, args=asked)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float = LONG) -> int:
        if not wait([self.process.sentinel], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.process.join()
        return self.process.exitcode

    def communicate(self, timeout: float = LONG) -> tuple[str, str]:
        self.wait(timeout)
        out, errors = (Path(file).read_text() for file in self.files)
        return out, errors

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def paused(self) -> None:
        """Wait until it is where it pauses."""
        wait_for(Path(self.folder.name) / "paused", self)

    def go(self) -> None:
        (Path(self.folder.name) / "go").touch()


def run(module: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    """As subprocess.run of `python -m MODULE ARGUMENTS`, with what it printed as text."""
    process = Process(module, arguments, **options)
    out, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def ports(number: int) -> list[str]:
    """So many ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return found


def ranks(number: int, module: str, *arguments: object, cwd: Path | None = None) -> str:
    """What `torchrun --nproc-per-node=NUMBER -m MODULE ARGUMENTS` prints. test_torchrun.py has torchrun itself."""
    (port,) = ports(1)
    shared = os.environ | {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    own = [{name: str(i) for name in ("RANK", "LOCAL_RANK")} for i in range(number)]
    processes = [Process(module, arguments, env=shared | env, cwd=cwd or Path(__file__).parent) for env in own]
    told = []
    for process in processes:
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        told.append(out)
    return "".join(told)


AS_ALWAYS = emsiam.training.monitors.SNAPSHOTS, emsiam.data.probe_set.PROBE_SIZE


def look_seldom(set_attribute: Callable[[object, str, object], None], snapshots: int = 3, images: int = 128) -> None:
    """Runs have few snapshots and a small probe set."""
    set_attribute(emsiam.training.monitors, "SNAPSHOTS", snapshots)
    set_attribute(emsiam.data.probe_set, "PROBE_SIZE", images)


def no_picture(*_: object) -> matplotlib.figure.Figure:
    return matplotlib.figure.Figure()


def wait_for(path: Path, process: Process | subprocess.Popen) -> None:
    """Until a file is there, which a process writes."""
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def start_controller(folder: Path, command: str, **_) -> Process:
    """In place of submitit's: a job is forked and waited for, without a process of submitit's own between them."""
    env = os.environ | {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "{pid}"}
    env |= {f"SUBMITIT_LOCAL_{name}": "0" for name in ("LOCALID", "GLOBALID", "NODEID")}
    env |= {f"SUBMITIT_LOCAL_{name}": "1" for name in ("NTASKS", "JOB_NUM_NODES")}
    logs = [f"{folder}/{{pid}}_0_log.{name}" for name in ("out", "err")]
    return Process("submitit.core._submit", [folder], env=env, files=logs)


def _command(
    args: list[str], env: dict[str, str], cwd: str, files: list[str], pause: tuple[str, str, str], pictures: bool
) -> None:
    """What the child does."""
    os.setpgid(0, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not None:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python has these two
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    pid = str(os.getpid())
    for file, descriptor in zip((os.devnull, *(f.replace("{pid}", pid) for f in files)), range(3), strict=True):
        opened = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update({name: value.replace("{pid}", pid) for name, value in env.items()})
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    if pause[0]:
        sys.addaudithook(partial(_pause, *pause, []))
    if not pictures:
        emsiam.plots.trajectory = no_picture
    module, *sys.argv[1:] = args
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _pause(ending: str, paused: str, go: str, done: list[bool], event: str, about: tuple) -> None:
    if event == "open" and not done and str(about[0]).endswith(ending):
        done.append(True)
        Path(paused).touch()
        while Path(paused).exists() and not Path(go).exists():  # the folder goes with a test that failed
            time.sleep(0.01)
