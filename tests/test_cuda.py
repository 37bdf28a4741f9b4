"""On CUDA no step mixes devices or waits for it, and losses are the CPU's; where there is none, by cuda_dry_run.py."""

import json
import math

import cuda_dry_run
import numpy as np
import pytest
import torch
import torchvision
from golden import After

import emsiam
from emsiam import Config, embed, export, revisit
from emsiam.eta import SOLVERS
from emsiam.evaluate import evaluate
from emsiam.methods import METHODS
from emsiam.names import TASKS
from emsiam.traits import fit_together, of_solver

pytestmark = pytest.mark.usefixtures("plain_runs")
EIGH = "networks.py"  # of directpred and directcopy
ROOTS = "eta/linear.py"  # eigh of isoloss
FINITE = {"augment": "scale=1:1,ratio=1:1,degrees=0,brightness=0,contrast=0,noise=0,flip=0.5"}
CASES = {
    **{mode: {"mode": mode} for mode in METHODS},
    **{
        f"eta {name}": {"eta": name} | (FINITE if of_solver(f).needs_all_of_T else {})
        for name, f in SOLVERS.items()
        if fit_together(f, METHODS["onestep"].objective)
    },
    "k": {"mode": "multistep", "k": 2},
    "k, bank": {"mode": "ema_eta", "k": 2},
    "bank in host memory": {"mode": "ema_eta", "bank": "host"},
    "bank in bf16": {"mode": "ema_eta", "bank_dtype": "bf16"},
    **{f"predictor {kind}": {"predictor": kind} for kind in ("none", "fixed", "linear", "directpred", "directcopy")},
    "no stop-gradient": {"stop_grad": False},
    "asym": {"symmetry": "asym"},
    "asym2x": {"symmetry": "asym2x", "mode": "expectation"},
    **{f"similarity {name}": {"similarity": name} for name in ("cross_entropy", "mse")},
    "bf16": {"precision": "bf16"},
    "fp64": {"precision": "fp64"},
    "no bn": {"bn": "none"},
    "shuffle bn": {"mode": "moco", "shuffle_bn": 4},
    "shapes": {"dataset": "shapes", "num_images": 2000},
    "augment": {"augment": "noise=0.2,scale=0.5:0.9,blur=0.5"},
    "folder": {"dataset": "folder", "workers": 0},
    "folder, streamed": {"dataset": "folder", "workers": 2},
    "resnet18": {"dataset": "folder", "workers": 0, "arch": "resnet18", "batch_size": 16},
}


def options_of(case, few_files):
    options = CASES[case]
    return options | ({"data_dir": few_files["data_dir"], "epochs": 2} if options.get("dataset") == "folder" else {})


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_cpu_and_wait_for_nothing(case, few_files):
    options = options_of(case, few_files)
    losses, log = cuda_dry_run.steps(**options)
    assert losses == cuda_dry_run.steps(device="cpu", **options)[0]
    reads = [event for event in log.events if event.kind == "read" and event.step > 0]
    excused = ROOTS if case == "eta isoloss" else EIGH if "direct" in case else None
    assert [event for event in reads if excused is None or not any(excused in line for line in event.lines)] == []
    assert bool(reads) == bool(excused)
    assert [event for event in log.events if event.kind == "random"] == []  # draws are the CPU's, on any device
    assert [event for event in log.events if event.kind == "send" and event.step > 0] == []
    last = [event for event in log.events if event.kind == "copy" and event.step == 2]
    assert 1 <= len(last) <= (3 if "every_view" in case else 2)  # ids and draws in one; pixels, rows or more draws


def test_a_step_of_resnet18_sends_once_and_launches_at_most_850(few_files):
    """With CIFAR's T, each image with jitter in an order of its own. In November 2026: 795; 980 and 53 before."""
    options = {"dataset": "folder", "image_size": 32, "workers": 0, "arch": "resnet18", "precision": "bf16"}
    _, log = cuda_dry_run.steps(**options, data_dir=few_files["data_dir"], batch_size=8, epochs=2)
    assert [event.kind for event in log.events if event.step == 2] == ["copy"]
    assert 700 < sum(n for (step, *_), n in log.launches.items() if step == 2) <= 850


SMALL = {"epochs": 2, "batch_size": 479, "dim": 16, "hidden_dim": 16, "threads": 1, "quiet": True, "log_every": 2}
SMALL |= {"eval_every": 1, "diagnose_every": 1, "precision": "fp32"}
RUNS = {"ema_eta": {"mode": "ema_eta", "k": 3, "online_probe": True}}
MORE = {
    "onestep": {},
    "multistep": {"mode": "multistep", "k": 3},
    **{mode: {"mode": mode} for mode in ("swav", "moco", "byol", "sigreg")},
    "directpred": {"predictor": "directpred"},
}


