"""The examples run as they stand, and show what they say."""

import re
from pathlib import Path

import _warm
import pytest

import emsiam
from emsiam.training.trial import check_places

ROOT = Path(__file__).parents[1]


def example(name, *arguments, cwd):
    done = _warm.run(f"examples.{name}", *arguments, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def last(text):
    """loss, std·√d and participation ratio of the last line."""
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.splitlines()[-1])]


def test_simsiam_as_em(here):
    """SimSiam stays healthy."""
    _, std, rank = last(example("simsiam_as_em", cwd=here))
    assert std > 0.95
    assert rank > 5
    code = (ROOT / "examples/simsiam_as_em.py").read_text()
    assert len(code.splitlines()) <= 70
    assert "Config" not in code


@pytest.mark.slow
def test_without_predictor_the_moving_average_loses_its_rank(here):
    *_, rank = last(example("simsiam_as_em", "moving_average", cwd=here))
    assert rank < 4


def test_own_solver(here):
    assert "step  33 of 33" in example("own_solver", cwd=here)


def test_own_data(here):
    text = example("own_data", cwd=here)
    assert re.search(r"kNN \d\.\d{3} \(untrained \d\.\d{3}\)", text)
    assert len(list(here.glob("runs/folder-onestep-*/trajectory.png"))) == 1


@pytest.mark.parametrize("name", ["nnclr.py:nearest_neighbour", "dino.py:centred"])
def test_solvers_of_others_systems(here, name):
    """By the command in the file itself, shortened; and rows belong to images."""
    file = name.partition(":")[0]
    text = (ROOT / "examples/solvers" / file).read_text()
    line = re.search(r"python -m emsiam\.train (\\\n|[^\n\\])*", text)[0].replace("\\\n", " ")
    assert f"examples/solvers/{name}" in line
    arguments = [*line.split()[3:], "--epochs", "2", "--out", str(here / "run"), "--quiet", "--dim", "16"]
    done = _warm.run("emsiam.train", *arguments, cwd=here)
    assert done.returncode == 0, done.stderr
    assert f"--eta examples/solvers/{name}" in done.stdout
    run = emsiam.load_run(here / "run")
    assert run.finished
    parts = emsiam.prepare(emsiam.Config(eta=str(here / "examples/solvers" / name), epochs=1, dim=16))
    check_places(parts)


def test_the_page_on_a_solver_of_one_s_own(tmp_path):
    """Its code, and its commands, shortened: trained, gone on with, compared; tests/test_battery.py has the last."""
    text = (ROOT / "docs/your_own_solver.md").read_text()
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    commands = [line.split()[2:] for line in re.findall(r"^    (python -m .*)$", text, re.MULTILINE)]
    first, again, other, compared, _ = commands
    short = ["--epochs", "2", "--quiet", "--dim", "16", "--hidden-dim", "16"]
    for command in ([*first, *short], [*again, "--quiet"], [*other, *short]):
        done = _warm.run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run = emsiam.load_run(tmp_path / "runs/mine")
    assert run.config.eta_args == {"power": 2.0}
    assert run.config.m == 0.9
    done = _warm.run(*compared, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_kmeans_is_the_loop(here):
    values = [float(x) for x in re.findall(r"\d+\.\d+", example("kmeans", cwd=here))]
    assert len(values) == 20
    assert values == sorted(values, reverse=True)  # no half-step raises L


def test_the_doctor_in_a_plain_loop(here):
    text = example("doctor.plain_pytorch", cwd=here)
    assert text.startswith("complete collapse: z is the same for all images")
    code = (ROOT / "examples/doctor/plain_pytorch.py").read_text()
    assert len(re.findall(r"  # \d\n", code)) == 3  # lines of the doctor's


def test_the_doctor_in_lightning(tmp_path):
    """With the real library."""
    import pytorch_lightning as pl
    import torch

    from examples.doctor.lightning_callback import Doctor

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(16, 8)

        def training_step(self, batch, _):
            z = torch.stack([self.net(batch[0]), self.net(batch[0] + 0.1)])
            return {"loss": z.square().mean(), "z": z, "p": z[0]}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    images = torch.utils.data.TensorDataset(torch.randn(256, 16))
    doctor = Doctor(every=5)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[doctor], default_root_dir=tmp_path, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(images, 64))
    assert [look.update for look in doctor.monitor.looks] == [1, 5, 10, 15, 20]
    assert float(trainer.callback_metrics["z_std_ratio"]) == pytest.approx(doctor.monitor.looks[-1].z_std_ratio)
    assert [o.name for o in doctor.monitor.report().outputs] == ["z", "p"]


@pytest.mark.slow
def test_the_doctor_in_hugging_face_s_trainer(tmp_path):
    """With the real library: pip install 'emsiam[slow]', as make slow does."""
    import torch
    from transformers import Trainer, TrainingArguments

    from examples.doctor.huggingface_callback import Doctor

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.projector = torch.nn.Linear(16, 8)

        def forward(self, x, labels=None):
            z = self.projector(x)
            return {"loss": (z - z.roll(1, 0)).square().mean(), "z": z}

    rows = [{"x": x} for x in torch.randn(256, 16)]
    doctor = Doctor("projector", every=5)
    arguments = TrainingArguments(tmp_path, max_steps=20, per_device_train_batch_size=64, report_to=[], use_cpu=True)
    Trainer(Model(), arguments, train_dataset=rows, callbacks=[doctor]).train()
    assert [look.update for look in doctor.monitor.looks] == [1, 5, 10, 15, 20]
    assert doctor.monitor.report().outputs[0].width == 8
