"""Evaluation: foreign checkpoints as their projects write them, references for every classifier."""

import json
import math
import pickle
from types import SimpleNamespace

import _warm
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from torchvision.transforms import v2

import emsiam
from emsiam import data, evaluate, export
from emsiam.config import ConfigError
from emsiam.evaluation import classifiers, features, tasks
from emsiam.evaluation.backbones import WhichNetwork, at, load_backbone
from emsiam.objective import unit
from emsiam.optim import LARS

pytestmark = pytest.mark.usefixtures("plain_runs")
assert tasks  # loaded before a test replaces what it imports

RESNET18 = WhichNetwork("resnet18")
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
    heads = {"projector.0.weight": torch.zeros(3, 3), "classifier.weight": torch.zeros(10, 512)}
    return {"state_dict": state | heads, "epoch": 7}


def swav(resnet):
    """As facebookresearch/swav saves: the network itself under DistributedDataParallel, its heads beside."""
    state = {f"module.{n}": x for n, x in resnet.state_dict().items() if not n.startswith("fc.")}
    return state | {f"module.{n}": torch.zeros(2, 2) for n in ("projection_head.0.weight", "prototypes.weight")}


def lightly(resnet):
    """As its examples have a backbone: the children of a network, but for the last, in nn.Sequential."""
    state = torch.nn.Sequential(*list(resnet.children())[:-1]).state_dict()
    heads = {"projection_head.layers.0.weight": torch.zeros(3, 3)}
    return {"state_dict": {f"backbone.{n}": x for n, x in state.items()} | heads}


@pytest.mark.parametrize(
    ("make", "arch"),
    [
        (official, None),
        (solo_learn, "resnet18"),
        (lightly, "resnet18"),
        (lambda net: {"model": net.state_dict(), "epoch": 3}, "resnet18"),
        (lambda net: net.state_dict(), "resnet18"),
        (lambda net: {f"module.{n}": x for n, x in net.state_dict().items()}, "resnet18"),
        (swav, "resnet18"),
    ],
    ids=["official", "solo-learn", "lightly", "model", "torchvision", "parallel", "swav"],
)
def test_others_checkpoints_give_their_features(make, arch, resnet, tmp_path):
    torch.save(make(resnet), tmp_path / "net.pth.tar")
    encoder = load_backbone(str(tmp_path / "net.pth.tar"), WhichNetwork(arch), side=64)
    x = torch.randn(3, 3, 64, 64)
    body = torch.nn.Sequential(*list(resnet.children())[:-1]).eval()
    with torch.no_grad():
        assert torch.allclose(encoder.backbone(x), body(x).flatten(1), atol=1e-6)
    assert encoder.origin["arch"] == "resnet18"


def test_the_stem_is_read_off_the_weights(tmp_path, resnet):
    state = resnet.state_dict() | {"conv1.weight": torch.randn(64, 3, 3, 3)}
    torch.save(state, tmp_path / "cifar.pth")
    encoder = load_backbone(str(tmp_path / "cifar.pth"), RESNET18, side=32)
    assert encoder.origin["stem"] == "cifar"
    assert isinstance(encoder.backbone.trunk.maxpool, torch.nn.Identity)


def test_solo_learn_s_cifar_stem_has_its_padding(tmp_path):
    """solo-learn, methods/base.py: Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False), no max-pool."""
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 2, bias=False), torch.nn.Identity()
    torch.save(solo_learn(net), tmp_path / "cifar.ckpt")
    encoder = load_backbone(str(tmp_path / "cifar.ckpt"), RESNET18, side=32)
    x, net.fc = torch.randn(3, 3, 32, 32), torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(encoder.backbone(x), net.eval()(x), atol=1e-6)
    assert encoder.origin["kind"].endswith("stem 3×3 padded by 2")
    chosen = load_backbone(str(tmp_path / "cifar.ckpt"), WhichNetwork("resnet18", stem_padding=1))
    assert chosen.backbone.trunk.conv1.padding == (1, 1)


