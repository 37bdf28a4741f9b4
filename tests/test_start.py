"""What a command costs before it trains: the help, and wrong input, are answered without PyTorch."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import _warm
import pytest

import emsiam
from emsiam import names

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "numpy", "sklearn", "pandas", "matplotlib")
# the heavy modules that a command has loaded by its end
PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code
loaded = [name for name in {heavy} if name in sys.modules]
print(f"status {{status or 0}}, loaded {{loaded}}")
"""


def answered(*command):
    """What a command prints, its status, and the heavy modules it loaded."""
    probe = PROBE.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", probe, *command], capture_output=True, text=True, cwd=ROOT)
    *_, last = done.stdout.splitlines()
    status, loaded = re.fullmatch(r"status (\d+), loaded (\[.*\])", last).groups()
    return done.stdout + done.stderr, int(status), loaded


COMMANDS = ("train", "evaluate", "compare", "export", "embed")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        *((f"emsiam.{name} --help", 0, f"usage: python -m emsiam.{name}") for name in COMMANDS),
        *((f"emsiam.{name} --version", 0, f"emsiam {emsiam.__version__}\n") for name in COMMANDS),
        ("emsiam.train --lrr 1", 2, "emsiam.train: --lrr: no such option (did you mean --lr?)\n"),
        ("emsiam.train --k 0", 2, "emsiam.train: --k 0: allowed is a whole number from 1"),
        ("emsiam.train --augment blur=2", 2, "emsiam.train: --augment blur=2: allowed is a number from 0 to 1\n"),
        ("emsiam.train --mode onestp", 2, "emsiam.train: --mode onestp: allowed is onestep, "),
        ("emsiam.train --eta movin_average", 2, "(did you mean moving_average?)\n"),
        ("emsiam.train --dataset digit", 2, "(did you mean digits?)\n"),
        ("emsiam.train --predictor mpl", 2, "(did you mean mlp?)\n"),
        ("emsiam.train --preset simsiam", 2, "emsiam.train: --preset simsiam: allowed is simsiam-cifar10, "),
        ("emsiam.evaluate knnn x", 2, "invalid choice: 'knnn'"),
        ("emsiam.evaluate knn x --knn-k 0", 2, "emsiam.evaluate: --knn-k: 0 is not a whole number from 1"),
        ("emsiam --help", 0, "python -m emsiam.train: train SimSiam"),
        ("emsiam --version", 0, f"emsiam {emsiam.__version__}\n"),
        ("emsiam.compare", 2, "emsiam.compare: the following arguments are required: RUN\n"),
        ("emsiam.embed x --out nowhere/z.npz", 2, "emsiam.embed: --out nowhere/z.npz: there is no folder nowhere\n"),
        ("emsiam compare", 2, "emsiam.compare: the following arguments are required: RUN\n"),
        ("emsiam comparre", 2, "emsiam: COMMAND: invalid choice: 'comparre'"),
        ("emsiam.export x", 2, "emsiam.export: the following arguments are required: --out\n"),
    ],
)
def test_help_and_wrong_input_are_answered_without_pytorch(command, status, said):
    text, ended, loaded = answered(*command.split())
    assert said in text
    assert ended == status
    assert loaded == "[]"


def test_importing_the_package_loads_nothing_and_gives_everything():
    code = f"import sys, emsiam; print([name for name in {HEAVY} if name in sys.modules]);"
    code += "emsiam.Config(mode='ema_eta', m=0.9); print('torch' in sys.modules); emsiam.diagnostics.collapse; "
    code += "emsiam.plots; emsiam.compare; print(*sorted(sys.modules.keys() & {'torch', 'torchvision', 'seaborn'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]", "False", "torch"]
    assert set(emsiam.__all__) <= set(dir(emsiam))
    for name in emsiam.__all__:
        assert getattr(emsiam, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(emsiam, "nothing")  # noqa: B009  # what a typing error does


def handled(process):
    """Waits until a process answers SIGTERM itself: Python does not, our command does at once."""
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*(\S+)", status.read_text())[1], 16) & 1 << signal.SIGTERM - 1:
        assert process.poll() is None
        time.sleep(0.001)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals a process answers")
@pytest.mark.parametrize(
    ("number", "status", "seconds"), [*((signal.SIGINT, 130, s) for s in (0, 0.3, 1)), (signal.SIGTERM, 143, 0.1)]
)
def test_a_signal_in_the_first_second_ends_the_command(tmp_path, number, status, seconds):
    """While PyTorch is loaded, the data, or the first step is taken: never with a traceback, never unanswered."""
    command = [sys.executable, "-m", "emsiam.train", "--quiet", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        handled(process)
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == status
    assert errors in ("", f"stopped and saved; to go on: python -m emsiam.train --resume --out {tmp_path / 'run'}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["evaluate knn {}", "compare {}", "export {} --out x", "embed {} --out x"])
def test_a_signal_ends_every_command_without_a_traceback(tmp_path, command, number):
    (tmp_path / "config.json").write_text("{}")
    name, *arguments = command.format(tmp_path).split()
    process = _warm.Process(f"emsiam.{name}", arguments, cwd=tmp_path, pauses_at="config.json")
    process.paused()
    process.send_signal(number)
    assert process.communicate() == ("", "")
    assert process.returncode == 128 + number


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_that_is_being_imported(tmp_path, number, status):
    (tmp_path / "argparse.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(9)\nraise SystemExit('it went on')\n"
    )
    command = [sys.executable, "-u", "-m", "emsiam.train", "--help"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}  # whose argparse comes before Python's
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_a_program_that_imports_emsiam_keeps_its_handlers(tmp_path):
    """`emsiam.py` is nobody's console command, and `-m other` a module of somebody else's."""
    program = (
        "import signal, emsiam, emsiam.train\nassert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\nprint('kept')"
    )
    (tmp_path / "other.py").write_text(program)
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    for arguments in (["-c", program], ["-m", "other"], [str(tmp_path / "other.py")]):
        done = subprocess.run(
            [sys.executable, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == "kept\n", done.stderr


def test_a_user_s_own_spin_count_wins():
    """Threads of OpenMP are told how long to spin before PyTorch is loaded, unless the user has said so."""
    code = "import os, emsiam; print(os.environ.get('GOMP_SPINCOUNT'))"
    clean = {n: v for n, v in os.environ.items() if n not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    for given, expected in (({}, "30000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")):
        done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.strip() == expected


def test_generated_files_are_as_they_would_be_made():
    done = _warm.run("generate", "--check", cwd=ROOT / "docs")
    assert done.returncode == 0, f"make generated: {done.stdout}{done.stderr}"


def test_the_help_says_what_each_mode_has():
    """The predictor that a mode has stands at the mode, and the help is made from it."""
    from emsiam.methods import METHODS

    text, *_ = answered("emsiam.train", "--help")
    said = re.search(r"\n  --predictor .*?Default:\s+(\S+)\s+for\s+([^.]*), else (\w+)\.", text, re.DOTALL)
    few = re.sub(r"\s+", " ", said[2]).split(", ")
    assert {mode: said[1] if mode in few else said[3] for mode in METHODS} == {
        mode: method.predictor for mode, method in METHODS.items()
    }
    for name in names.SOLVERS:
        assert name in text
