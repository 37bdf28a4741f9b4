"""The doctor on networks: runs, checkpoints, modules; BN in both modes; nothing of them moves."""

import copy
import json
import re

import pytest
import torch
from torch import nn

import emsiam
from emsiam import export
from emsiam.doctor.networks import networks
from emsiam.errors import ConfigError

pytestmark = pytest.mark.usefixtures("no_pictures")
SMALL = {"epochs": 2, "batch_size": 200, "dim": 32, "hidden_dim": 32, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory, no_pictures):
    return emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path_factory.mktemp("doctor") / "run")))


def test_a_run_is_looked_at_as_it_was_in_training(run):
    found = emsiam.examine(run)
    assert [o.name for o in found.outputs] == ["z", "p", "features"]
    for name in ("z_std_ratio", "participation_ratio", "effective_rank"):
        assert found.to_dict()[name] == pytest.approx(run.summary[name], rel=1e-5)
    assert found.verdict == "too early to say"  # 14 steps
    assert (found.verdict, found.reason) == (run.summary["verdict"], run.summary["reason"])
    assert found.to_dict()["verdict_rule"] == run.summary["verdict_rule"]
    assert f"{run.path}: onestep on digits, 14 steps" in found.said
    assert emsiam.examine(run.path).judgement == emsiam.examine(str(run.path)).judgement == found.judgement
    assert emsiam.examine(run.path / "checkpoints" / "last.pt").outputs == found.outputs


LONGER = [pytest.param(options, marks=pytest.mark.slow) for options in ({"predictor": "none"}, {"mode": "ema_eta"})]


@pytest.mark.parametrize("options", [{}, {"stop_grad": False, "lr": 0.5}, *LONGER])
def test_training_and_the_doctor_have_one_verdict(tmp_path, options):
    """To the word."""
    config = emsiam.Config(**SMALL | {"epochs": 2, "batch_size": 40}, **options, out=str(tmp_path / "run"))
    run = emsiam.fit(config)
    found = emsiam.examine(run)
    assert run.summary["steps"] == 70
    assert (found.verdict, found.reason) == (run.summary["verdict"], run.summary["reason"])
    assert found.verdict not in ("too early to say", "diverged")


def test_without_a_predictor_there_is_no_p(tmp_path):
    run = emsiam.fit(emsiam.Config(**SMALL | {"epochs": 1}, predictor="none", out=str(tmp_path / "run")))
    assert [o.name for o in emsiam.examine(run).outputs] == ["z", "features"]


def test_pixels_and_untrained_weights_of_a_run_are_known(run):
    seen = networks(run)
    untrained = emsiam.prepare(emsiam.Config(**SMALL)).network
    assert seen.pixels.shape == (2, 512, 64)
    assert seen.untrained["z"].shape == seen.batch["z"].shape
    z = untrained.F.train()(seen.pixels[0].unflatten(1, (1, 8, 8)))
    assert torch.allclose(seen.untrained["z"][0], z, atol=1e-5)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return self.layers(x)


VIEWS = torch.randn(1, 400, 3, 4, 4) + 0.3 * torch.randn(2, 400, 3, 4, 4)


