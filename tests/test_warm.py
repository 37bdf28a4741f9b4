"""What the other tests start from a warm process is what a process of its own would be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import _warm
import pytest

TELL = """
import json, os, signal, sys
names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGCHLD", "SIGUSR1")
handlers = {name: str(signal.getsignal(getattr(signal, name))).split(" at ")[0] for name in names}
told = {"argv": sys.argv, "name": __name__, "cwd": os.getcwd(), "env": dict(os.environ), "handlers": handlers}
told |= {"path": sys.path, "stdin": sys.stdin.read(), "ttys": [os.isatty(fd) for fd in range(3)]}
told |= {"leads": os.getpid() == os.getpgid(0), "main": sys.modules["__main__"].__dict__.get("names") == names}
print(json.dumps(told))
print("an error", file=sys.stderr)
os.system("echo from a child")
"""


@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("sys.exit(7)", 7), ("sys.exit('why')", 1), ("raise ValueError('x')", 1)]
)
def test_a_forked_process_is_as_a_real_one(tmp_path, end, status):
    (tmp_path / "tell.py").write_text(TELL + end)
    env = os.environ | {"ASKED": "yes", "PWD": str(tmp_path)}
    forked = _warm.run("tell", "--flag", 3, env=env, cwd=tmp_path)
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "process_group": 0}
    real = subprocess.run([sys.executable, "-m", "tell", "--flag", "3"], env=env, cwd=tmp_path, **options)
    assert forked.returncode == real.returncode == status
    told, told_really = (json.loads(done.stdout.splitlines()[0]) for done in (forked, real))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup, which a real process takes over
        told_really["handlers"]["SIGHUP"] = told["handlers"]["SIGHUP"]
    assert told.pop("path")[0] == told_really.pop("path")[0] == str(tmp_path)
    assert told == told_really
    assert forked.stdout.splitlines()[1:] == real.stdout.splitlines()[1:] == ["from a child"]
    said, said_really = (done.stderr.splitlines() for done in (forked, real))
    assert (said[0], said[-1]) == (said_really[0], said_really[-1])


def test_a_signal_ends_it(tmp_path):
    (tmp_path / "wait.py").write_text("import time\nopen('begun', 'w')\ntime.sleep(600)\n")
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        process = _warm.Process("wait", cwd=tmp_path)
        _warm.wait_for(tmp_path / "begun", process)
        (tmp_path / "begun").unlink()
        process.send_signal(number)
        assert process.wait() == process.returncode == -number


def test_it_pauses_where_it_is_told_to(tmp_path):
    (tmp_path / "write.py").write_text("for name in 'abc':\n    open(name, 'w').close()\n")
    process = _warm.Process("write", cwd=tmp_path, pauses_at="b")
    process.paused()
    assert {file.name for file in tmp_path.glob("?")} == {"a"}
    process.go()
    assert process.wait() == 0
    assert {file.name for file in tmp_path.glob("?")} == {"a", "b", "c"}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux's /proc")
def test_the_warm_process_has_imported_what_a_run_needs_and_computed_nothing(tmp_path):
    (tmp_path / "tell.py").write_text(
        "import json, os, sys\n"
        "before = set(sys.modules)\n"
        "from emsiam import evaluate, train\n"
        "train.main(['--epochs', '1', '--batch-size', '479', '--quiet', '--out', 'run'])\n"
        "evaluate.main(['linear', 'run'])\n"
        "print(json.dumps([len(os.listdir(f'/proc/{os.getppid()}/task')), *sorted(set(sys.modules) - before)]))\n"
    )
    done = _warm.run("tell", cwd=tmp_path)
    threads, *imported = json.loads(done.stdout.splitlines()[-1])
    assert threads == 1
    assert len(imported) < 20, imported
