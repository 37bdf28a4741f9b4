"""The command and what it leaves behind: in a process of its own, forked from a warm one, and in this one."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import _warm
import numpy as np
import pytest
import torch

import emsiam
from emsiam import data
from emsiam.build import network
from emsiam.config import parse
from emsiam.data.batches import batches
from emsiam.diagnostics import trajectory
from emsiam.diagnostics.verdict import VERDICTS
from emsiam.evaluation import classifiers
from emsiam.training import watch

pytestmark = pytest.mark.usefixtures("plain_runs")

METRICS = ["step", "epoch", "loss", "lr", "z_std", "z_std_ratio", "effective_rank", "participation_ratio"]
TIMES = ["seconds", "images_per_second"]
VARIES = {*TIMES, "peak_rss_mb"}
SUMMARY = [
    "mode",
    "dataset",
    "arch",
    "seed",
    "steps",
    "epochs",
    "loss",
    *METRICS[4:],
    "verdict",
    "reason",
    "verdict_rule",
    "peak_rss_mb",
    *TIMES,
]
SUMMARY += ["knn_acc1", "knn_acc1_best", "knn_acc1_init"]


command = partial(_warm.run, "emsiam.train")


THREE = ("--epochs", 3, "--eval-every", 2, "--save-every", 1, "--log-every", 10)


@pytest.fixture(scope="module")
def run(once):
    """Three epochs of SimSiam by the command, in a process of its own, not forked; what it printed, and has loaded."""

    def make(folder):
        told = "import atexit, sys\natexit.register(lambda: open({!r}, 'w').write(' '.join(sys.modules)))\n"
        (folder / "sitecustomize.py").write_text(told.format(str(folder / "loaded")))  # Python runs it at its start
        command = [sys.executable, "-m", "emsiam.train", *map(str, THREE), "--out", folder / "simsiam"]
        env = os.environ | {"PYTHONPATH": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=_warm.LONG, env=env)
        assert done.returncode == 0, done.stderr
        (folder / "printed").write_text(json.dumps([done.stdout, done.stderr]))

    folder = once("simsiam", make)
    stdout, stderr = json.loads((folder / "printed").read_text())
    loaded = (folder / "loaded").read_text().split()
    return emsiam.load_run(folder / "simsiam"), SimpleNamespace(stdout=stdout, stderr=stderr, loaded=loaded)


def test_the_terminal_says_what_became_of_it(run):
    run, done = run
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"onestep on digits: {run.summary['verdict']} after 33 steps")
    assert any(line.endswith(str(run.path / "trajectory.png")) for line in rest)
    assert [line[16:] for line in rest[-3:]] == [
        f"python -m emsiam.diagnose {run.path}",
        f"python -m emsiam.compare {run.path} OTHER",
        f"tensorboard --logdir {run.path}",
    ]
    assert "100% 00:00 left" in done.stderr
    assert " kNN 0." in done.stderr


def test_torchvision_is_loaded_for_its_own_networks_and_data_sets_only(run):
    """It takes two seconds."""
    _, done = run
    assert "torch" in done.loaded
    assert "torchvision" not in done.loaded


def test_a_forked_process_gives_what_a_real_one_gives(run, tmp_path):
    """What other tests start is forked (_warm.py): the same bits and words; what differs is the time, and the name."""
    run, printed = run
    done = command(*THREE, "--out", tmp_path / "forked", pictures=True)
    assert done.returncode == 0, done.stderr
    forked = emsiam.load_run(tmp_path / "forked")

    def left(run):
        env = json.loads((run.path / "env.json").read_text())
        env["command"][-1] = ""
        words = {name: x for name, x in run.summary.items() if name not in VARIES}, env, run.probe
        saved = torch.load(run.path / "checkpoints/last.pt", weights_only=True)
        buffers = [x for state in saved["optimizer"]["state"].values() for x in state.values()]
        z = list(map(torch.from_numpy, run.snapshots().values()))
        return run.metrics.drop(columns=TIMES), words, [*saved["net"].values(), *buffers, *z]

    (table_a, words_a, tensors_a), (table_b, words_b, tensors_b) = map(left, (run, forked))
    assert table_a.equals(table_b)
    assert (run.path / "trajectory.png").read_bytes() == (forked.path / "trajectory.png").read_bytes()
    assert words_a == words_b
    assert all(torch.equal(a, b) for a, b in zip(tensors_a, tensors_b, strict=True))
    assert without_times(done.stdout) == without_times(printed.stdout.replace(str(run.path), str(forked.path)))


def without_times(text):
    return re.sub(r"\d+ s$", "", text, flags=re.MULTILINE)


def test_files_of_a_run(run):
    run, _ = run
    names = {f.name for f in run.path.iterdir()}
    assert names >= {"config.json", "env.json", "metrics.jsonl", "summary.json", "trajectory.png"}
    assert any(name.startswith("events.out.tfevents.") for name in names)
    assert (run.path / "trajectory.png").read_bytes().startswith(b"\x89PNG")
    env = json.loads((run.path / "env.json").read_text())
    assert env["torch"] == torch.__version__
    assert env["threads"] == run.config.threads


def test_metrics(run):
    run, _ = run
    table = run.metrics
    assert {*METRICS, *TIMES} <= set(table.columns)
    assert table.step.tolist() == [0, 10, 20, 22, 30, 33]
    assert table.step[table.knn_acc1.notna()].tolist() == [0, 22, 33]
    assert np.allclose(table.z_std_ratio, table.z_std * math.sqrt(128))
    assert np.allclose(table.epoch, table.step / 11)
    assert np.isfinite(table[METRICS + TIMES]).all(axis=None)
    assert table.lr.iloc[0] == 0.1 * 128 / 256


def test_summary(run):
    run, _ = run
    assert set(SUMMARY) <= set(run.summary)
    assert run.summary["verdict"] in VERDICTS
    assert run.summary["steps"] == 33
    assert run.summary["knn_acc1"] == run.metrics.knn_acc1.iloc[-1]
    assert run.summary["knn_acc1_init"] == run.metrics.knn_acc1.iloc[0]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_progress_bar_fits_80_columns(verdict):
    line = {"loss": -0.98765, "z_std_ratio": 0.98765, "participation_ratio": 1234.5, "knn_acc1": 0.98765}
    shown = f"100% 12:34:56 left, {watch.bar(line, verdict)}"
    assert len(shown) <= 80 + len("234")  # of a rank of thousands
    assert shown.endswith("loss -0.99 std·√d 0.99 PR 1234.5 kNN 0.99")


def test_tensorboard_reads_the_curves(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = run
    events = EventAccumulator(str(run.path)).Reload()
    assert [e.step for e in events.Scalars("training/loss")] == run.metrics.step.tolist()
    tags = events.Tags()["scalars"]
    assert {"collapse/z_std_ratio", "accuracy/knn_acc1", "speed/images_per_second", "training/lr"} <= set(tags)
    assert {tag.partition("/")[2] for tag in tags} == set(run.metrics) - {"step"}
    assert "| mode | onestep |" in events.Tensors("options/text_summary")[0].tensor_proto.string_val[0].decode()
    assert np.allclose([e.value for e in events.Scalars("training/loss")], run.metrics.loss, atol=1e-6)


def test_snapshots_are_z_of_the_probe_set(run):
    run, _ = run
    snapshots = run.snapshots()
    assert len(snapshots) <= 64
    assert next(iter(snapshots)) == 0
    assert list(snapshots)[-1] == 33
    z = torch.from_numpy(snapshots[33])
    assert z.shape == (512, 128)
    assert emsiam.diagnostics.collapse.z_std(z).item() == pytest.approx(run.summary["z_std"], rel=1e-6)


def test_weights_are_those_of_f_in_short_at_the_same_steps(run, digits):
    run, _ = run
    weights = run.weights()
    assert list(weights) == list(run.snapshots())
    assert np.array_equal(weights[33], trajectory.sketch(run.model().F.parameters()).numpy())
    first = data.probe_set.probe_ids(digits).tolist()  # fewer in this process, see conftest
    assert run.probe["ids"][: len(first)] == first
    assert len(run.probe["ids"]) == 512
    assert run.probe["labels"] == digits.labels[run.probe["ids"]].tolist()


def test_checkpoints_are_plain(run, digits):
    run, _ = run
    for name, step in (("last", 33), ("previous", 22)):
        saved = torch.load(run.path / "checkpoints" / f"{name}.pt", weights_only=True)
        assert saved["step"] == step
        assert saved["config"] == run.config.to_dict()
    net = run.model()
    assert not net.training
    with torch.no_grad():
        features = net.F.backbone(digits.normalise(digits.images)), net.F.backbone(digits.normalise(digits.test_images))
    predicted = classifiers.knn_predict(features[0], digits.labels, features[1], k=20, t=0.1, num_classes=10)
    assert (predicted == digits.test_labels).double().mean().item() == pytest.approx(run.summary["knn_acc1"])


def test_python_does_what_the_command_does(run, tmp_path, monkeypatch):
    _warm.look_seldom(monkeypatch.setattr, *_warm.AS_ALWAYS)
    run, _ = run
    again = emsiam.fit(emsiam.Config(epochs=3, eval_every=2, log_every=7, out=str(tmp_path / "run"), quiet=True))
    a, b = ({k: v for k, v in r.summary.items() if k not in VARIES} for r in (run, again))
    assert a == b
    assert np.array_equal(again.snapshots()[33], run.snapshots()[33])


def test_looking_more_often_changes_nothing(tmp_path):
    """Diagnostics leave no trace: weights are the same to the bit whatever is logged, evaluated and saved."""
    nets = []
    for name, every in (("often", 1), ("seldom", 1000)):
        config = emsiam.Config(
            mode="expectation",
            epochs=2,
            log_every=every,
            eval_every=every,
            save_every=every,
            out=str(tmp_path / name),
            quiet=True,
        )
        nets.append(emsiam.fit(config).model().state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_one_step_alternation_is_simsiam(tmp_path):
    options = {"epochs": 2, "log_every": 1, "quiet": True}
    a = emsiam.fit(emsiam.Config(mode="onestep", out=str(tmp_path / "a"), **options))
    b = emsiam.fit(emsiam.Config(mode="multistep", k=1, out=str(tmp_path / "b"), **options))
    assert a.metrics.loss.tolist() == b.metrics.loss.tolist()
    assert all(torch.equal(p, q) for p, q in zip(*(r.model().state_dict().values() for r in (a, b)), strict=True))


ONE_CHANGE = [
    "",
    "--mode multistep --k 3",
    "--mode multistep --k epoch",
    "--mode ema_eta",
    "--mode ema_eta --m 0.3",
    "--mode ema_eta --k 3",
    "--mode ema_eta --predictor mlp",
    "--mode expectation",
    "--mode expectation --n 2",
    "--no-stop-grad",
    "--predictor none",
    "--predictor linear",
    "--predictor fixed",
    "--no-fix-pred-lr",
    "--bn none",
    "--bn hidden",
    "--bn all",
    "--no-output-affine",
    "--symmetry asym",
    "--symmetry asym2x",
    "--similarity cross_entropy",
    "--similarity mse",
    "--schedule constant",
    "--warmup-epochs 1",
    "--lr 0.2",
    "--wd 0",
    "--momentum 0.5",
    "--batch-size 32",
    "--dim 64",
    "--hidden-dim 64",
    "--pred-dim 8",
    "--proj-layers 2",
    "--seed 1",
    "--augment noise=0.2",
    "--augment scale=0.5:0.9,blur=0.5",
    "--arch resnet18 --stem imagenet --precision fp32",  # as tiny has it; in bf16 PyTorch leaves gradients unwritten
    "--precision bf16",
    "--precision fp64",
    *("--mode byol", "--mode byol --tau 0.5", "--mode byol --tau-schedule constant"),
    *("--mode simclr", "--mode simclr --temperature 0.5"),
    *(f"--mode moco{more}" for more in ("", " --queue 16", " --tau 0.5", " --shuffle-bn 4")),
    *("--mode swav", "--mode swav --prototypes 40", "--mode swav --temperature 0.5"),
    *(f"--mode {mode}" for mode in ("vicreg", "barlow", "sigreg")),
    "--predictor directpred",
    "--predictor directcopy",
]


@pytest.fixture(scope="module")
def trace(once, few_files):
    """trace(flags): the losses of a training of a few steps, once for all of pytest-xdist's processes. Whole runs with
    these changes are cases of golden.py.
    """

    def losses(flags):
        def make(folder):
            common = f"--dataset folder --data-dir {few_files['data_dir']} --batch-size 40 --epochs 2 --threads 1"
            parts = emsiam.prepare(parse([*common.split(), *flags.split()])[0])
            (folder / "losses").write_text(json.dumps([step.loss.item() for step in parts.alternation()]))

        return json.loads((once(f"trace-{ONE_CHANGE.index(flags)}", make) / "losses").read_text())

    return losses


@pytest.mark.parametrize("flags", ONE_CHANGE)
def test_a_training_with_one_change_has_finite_losses(trace, flags):
    losses = trace(flags)
    assert len(losses) >= 8
    assert all(map(math.isfinite, losses))


def test_every_option_changes_the_trace(trace):
    """What is asked for reaches the training: no two of these runs have the same losses."""
    traces = {flags: trace(flags) for flags in ONE_CHANGE}
    for a, b in itertools.combinations(traces, 2):
        assert traces[a] != traces[b], (a, b)


def test_fit_is_a_plain_loop(tmp_path, digits):
    """Learning rate × batch/256, warm-up, cosine, momentum, weight decay: `fit` against PyTorch's own parts."""
    config = emsiam.Config(
        precision="fp64",
        epochs=2,
        batch_size=192,
        lr=0.3,
        wd=2e-3,
        momentum=0.7,
        warmup_epochs=1,
        fix_pred_lr=False,
        log_every=1,
        eval_every=9,
        out=str(tmp_path / "run"),
        quiet=True,
    )
    run = emsiam.fit(config)
    net, steps, warm = network(run.config, digits.shape), 2 * 7, 7
    sgd = torch.optim.SGD(net.parameters(), lr=0.3 * 192 / 256, momentum=0.7, weight_decay=2e-3)
    up = torch.optim.lr_scheduler.LinearLR(sgd, 1 / warm, 1.0, warm - 1)
    down = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps - warm)
    schedule = torch.optim.lr_scheduler.SequentialLR(sgd, [up, down], [warm])
    losses = []
    for batch in batches(digits, seed=0, batch_size=192, start=0, stop=steps, symmetry="sym", dtype=torch.float64):
        z1, z2 = (net.F(x) for x in batch.views)
        p1, p2 = net.h(z1), net.h(z2)
        similarity = torch.nn.functional.cosine_similarity
        loss = -(similarity(p1, z2.detach()).mean() + similarity(p2, z1.detach()).mean()) / 2
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        schedule.step()
        losses.append(loss.item())
    assert np.allclose(run.metrics.loss[1:], losses, rtol=0, atol=1e-9)
    assert run.metrics.loss[0] == pytest.approx(losses[0])