@pytest.fixture(scope="module", params=[*RUNS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def runs(request, once):
    """A run on the CPU; the same on CUDA, whole, and stopped and resumed."""
    options = SMALL | (RUNS | MORE)[request.param]

    def make(folder):
        emsiam.fit(Config(**options, device="cpu", out=str(folder / "cpu")))
        with cuda_dry_run.pretended():
            emsiam.fit(Config(**options, device="cuda", out=str(folder / "cuda")))
            emsiam.fit(Config(**options, device="cuda", out=str(folder / "parts")), stop=After(4))
            emsiam.fit(Config(out=str(folder / "parts"), resume=True, quiet=True))

    folder = once(f"cuda-{request.param}", make)
    return {name: emsiam.load_run(folder / name) for name in ("cpu", "cuda", "parts")}


def numbers(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [{n: x for n, x in line.items() if n not in ("seconds", "images_per_second")} for line in lines]


@pytest.mark.parametrize("name", ["cuda", "parts"])
def test_a_whole_run_is_that_of_the_cpu(runs, name):
    assert runs[name].config.device == "cuda"
    for line, other in zip(numbers(runs["cpu"]), numbers(runs[name]), strict=True):
        assert line == pytest.approx(other, rel=1e-6, abs=1e-9, nan_ok=True)
    saved, other = (torch.load(runs[n].path / "checkpoints/last.pt", weights_only=True) for n in ("cpu", name))
    assert all(torch.equal(saved["net"][n].cpu(), x.cpu()) for n, x in other["net"].items())


def test_a_run_of_a_gpu_is_read_where_there_is_none(runs):
    run, other = runs["cuda"], runs["cpu"]
    assert all(torch.equal(x, y) for x, y in zip(run.model().parameters(), other.model().parameters(), strict=True))
    assert torch.equal(revisit.update(run), revisit.update(other))
    if run.config.mode != "swav":
        assert revisit.gap(run) == pytest.approx(revisit.gap(other), rel=1e-6)
    with cuda_dry_run.pretended():
        there = revisit.update(run)
    assert torch.equal(there.inner, revisit.update(other))


@pytest.mark.parametrize("what", ["run", "torchvision"])
def test_images_are_embedded_on_it(once, tmp_path, what):
    out = once("cuda-evaluated", evaluated) / "run"
    command = [str(out), "--quiet"]
    if what == "torchvision":
        net = torchvision.models.squeezenet1_1()
        torch.save(net.state_dict(), tmp_path / "net.pth")
        command = [str(tmp_path / "net.pth"), "--quiet", "--arch", "squeezenet1_1", "--dataset", "digits"]
        command += ["--image-size", "32"]
    assert embed.main([*command, "--out", str(tmp_path / "here.npz")]) == 0
    with cuda_dry_run.pretended():
        assert embed.main([*command, "--out", str(tmp_path / "there.npz")]) == 0
    with np.load(tmp_path / "here.npz") as here, np.load(tmp_path / "there.npz") as there:
        assert set(here) == set(there)
        assert all(np.allclose(here[name], there[name], atol=1e-5) for name in here)


def evaluated(folder):
    emsiam.fit(Config(**SMALL, device="cpu", out=str(folder / "run")))


TASKED = [*((task, {}) for task in TASKS), *(("linear", {"protocol": p, "epochs": 1}) for p in ("lars", "sgd"))]


@pytest.mark.parametrize(("task", "parameters"), TASKED)
def test_tasks_are_evaluated_on_it(once, task, parameters):
    out = once("cuda-evaluated", evaluated) / "run"
    here = evaluate(task, str(out), **parameters)
    with cuda_dry_run.pretended():
        there = evaluate(task, str(out), **parameters)
    here, there = ({n: x for n, x in found.items() if isinstance(x, float)} for found in (here, there))
    assert here == pytest.approx(there, rel=1e-6)


@pytest.mark.parametrize("what", ["run", "checkpoint", "export", "torchvision"])
def test_networks_are_examined_on_it(once, tmp_path, what):
    run = once("cuda-evaluated", evaluated) / "run"
    given = {"run": (run, {}), "checkpoint": (run / "checkpoints/last.pt", {"dataset": "digits"})}
    if what == "export":
        assert export.main([str(run), "--out", str(tmp_path / "net.pth")]) == 0
        given[what] = tmp_path / "net.pth", {"dataset": "digits"}
    elif what == "torchvision":
        torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "net.pth")
        given[what] = tmp_path / "net.pth", {"arch": "squeezenet1_1", "dataset": "digits", "image_size": 32}
    path, options = given[what]
    here = emsiam.examine(path, **options)
    with cuda_dry_run.pretended():
        there = emsiam.examine(path, **options)
    for ours, theirs in zip(here.outputs, there.outputs, strict=True):
        assert ours.numbers == pytest.approx(theirs.numbers, rel=1e-4, nan_ok=True)
    assert there.html()


def test_what_waits_or_mixes_devices_is_seen():
    """The device is pretended well enough that a fault in a step is one here."""
    with cuda_dry_run.pretended() as log:
        x = torch.ones(3).to("cuda")
        assert x.device.type == "cuda"
        assert math.isclose(x.sum().item(), 3)
        assert x[x > 0].sum() > 0
        with pytest.raises(RuntimeError, match="tensors on cuda:0 and cpu"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="convert cuda:0"):
            x.numpy()
        torch.randn_like(x)
    kinds = [event.kind for event in log.events]
    assert kinds.count("read") >= 3
    assert "send" in kinds
    assert "random" in kinds