def test_other_projects_cifar_stems_have_a_padding_of_1(tmp_path, resnet):
    """lightly's, and most others': `backbone` alone does not make it solo-learn's."""
    stem = {"conv1.weight": torch.randn(64, 3, 3, 3)}
    state = {f"backbone.{n}": x for n, x in (resnet.state_dict() | stem).items() if not n.startswith("fc.")}
    torch.save({"state_dict": state | {"projection_head.0.weight": torch.zeros(2, 2)}}, tmp_path / "a.ckpt")
    for asked, padding in ((None, 1), (2, 2)):
        encoder = load_backbone(str(tmp_path / "a.ckpt"), WhichNetwork("resnet18", stem_padding=asked))
        assert encoder.backbone.trunk.conv1.padding == (padding, padding)
        assert encoder.origin["kind"].endswith(f"stem 3×3 padded by {padding}")
    torch.save(resnet.state_dict(), tmp_path / "b.pth")
    with pytest.raises(ConfigError, match=r"--stem-padding 2: \S+b\.pth is not of a ResNet with a CIFAR stem"):
        load_backbone(str(tmp_path / "b.pth"), WhichNetwork("resnet18", stem_padding=2))


def test_others_networks_see_images_as_they_are_used_to(tmp_path, resnet, monkeypatch):
    """torchvision's own transforms of ImageNet's validation, on images whose shorter side is 256 · 84/224 already; and
    all training images, where the monitor of training compares with a part.
    """
    monkeypatch.setattr(data.sets, "MONITORED", 5)
    rng, root = np.random.default_rng(0), tmp_path / "images"
    for i in range(20):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(96, 128, 3) if i % 3 else (128, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "ab"[i % 2] / f"{i:02}.png")
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    seen = []
    monkeypatch.setattr(features, "as_trained_on", lambda encoder, x: seen.append(x) or x)
    asked = {"arch": "resnet18", "eval_dataset": "folder", "data_dir": str(root), "image_size": 84}
    found = evaluate.evaluate("knn", str(tmp_path / "net.pth"), **asked, knn_k=3)
    assert "84×84, centre crop as of 224 pixels from 256, normalised as ImageNet" in found["features"]
    assert "16 training images" in found["settings"]
    transform = v2.Compose(
        [
            *(v2.Resize(96), v2.CenterCrop(84), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    paths = sorted(root.glob("*/*.png"))
    tested = torch.stack([transform(Image.open(path)) for path in paths[4::5]])
    assert torch.allclose(seen[1], tested, atol=1e-6)
    assert len(seen[0]) == 16
    areas = []
    monkeypatch.setattr(
        data.images.ImageSet, "sample", lambda self, *_: areas.append(self.recipe.scale) or data.views.Draw()
    )
    evaluate.evaluate("linear", str(tmp_path / "net.pth"), **asked, protocol="sgd", epochs=2)
    assert areas == [(0.08, 1.0)] * 2


def test_images_that_a_network_does_not_take_are_refused_and_can_be_resized(tmp_path):
    torch.save(torchvision.models.alexnet().state_dict(), tmp_path / "net.pth")
    asked = {"arch": "alexnet", "eval_dataset": "digits"}
    with pytest.raises(ConfigError, match=r"does not take images of 8×8 \(.*\); add --image-size"):
        evaluate.evaluate("episodes", str(tmp_path / "net.pth"), **asked)
    found = evaluate.evaluate("episodes", str(tmp_path / "net.pth"), **asked, image_size=64)
    assert "64×64, resized from 8×8, normalised as ImageNet" in found["features"]


def test_digits_are_normalised_as_the_network_has_learned(tmp_path, resnet, run, monkeypatch):
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    seen = []
    monkeypatch.setattr(features, "as_trained_on", lambda encoder, x: seen.append(x) or x)
    digits = emsiam.data.sets.digits()
    evaluate.evaluate("knn", str(tmp_path / "net.pth"), arch="resnet18", eval_dataset="digits")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.allclose(seen[-1], (digits.test_images / 255 - mean) / std, atol=1e-6)
    assert "normalised as in training" in evaluate.evaluate("knn", str(run.path))["features"]
    assert torch.equal(seen[-1], digits.normalise(digits.test_images))


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("knn", {"epochs": 5}, "--epochs 5: is not used by knn, only by linear"),
        ("linear", {"epochs": 5}, "--epochs 5: is not used by --protocol exact"),
        ("linear", {"epochs": 5, "protocol": "ridge"}, "--epochs 5: is not used by --protocol ridge"),
        ("linear", {"protocol": "lars", "epochs": 0}, "--epochs: 0 is not a whole number from 1"),
        ("linear", {"knn_k": 5}, "--knn-k 5: is not used by linear"),
        ("knn", {"knn_k": 1438}, "allowed is at most 1437"),
        ("knn", {"image_size": 16}, "--image-size 16: a run sees images at the size it was trained on"),
        ("knn", {"data_dir": "/tmp", "eval_dataset": "digits"}, "--data-dir /tmp is not used by --eval-dataset digits"),
        ("knn", {"json": "."}, "--json .: is a folder"),
        ("knn", {"arch": "resnet18"}, "says itself of which network it is"),
        ("episodes", {"shots": 0}, "--shots: 0 is not a whole number from 1"),
        ("episodes", {"ways": 1}, "--ways: 1 is not a whole number from 2"),
        ("knn", {"json": "nowhere/a.json"}, "--json nowhere/a.json: there is no folder nowhere"),
    ],
)
def test_options_that_would_do_nothing_are_refused(run, task, options, said, capsys):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert evaluate.main([task, str(run.path), *words]) == 2
    assert said in capsys.readouterr().err


def test_features_of_any_layer(run, digits, tmp_path):
    """Each is what `run.embed` or the network itself gives; those of z are what the monitor of training looks at."""
    made, net = run.embed(digits.images), run.model()
    encoder = load_backbone(str(run.path))
    x = digits.normalise(digits.images)
    with torch.no_grad():
        for name, expected in (("backbone", made.features), ("z", made.z), ("p", made.p)):
            assert np.allclose(at(name, encoder).backbone(x), expected, atol=1e-5)
        hidden = at("hidden", encoder).backbone(x)
        assert (hidden >= 0).all()  # after a ReLU
        assert torch.allclose(net.F.projector[-1](net.F.projector[-2](hidden)), net.F(x), atol=1e-5)
    found = evaluate.evaluate("knn", str(run.path), features="z")
    assert found["acc1"] == run.summary["knn_z_acc1"] == run.metrics.knn_z_acc1.iloc[-1]
    assert found["features"].startswith(f"{run.config.dim} channels of z, eval mode")
    assert export.main([str(run.path), "--out", str(tmp_path / "net.pth")]) == 0
    with pytest.raises(
        ConfigError, match=r"--features z: .* holds a backbone alone; runs and their checkpoints have F"
    ):
        evaluate.evaluate("knn", str(tmp_path / "net.pth"), eval_dataset="digits", features="z")
    with pytest.raises(ConfigError, match="--features: q is not backbone, hidden, z, p"):
        evaluate.evaluate("knn", str(run.path), features="q")


def test_layers_that_are_not_there_are_refused(tmp_path):
    small = {"epochs": 1, "dim": 8, "batch_size": 700, "out": str(tmp_path / "run"), "quiet": True}
    run = emsiam.fit(emsiam.Config(**small, proj_layers=1, predictor="none"))
    for layer, said in (("hidden", "has one layer"), ("p", "has no predictor, so p is z")):
        with pytest.raises(ConfigError, match=said):
            evaluate.evaluate("knn", str(run.path), features=layer)
    s = run.summary
    assert s["p_std_ratio"] == s["z_std_ratio"]
    assert s["p_participation_ratio"] == s["participation_ratio"]


def test_numbers_of_p_are_those_of_the_probe_set_with_batch_statistics(run):
    net, images = run.model().train(), emsiam.data.sets.digits()
    ids = torch.tensor(run.probe["ids"])
    views = emsiam.data.probe_set.probe(images, 8, torch.float32)
    assert views.shape[1] == len(ids)
    with torch.no_grad():
        p = unit(net.h(net.F(views[0])).double())
    assert run.summary["p_std_ratio"] == pytest.approx(
        (p.std(0, correction=0).mean() * p.shape[1] ** 0.5).item(), rel=1e-3
    )
    values = torch.linalg.eigvalsh(p.T.cov())
    expected = (values.sum().square() / values.square().sum()).item()
    assert run.summary["p_participation_ratio"] == pytest.approx(expected, rel=1e-3)
    first = run.metrics.iloc[0]
    assert first.p_std_ratio == run.summary["p_std_ratio_init"]
    assert first.knn_z_acc1 == run.summary["knn_z_acc1_init"]


def test_ridge_is_scikit_learn_s_in_closed_form():
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    x = x.float() + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    scores, penalty = classifiers.ridge(x[:1200], y[:1200], x[1200:])
    _, again = classifiers.ridge(x[:1200], y[:1200], torch.zeros_like(x[1200:]))
    assert penalty == again  # it never sees the test images
    z = ((x - x[:1200].mean(0)) / x[:1200].std(0)).double().numpy()
    reference = Ridge(alpha=penalty * 1200).fit(z[:1200], np.eye(10)[y[:1200]])
    assert np.allclose(scores, reference.predict(z[1200:]), atol=1e-6)
    assert (scores.argmax(1) == y[1200:]).double().mean() > 0.88
    constant = torch.ones(1200, 3)  # features that say nothing
    scores, _ = classifiers.ridge(constant, y[:1200], constant[:2])
    assert torch.allclose(scores, (y[:1200].bincount() / 1200).double().expand(2, 10))
    with pytest.raises(ValueError, match="aside, which chooses the penalty: 20 would do"):
        classifiers.ridge(x[:8], torch.arange(8) // 2, x[:8])


def test_what_is_not_safe_or_not_fitting_is_refused_with_the_reason(tmp_path, resnet):
    torch.save({"state_dict": {}, "hyper": SimpleNamespace(lr=1)}, tmp_path / "unsafe.ckpt")
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "lines.pth").write_text("epoch 1\n" * 50)
    (tmp_path / "empty.pth").touch()
    torch.save({"teacher": resnet.state_dict()}, tmp_path / "teacher.pth")
    torch.save(resnet.state_dict() | {"bn1.weight": torch.full((64,), torch.nan)}, tmp_path / "nan.pth")
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "more.pth")
    for name, arch, said in (
        ("unsafe.ckpt", "resnet18", "could run code, and is not loaded"),
        ("net.pth", None, "add --arch"),
        ("net.pth", "resnet50", "is not of --arch resnet50"),
        ("net.pth", "resnet81", "did you mean resnet"),
        ("list.pth", "resnet18", "holds a list"),
        ("other.pth", "resnet18", "holds no weights of resnet18"),
        *((f"{name}.pth", "resnet18", f"{name}.pth: cannot be read as") for name in ("text", "lines", "empty")),
        ("nan.pth", "resnet18", "holds weights that are not finite"),
        ("more.pth", "resnet18", "is not of --arch resnet18 .layer1.2"),
        ("net.pth", "tiny", "allowed is a torchvision classifier$"),
        ("nothing.pth", "resnet18", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_backbone(str(tmp_path / name), WhichNetwork(arch))


def test_a_run_and_its_checkpoint_are_one_and_knn_is_the_monitor_s(run):
    a = evaluate.evaluate("knn", str(run.path))
    b = evaluate.evaluate("knn", str(run.path / "checkpoints" / "last.pt"))
    assert a["acc1"] == b["acc1"] == run.summary["knn_acc1"]
    assert a["acc5"] >= a["acc1"]
    counts = np.bincount(emsiam.data.sets.digits().test_labels.numpy())
    assert np.average(a["per_class"], weights=counts) == pytest.approx(a["acc1"])


def test_the_command(run, tmp_path, few_files):
    other = ["--eval-dataset", "folder", "--data-dir", few_files["data_dir"]]
    done = _warm.run("emsiam.evaluate", "linear", run.path, *other, "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert f"top-1 {found['acc1']:.3f}" in done.stdout
    assert "kept aside" in done.stdout
    bad = _warm.run("emsiam.evaluate", "linear", "nowhere")
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
    scores, c = classifiers.logistic(x[:600], y[:600], x[600:])
    again, c_again = classifiers.logistic(x[:600], y[:600], torch.zeros_like(x[600:]))
    assert c == c_again
    assert not torch.equal(scores, again)
    z = (x - x[:600].mean(0)) / x[:600].std(0).clamp_min(1e-6)
    reference = LogisticRegression(C=c, max_iter=1000).fit(z[:600], y[:600])
    assert (scores.argmax(1).numpy() == reference.predict(z[600:])).all()


@pytest.mark.parametrize(("classes", "each", "enough"), [(3, 1, False), (3, 3, False), (3, 4, True)])
def test_few_images_a_class_are_a_sentence_about_the_data(classes, each, enough):
    x = torch.randn(classes * each, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(classes).repeat_interleave(each)
    if enough:
        classifiers.logistic(x, y, x)
        return
    said = rf"^{classes * each} training images of {classes} classes are too few to keep a fifth of them aside"
    with pytest.raises(ValueError, match=said + r", which chooses C: \d+ would do; or --protocol sgd"):
        classifiers.logistic(x, y, x)


def test_a_label_that_no_image_has_leaves_the_choice_stratified():
    y = np.repeat([0, 1, 3], 10)  # a gap
    fit, kept = classifiers._fifth_aside(y, 0, "C")
    assert [np.bincount(y[rows])[[0, 1, 3]].tolist() for rows in (fit, kept)] == [[8, 8, 8], [2, 2, 2]]
    with pytest.raises(ValueError, match=r"^all 50 training images are of one class"):
        classifiers._fifth_aside(np.zeros(50, int), 0, "C")


def test_a_linear_layer_is_trained_on_features_of_double_precision(tmp_path):
    small = {"epochs": 1, "batch_size": 400, "dim": 8, "hidden_dim": 8, "quiet": True, "precision": "fp64"}
    run = emsiam.fit(emsiam.Config(**small, out=str(tmp_path / "run")))
    assert evaluate.evaluate("linear", str(run.path), protocol="sgd", epochs=1)["acc1"] > 0.1


def test_too_few_steps_for_lars_are_said(run, few_files):
    asked = {"eval_dataset": "folder", "data_dir": few_files["data_dir"]}
    few = evaluate.evaluate("linear", str(run.path), **asked, protocol="lars", epochs=3)
    assert "; 3 steps are too few for LARS at this learning rate (ImageNet: 28,170), so the" in few["settings"]
    sgd = evaluate.evaluate("linear", str(run.path), **asked, protocol="sgd", epochs=3)
    assert "too few" not in sgd["settings"]


def test_score_counts_by_class():
    scores = torch.eye(7).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 1, 2, 3, 4, 5, 6])
    found = classifiers.score(scores, labels)
    assert found.acc1 == pytest.approx(13 / 14)
    assert found.per_class[1] == pytest.approx(2 / 3)
    assert math.isnan(classifiers.score(scores[:, :3], labels % 3).acc5)


def test_lars_by_the_definition():
    torch.manual_seed(0)
    w, b = torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.zeros(3))  # as a classifier begins
    optimizer = LARS([w, b], lr=0.5)
    velocity, values = [0.0, 0.0], [w.detach().clone(), b.detach().clone()]
    for step in range(4):
        loss = ((w.sum(1) + b - step) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        for i, p in enumerate((w, b)):
            g = p.grad.clone()
            size = values[i].norm()
            g = g * 0.001 * size / g.norm() if size > 0 else g
            velocity[i] = 0.9 * velocity[i] + g
            values[i] = values[i] - 0.5 * velocity[i]
        optimizer.step()
        assert torch.allclose(w, values[0], atol=1e-6)
        assert torch.allclose(b, values[1], atol=1e-6)


def test_train_linear_finds_what_is_separable():
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    x = (x / 16).float()
    protocol = classifiers.Protocol(2.0, 256, 15, False)
    *_, layer = classifiers.train_linear(lambda ids, rng: x[ids], y, 64, 10, protocol)
    assert classifiers.score(layer(x), y).acc1 > 0.93
    *_, again = classifiers.train_linear(lambda ids, rng: x[ids], y, 64, 10, protocol)
    assert torch.equal(layer.weight, again.weight)


def test_episodes_and_verification_in_the_limits():
    labels = torch.arange(5).repeat_interleave(20)
    perfect = torch.eye(5)[labels] + 0.01 * torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    assert classifiers.episodes(perfect, labels, ways=5, shots=1, number=20).mean() == 1
    assert classifiers.verification(perfect, labels) == 1
    noise = torch.randn(100, 50, generator=torch.Generator().manual_seed(0))
    assert classifiers.episodes(noise, labels, ways=5, shots=5, number=200).mean() == pytest.approx(0.2, abs=0.04)
    assert classifiers.verification(noise, labels) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="6 ways of 5 classes"):
        classifiers.episodes(noise, labels, ways=6, shots=1)


# Export


def test_an_exported_backbone_loads_into_plain_torchvision(tmp_path, few_files):
    config = emsiam.Config(
        **few_files | SMALL | {"batch_size": 80, "epochs": 1},
        arch="resnet18",
        stem="imagenet",
        precision="fp32",  # PyTorch's bf16 leaves gradients of a 3×3 on one pixel unwritten, which may be NaN
        lr=1e-3,
        out=str(tmp_path / "run"),
    )
    run = emsiam.fit(config)
    assert export.main([str(run.path), "--out", str(tmp_path / "backbone.pth")]) == 0
    net = torchvision.models.resnet18()
    exported = torch.load(tmp_path / "backbone.pth", weights_only=True)
    missing, unexpected = net.load_state_dict(exported, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"}
    assert not unexpected
    x = torch.randn(2, 3, 32, 32)
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        ours, theirs = net.eval()(x), run.model().F.backbone(x)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    said, images = exported._metadata[""]["emsiam"], emsiam.data.sets.folder(data_dir=few_files["data_dir"])
    assert (said["arch"], said["stem"], said["channels"], said["image_size"]) == ("resnet18", "imagenet", 3, 8)
    assert said["mean"] == images.mean.flatten().tolist()
    assert said["std"] == images.std.flatten().tolist()
    for what in (run.path, tmp_path / "backbone.pth"):
        place = {"eval_dataset": "folder", "data_dir": few_files["data_dir"]}
        found = evaluate.evaluate("knn", str(what), **place)
        assert "normalised as in training" in found["features"]
        assert found["acc1"] == run.summary["knn_acc1"]


def test_an_export_for_detectron2_has_its_names(tmp_path, capsys):
    """The names that its ResNet has (detectron2/modeling/backbone/resnet.py): stem, res2 to res5, shortcut, norm."""
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
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "mobile.pth")
    assert export.main([str(tmp_path / "mobile.pth"), *command[1:2], "mobilenet_v3_small", *command[3:]]) == 2
    assert "takes ResNets with the ImageNet stem, this is mobilenet_v3_small" in capsys.readouterr().err


def test_an_export_to_no_folder_is_refused(tmp_path, resnet, capsys):
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    for more in ([], ["--detectron2"]):
        out = str(tmp_path / "nowhere" / "a.pth")
        assert export.main([str(tmp_path / "net.pth"), "--arch", "resnet18", "--out", out, *more]) == 2
        assert "there is no folder" in capsys.readouterr().err
        assert export.main([str(tmp_path / "net.pth"), "--arch", "resnet18", "--out", str(tmp_path), *more]) == 2
        assert "is a folder; allowed is a file" in capsys.readouterr().err


def test_an_export_says_what_a_state_dict_cannot(tmp_path, resnet, few_files, capsys):
    """The stem's padding. What somebody's file does not say, the export does not say either."""
    cifar = torchvision.models.resnet18()
    cifar.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    for net, make, stem, padding in (
        (cifar, solo_learn, "cifar", 2),
        (resnet, lambda net: net.state_dict(), "", None),
    ):
        torch.save(make(net), tmp_path / "theirs.ckpt")
        assert export.main([str(tmp_path / "theirs.ckpt"), "--arch", "resnet18", "--out", str(tmp_path / "a.pth")]) == 0
        printed = capsys.readouterr().out
        assert ("padding 2" in printed) == (padding == 2)
        again = load_backbone(str(tmp_path / "a.pth"))
        assert again.origin["stem"] == stem
        assert again.origin["stem_padding"] == padding
        first = load_backbone(str(tmp_path / "theirs.ckpt"), RESNET18)
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(again.backbone(x), first.backbone(x))
        said = torch.load(tmp_path / "a.pth", weights_only=True)._metadata[""]["emsiam"]
        assert said["mean"] is said["std"] is said["image_size"] is None
        assert "of a size that its file does not say, normalised as its file does not say" in printed
        asked = {"eval_dataset": "folder", "data_dir": few_files["data_dir"], "image_size": 16}
        of_file = evaluate.evaluate("verify", str(tmp_path / "theirs.ckpt"), arch="resnet18", **asked)
        of_export = evaluate.evaluate("verify", str(tmp_path / "a.pth"), **asked)
        same = ("roc_auc", "features", "side")
        assert [of_file[name] for name in same] == [of_export[name] for name in same]
        assert "in training" not in of_file["features"]
        assert (first.origin["kind"] == "state dict") == (stem == "")


def test_tiny_is_exported_too(run, tmp_path, capsys):
    assert export.main([str(run.path), "--out", str(tmp_path / "x.pth")]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    scope = {"emsiam": emsiam, "torch": torch}
    exec(line.strip(), scope)  # as it says
    images = emsiam.data.sets.digits()
    x = images.normalise(images.test_images)
    with torch.no_grad():
        assert torch.allclose(scope["net"].eval()(x), run.model().F.backbone(x), atol=1e-6)
    found = evaluate.evaluate("knn", str(tmp_path / "x.pth"), eval_dataset="digits")
    assert found["acc1"] == run.summary["knn_acc1"]
    assert "normalised as in training" in found["features"]
    with pytest.raises(ConfigError, match="says itself of which network it is"):
        load_backbone(str(tmp_path / "x.pth"), WhichNetwork("resnet18"))


@pytest.mark.parametrize("name", evaluate.PARAMETERS)
def test_a_wrong_value_of_any_parameter_is_one_line(name, capsys):
    assert evaluate.main(["linear", "nowhere", f"--{name.replace('_', '-')}", "wrong"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"emsiam.evaluate: --{name.replace('_', '-')}")
    assert said.count("\n") == 1