def test_the_images_of_a_module_are_pictured_from_the_darkest_to_the_brightest():
    shown = networks(Net(), VIEWS[:, :40]).images
    assert (shown.dtype, shown.shape) == (torch.uint8, VIEWS[0, :40].shape)
    expected = (VIEWS[0, :40] - VIEWS[0, :40].min()) / (VIEWS[0, :40].max() - VIEWS[0, :40].min()) * 255
    assert (shown.float() - expected).abs().max() <= 0.501
    assert emsiam.examine(Net(), VIEWS[:, :40]).html().count("<img") == 8 * 7
    assert networks(lambda x: x.flatten(1), torch.randn(2, 40, 5, 4, 4)).images is None  # no picture has five channels


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_left_as_it_was(training):
    net = Net().train(training)
    before = copy.deepcopy(net.state_dict())
    found = emsiam.examine(net, VIEWS)
    assert found.said == ("Net, 256 of 400 images, drawn with a fixed seed",)
    assert net.training is training
    assert all(torch.equal(x, y) for x, y in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(x.grad is None for x in net.parameters())
    assert emsiam.examine(lambda x: net.train()(x), VIEWS).to_dict()["view_auc"] == found.to_dict()["view_auc"]


def test_running_statistics_that_are_not_of_these_weights_are_told_from_a_collapse():
    """An untrained network in eval mode: its statistics are 0 and 1, and a large mean makes z nearly constant."""
    net = Net()
    found = emsiam.examine(net, 0.01 * VIEWS + 10)
    assert found.verdict != "complete collapse"
    assert any(
        re.search(r"with running BN statistics std·√d of z is 0\.0\d+, with those of a batch 0\.", note)
        for note in found.said
    )
    assert not any("running" in note for note in emsiam.examine(net, VIEWS).said)


@pytest.mark.parametrize(
    ("model", "images", "said"),
    [
        (Net(), None, r"images: are a NoneType; pass a tensor \[N, C, H, W\]"),
        (Net(), torch.zeros(3, 48), r"images: are of \[3, 48\]; pass a tensor"),
        (Net(), torch.zeros(8, 3, 5, 5), "the model does not take images"),
        (
            nn.Conv2d(3, 4, 1),
            VIEWS,
            r"the model gives \[256, 4, 4, 4\] for 256 images; pass a function that gives \[N, d\]",
        ),
        (lambda x: x.nothing, VIEWS, "the model does not take images .*: AttributeError, 'Tensor' object has no"),
        (lambda x: (x, x), VIEWS, "the model gives a tuple for 256 images; pass a function"),
    ],
)
def test_a_module_that_does_not_fit_is_one_line(model, images, said):
    with pytest.raises(ConfigError, match=said) as error:
        emsiam.examine(model, images)
    assert "\n" not in str(error.value)


def test_somebody_s_checkpoint(tmp_path, few_files):
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), tmp_path / "net.pth")
    asked = {"arch": "resnet18", "dataset": "folder", "data_dir": few_files["data_dir"], "image_size": 32}
    found = emsiam.examine(tmp_path / "net.pth", **asked)
    assert [o.name for o in found.outputs] == ["features"]
    assert ": resnet18 (state dict), 160 of 160 images of folder" in found.said[0]
    assert "taken for features after a ReLU" in str(found)
    with pytest.raises(ConfigError, match="does not say of which network it is; add --arch"):
        emsiam.examine(tmp_path / "net.pth", dataset="digits")
    with pytest.raises(ConfigError, match="--dataset: which images"):
        emsiam.examine(tmp_path / "net.pth", arch="resnet18")


def test_a_run_without_a_checkpoint_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file or run"):
        emsiam.examine(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="holds no run"):
        emsiam.examine(tmp_path)


def test_what_would_not_be_used_is_refused(run):
    for given in ({"p": VIEWS}, {"labels": [1]}, {"steps": 3}):
        with pytest.raises(ConfigError, match=f"{next(iter(given))}: is not used beside a network"):
            emsiam.examine(run, **given)
    with pytest.raises(ConfigError, match="pixels: is not used beside a network"):
        emsiam.examine(Net(), VIEWS, pixels=VIEWS)


def test_a_module_that_gives_nan_is_diverged():
    assert emsiam.examine(lambda x: Net()(x) * torch.nan, VIEWS).verdict == "diverged"


def test_what_says_of_a_file_what_it_is_counts_beside_a_run_and_is_refused_beside_a_module(run):
    with pytest.raises(ConfigError, match="--dataset shapes: images are"):
        emsiam.examine(run, dataset="shapes")
    with pytest.raises(ConfigError, match="arch: is of a run or a file of weights, and here is a module"):
        emsiam.examine(Net(), VIEWS, arch="resnet18")


def test_a_run_that_diverged_is_its_last_checkpoint(tmp_path):
    options = SMALL | {"epochs": 4, "save_every": 1}
    run = emsiam.fit(emsiam.Config(**options, out=str(tmp_path / "run")))
    summary = json.loads((run.path / "summary.json").read_text())
    (run.path / "summary.json").write_text(json.dumps(summary | {"verdict": "diverged", "steps": 99}))
    (run.path / "SHA256SUMS").unlink()
    assert f"{run.path}: onestep on digits, 28 steps; it diverged later" in emsiam.examine(run.path).said


def test_an_export_of_grey_images_is_shown_colours_in_grey(run, tmp_path):
    assert export.main([str(run.path), "--out", str(tmp_path / "net.pth")]) == 0
    assert "made grey" in emsiam.examine(tmp_path / "net.pth", dataset="shapes").said[0]