def test_the_readme_s_solver_trains(tmp_path):
    """The ten lines that a reader is shown, as they stand there."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (tmp_path / "mine.py").write_text(readme.split("```python\n# mine.py\n")[1].split("```")[0])
    done = command("--eta", f"{tmp_path}/mine.py:solve", "--n", 3, "--epochs", 1, "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    run = emsiam.load_run(tmp_path / "run")
    assert run.config.n == 3
    assert math.isfinite(run.summary["loss"])


def test_a_solver_s_state_is_saved(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def count(state, F_t, batch):\n"
        "    return F_t(batch.others), {'seen': state.get('seen', 0) + batch.ids.numel()}\n"
    )
    config = emsiam.Config(eta=f"{tmp_path}/mine.py:count", epochs=1, out=str(tmp_path / "run"), quiet=True)
    saved = torch.load(emsiam.fit(config).path / "checkpoints/last.pt", weights_only=True)
    assert saved["state"] == {"seen": 11 * 128}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return F_t(batch.others)", "must return a pair (eta, state), a tensor and a dict, but returned Tensor"),
        ("return F_t(batch.others), None", "must return a pair (eta, state)"),
        ("return F_t(batch.others)[0], state", "eta must have the shape [S, B, d] = [2, 128, 128], but has [128, 128]"),
        (
            "return F_t(batch.others), {'f': print}",
            "state must hold tensors and plain values under names, but f is a builtin",
        ),
        ("raise KeyError('oops')", "KeyError in mine.py:2: 'oops'"),
    ],
)
def test_a_wrong_solver_is_refused_before_anything_is_written(tmp_path, body, said):
    (tmp_path / "mine.py").write_text(f"def solve(state, F_t, batch):\n    {body}\n")
    config = emsiam.Config(eta=f"{tmp_path}/mine.py:solve", out=str(tmp_path / "run"), quiet=True)
    with pytest.raises(emsiam.ConfigError, match=re.escape(said)):
        emsiam.fit(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def solve(state, F_t, batch, *, alpha): pass", "its parameter alpha needs a default"),
        ("def solve(state, F_t, batch, *, k=3): pass", "k belongs to the loop"),
        ("def slove(state, F_t, batch): pass", "has no function solve (did you mean slove?)"),
        ("import sys; sys.exit(4)", "does not run (SystemExit in mine.py:1: 4)"),
        ("x = 1\ndef solve(:", "does not run (SyntaxError in mine.py:2: "),
        ("def solve(state, batch): pass", "mine.py:solve: TypeError: solve() takes 2 positional arguments but 3 were"),
        ("import torch\ndef solve(*_):\n    torch.ones(2).view(3)", "RuntimeError in mine.py:3: shape "),
        ("import torch\ndef solve(*_):\n    torch.nn.Linear(2, 2)(torch.ones(3))", "RuntimeError in mine.py:3: "),
        ("import json\ndef solve(*_):\n    json.loads('{')", "JSONDecodeError in mine.py:3: "),
        (
            "from emsiam.eta import solver\n@solver(only_others=True)\n"
            "def solve(state, F_t, batch):\n    return F_t(batch.draw(2)), state",
            "a solver that asks for more than F_t(batch.others) does not say only_others=True",
        ),
        ("solve = 3", "solve of "),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(emsiam.ConfigError, match=re.escape(said)) as error:
        emsiam.fit(emsiam.Config(eta=f"{tmp_path}/mine.py:solve", out=str(tmp_path / "run")))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_solver_s_file_is_a_module_that_runs_once(tmp_path, capsys):
    (tmp_path / "helper_of_mine.py").write_text("SCALE = 2.0\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from helper_of_mine import SCALE\n"
        "print('read')\n"
        "@dataclass\n"
        "class Scale:\n"
        "    by: float = SCALE\n"
        "def solve(state, F_t, batch):\n"
        "    return Scale().by * F_t(batch.others), state\n"
    )
    run = emsiam.fit(emsiam.Config(eta=f"{tmp_path}/mine.py:solve", epochs=1, out=str(tmp_path / "run"), quiet=True))
    assert capsys.readouterr().out == "read\n"
    assert "Scale().by" in json.loads((run.path / "env.json").read_text())["eta"]


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path):
    done = command("--arch", "vit_b_16", "--out", tmp_path / "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("emsiam.train: --arch vit_b_16: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", ["--k 0", "--mode nonsense", "--batch-size 5000", "--what", "stray"])
def test_and_so_is_other_wrong_input(tmp_path, flags):
    with pytest.raises(emsiam.ConfigError, match=rf"^{flags.split()[0]}\b.*$"):
        emsiam.fit(*parse([*flags.split(), "--out", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_by_accident(run, tmp_path):
    run, _ = run
    before = (run.path / "metrics.jsonl").read_bytes()
    done = command("--out", run.path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"emsiam.train: --out {run.path}: holds a run; choose another directory, or add --resume or --overwrite\n"
    )
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    emsiam.fit(emsiam.Config(epochs=1, out=str(tmp_path), quiet=True, seed=1))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints" / "thesis.pt").write_text("mine")
    first = emsiam.load_run(tmp_path).summary
    emsiam.fit(emsiam.Config(epochs=2, out=str(tmp_path), quiet=True, overwrite=True))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "checkpoints" / "thesis.pt").read_text() == "mine"
    assert emsiam.load_run(tmp_path).summary["steps"] == 2 * first["steps"]
    assert len(list(tmp_path.glob("events.*"))) == 1


@pytest.mark.parametrize("name", ["checkpoints/thesis.pt", "metrics.jsonl", "events.out.tfevents.1"])
def test_files_that_are_not_a_run_s_are_never_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(emsiam.ConfigError, match="holds files that a run would replace"):
        emsiam.fit(emsiam.Config(epochs=1, out=str(tmp_path)))
    assert (tmp_path / name).read_text() == "mine"


def test_another_program_s_config_is_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"learning_rate": 1}')
    with pytest.raises(emsiam.ConfigError, match="is not a run's"):
        emsiam.fit(emsiam.Config(epochs=1, out=str(tmp_path), overwrite=True))
    assert (tmp_path / "config.json").read_text() == '{"learning_rate": 1}'


def test_a_note_names_what_is_not_used(tmp_path):
    done = command("--mode", "onestep", "--k", 10, "--epochs", 1, "--quiet", "--out", tmp_path / "run")
    assert done.returncode == 0
    assert done.stderr == "note: --k 10 is not used by --mode onestep (--mode multistep holds θ for k steps)\n"
    assert "k" not in json.loads((tmp_path / "run" / "config.json").read_text())


def test_a_loss_that_is_not_finite_ends_with_3(tmp_path):
    flags = ("--similarity", "mse", "--bn", "none", "--lr", 1e6, "--schedule", "constant")
    done = command(*flags, "--epochs", 9, "--save-every", 1, "--quiet", "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "no checkpoint had been saved" in done.stdout
    assert done.stderr == ""
    summary = emsiam.load_run(tmp_path / "run").summary
    assert summary["verdict"] == "diverged"
    assert summary["steps"] < 99
    assert summary["loss"] is None  # JSON has no NaN


@pytest.mark.parametrize("every", [1, 1000])
def test_the_last_checkpoint_is_a_good_one(tmp_path, every):
    """A solver that goes wrong after 15 steps: weights are ruined by a step whose loss may be finite still."""
    (tmp_path / "mine.py").write_text(
        "def solve(state, F_t, batch):\n"
        "    wrong = 1e18 if batch.step >= 15 else 1.0\n"
        "    return wrong * F_t(batch.others), state\n"
    )
    run = emsiam.fit(
        emsiam.Config(
            eta=f"{tmp_path}/mine.py:solve",
            similarity="mse",
            epochs=9,
            save_every=1,
            log_every=every,
            out=str(tmp_path / "run"),
            quiet=True,
        )
    )
    assert run.summary["verdict"] == "diverged"
    saved = torch.load(run.path / "checkpoints/last.pt", weights_only=True)
    assert saved["step"] == 11
    assert all(x.isfinite().all() for x in run.model().state_dict().values())


def test_load_run_refuses_other_directories(tmp_path):
    with pytest.raises(emsiam.ConfigError, match="holds no run"):
        emsiam.load_run(tmp_path)
