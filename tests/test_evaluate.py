"""Evaluation: foreign checkpoints as their projects write them, references for every classifier."""

import json
import math
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import emsiam
from emsiam import evaluate, export, probes
from emsiam.checkpoints import load_encoder
from emsiam.config import ConfigError
from emsiam.optim import LARS

SMALL = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "threads": 1, "quiet": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path_factory.mktemp("runs") / "run")))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18()


def official(resnet):
    """As facebookresearch/simsiam saves: the projector in encoder.fc, under DistributedDataParallel."""
    state = {f"module.encoder.{n}": x for n, x in resnet.state_dict().items() if not n.startswith("fc.")}
    state |= {"module.encoder.fc.0.weight": torch.zeros(4, 512), "module.predictor.0.weight": torch.zeros(2, 4)}
    return {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": {}}


def solo_learn(resnet):
    state = {f"backbone.{n}": x for n, x in resnet.state_dict().items() if not n.startswith("fc.")}
    return {"state_dict": state | {"projector.0.weight": torch.zeros(3, 3)}, "epoch": 7}


@pytest.mark.parametrize(
    ("make", "arch"),
    [
        (official, None),
        (solo_learn, "resnet18"),
        (lambda net: net.state_dict(), "resnet18"),
        (lambda net: {f"module.{n}": x for n, x in net.state_dict().items()}, "resnet18"),
    ],
    ids=["official", "solo-learn", "torchvision", "parallel"],
)
def test_others_checkpoints_give_their_features(make, arch, resnet, tmp_path):
    torch.save(make(resnet), tmp_path / "net.pth.tar")
    encoder = load_encoder(str(tmp_path / "net.pth.tar"), arch, side=64)
    x = torch.randn(3, 3, 64, 64)
    body = torch.nn.Sequential(*list(resnet.children())[:-1]).eval()
    with torch.no_grad():
        assert torch.allclose(encoder.backbone(x), body(x).flatten(1), atol=1e-6)
    assert encoder.told["arch"] == "resnet18"


def test_the_stem_is_read_off_the_weights(tmp_path, resnet):
    state = resnet.state_dict() | {"conv1.weight": torch.randn(64, 3, 3, 3)}
    torch.save(state, tmp_path / "cifar.pth")
    encoder = load_encoder(str(tmp_path / "cifar.pth"), "resnet18", side=32)
    assert encoder.told["stem"] == "cifar"
    assert isinstance(encoder.backbone.trunk.maxpool, torch.nn.Identity)


def test_what_is_not_safe_or_not_fitting_is_refused_with_the_reason(tmp_path, resnet):
    torch.save({"state_dict": {}, "hyper": SimpleNamespace(lr=1)}, tmp_path / "unsafe.ckpt")
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for name, arch, said in (
        ("unsafe.ckpt", "resnet18", "could run code, and is not loaded"),
        ("net.pth", None, "add --arch"),
        ("net.pth", "resnet50", "is not of --arch resnet50"),
        ("net.pth", "resnet81", "did you mean resnet"),
        ("list.pth", "resnet18", "holds a list"),
        ("other.pth", "resnet18", "holds no weights of resnet18"),
        ("text.pth", "resnet18", "text.pth: "),
        ("nothing.pth", "resnet18", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_encoder(str(tmp_path / name), arch)


def test_a_run_and_its_checkpoint_are_one_and_knn_is_the_monitor_s(run):
    a = evaluate.evaluate("knn", str(run.path))
    b = evaluate.evaluate("knn", str(run.path / "checkpoints" / "last.pt"))
    assert a["acc1"] == b["acc1"] == run.summary["knn_acc1"]
    assert a["acc5"] >= a["acc1"]
    counts = np.bincount(emsiam.data.digits().test_labels.numpy())
    assert np.average(a["per_class"], weights=counts) == pytest.approx(a["acc1"])


def test_the_command(run, tmp_path):
    command = [sys.executable, "-m", "emsiam.evaluate", "linear", str(run.path), "--json", str(tmp_path / "a.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert f"top-1 {found['acc1']:.3f}" in done.stdout
    assert "kept aside" in done.stdout
    bad = subprocess.run([*command[:4], "nowhere"], capture_output=True, text=True, timeout=120)
    assert bad.returncode == 2
    assert bad.stderr == "emsiam.evaluate: nowhere: there is no such file or run\n"


def test_transfer_to_other_images(run):
    other = evaluate.evaluate("knn", str(run.path), eval_dataset="mnist5k")
    assert other["dataset"] == "mnist5k"
    assert "resized from 28" in other["features"]
    assert 0.3 < other["acc1"] < 1
    with pytest.raises(ConfigError, match="data-dir"):
        evaluate.evaluate("knn", str(run.path), eval_dataset="cifar10")


# Classifiers


def test_logistic_never_sees_the_test_images():
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    scores, c = probes.logistic(x[:600], y[:600], x[600:])
    again, c_again = probes.logistic(x[:600], y[:600], torch.zeros_like(x[600:]))
    assert c == c_again
    assert not torch.equal(scores, again)
    z = (x - x[:600].mean(0)) / x[:600].std(0).clamp_min(1e-6)
    reference = LogisticRegression(C=c, max_iter=1000).fit(z[:600], y[:600])
    assert (scores.argmax(1).numpy() == reference.predict(z[600:])).all()


def test_score_counts_by_class():
    scores = torch.eye(7).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 1, 2, 3, 4, 5, 6])
    found = probes.score(scores, labels)
    assert found.acc1 == pytest.approx(13 / 14)
    assert found.per_class[1] == pytest.approx(2 / 3)
    assert math.isnan(probes.score(scores[:, :3], labels % 3).acc5)


def test_lars_by_the_definition():
    torch.manual_seed(0)
    w, b = torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(3))
    optimizer = LARS([w, b], lr=0.5)
    velocity, values = [0.0, 0.0], [w.detach().clone(), b.detach().clone()]
    for step in range(4):
        loss = ((w.sum(1) + b - step) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        for i, p in enumerate((w, b)):
            g = p.grad.clone()
            g = g * 0.001 * values[0].norm() / g.norm() if i == 0 else g
            velocity[i] = 0.9 * velocity[i] + g
            values[i] = values[i] - 0.5 * velocity[i]
        optimizer.step()
        assert torch.allclose(w, values[0], atol=1e-6)
        assert torch.allclose(b, values[1], atol=1e-6)


def test_train_linear_finds_what_is_separable():
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    x = (x / 16).float()
    protocol = probes.Protocol(2.0, 256, 15, False)
    *_, layer = probes.train_linear(lambda ids, rng: x[ids], y, 64, 10, protocol)
    assert probes.score(layer(x), y).acc1 > 0.93
    *_, again = probes.train_linear(lambda ids, rng: x[ids], y, 64, 10, protocol)
    assert torch.equal(layer.weight, again.weight)


def test_episodes_and_verification_in_the_limits():
    labels = torch.arange(5).repeat_interleave(20)
    perfect = torch.eye(5)[labels] + 0.01 * torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    assert probes.episodes(perfect, labels, ways=5, shots=1, number=20).mean() == 1
    assert probes.verification(perfect, labels) == 1
    noise = torch.randn(100, 50, generator=torch.Generator().manual_seed(0))
    assert probes.episodes(noise, labels, ways=5, shots=5, number=200).mean() == pytest.approx(0.2, abs=0.04)
    assert probes.verification(noise, labels) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="6 ways of 5 classes"):
        probes.episodes(noise, labels, ways=6, shots=1)


# Export


def test_an_exported_backbone_loads_into_plain_torchvision(tmp_path, few_files):
    config = emsiam.Config(
        **few_files | SMALL | {"batch_size": 80, "epochs": 1},
        arch="resnet18",
        stem="imagenet",
        lr=1e-3,
        out=str(tmp_path / "run"),
    )
    run = emsiam.fit(config)
    assert export.main([str(run.path), "--out", str(tmp_path / "backbone.pth")]) == 0
    net = torchvision.models.resnet18()
    missing, unexpected = net.load_state_dict(torch.load(tmp_path / "backbone.pth", weights_only=True), strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"}
    assert not unexpected
    x = torch.randn(2, 3, 32, 32)
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        ours, theirs = net.eval()(x), run.model().F.backbone(x)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_an_export_for_detectron2_has_its_names(tmp_path, capsys):
    """Those that its ResNet has (detectron2/modeling/backbone/resnet.py): stem, res2 to res5, shortcut, norm."""
    resnet = torchvision.models.resnet50()
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    command = [str(tmp_path / "net.pth"), "--arch", "resnet50", "--detectron2", "--out", str(tmp_path / "net.pkl")]
    assert export.main(command) == 0
    saved = pickle.loads((tmp_path / "net.pkl").read_bytes())
    model = saved["model"]
    assert saved["matching_heuristics"] is True
    assert len(model) == 53 * 5  # convolutions, each with a norm of four tensors
    for theirs, ours in (
        ("stem.conv1.weight", resnet.conv1.weight),
        ("stem.conv1.norm.running_var", resnet.bn1.running_var),
        ("res2.0.shortcut.weight", resnet.layer1[0].downsample[0].weight),
        ("res2.0.shortcut.norm.bias", resnet.layer1[0].downsample[1].bias),
        ("res4.5.conv2.norm.weight", resnet.layer3[5].bn2.weight),
        ("res5.2.conv3.weight", resnet.layer4[2].conv3.weight),
    ):
        assert np.array_equal(model[theirs], ours.detach().numpy())
    assert {name.split(".")[0] for name in model} == {"stem", "res2", "res3", "res4", "res5"}
    torch.save(torchvision.models.vgg11().state_dict(), tmp_path / "vgg.pth")
    assert export.main([str(tmp_path / "vgg.pth"), *command[1:2], "vgg11", *command[3:]]) == 2
    assert "takes ResNets with the ImageNet stem, this is vgg11" in capsys.readouterr().err


def test_tiny_is_not_exported(run, tmp_path, capsys):
    assert export.main([str(run.path), "--out", str(tmp_path / "x.pth")]) == 2
    assert "torchvision does not have" in capsys.readouterr().err
