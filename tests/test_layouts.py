"""Any torchvision classifier under any names: each weight of the trunk comes from the file, or it is refused."""

import re
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn

from emsiam import networks
from emsiam.errors import ConfigError
from emsiam.evaluation import backbones
from emsiam.evaluation.backbones import WhichNetwork, load_backbone

# One small network of each family.
FAMILIES = ["alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"]
FAMILIES += ["mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "resnet18", "shufflenet_v2_x0_5"]
FAMILIES += ["squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"]
SIDES = {"inception_v3": 299, "maxvit_t": 224}  # else 224, or 64 where a network takes any
FIXED = ("vit", "maxvit", "swin", "inception")


@pytest.fixture
def unseeded(monkeypatch):
    """Networks whose first weights cost no time: what is not from the file is a weight that was never written to."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


def noise(net):
    """Weights that are no constants; the same size in each layer, so that features are neither 0 nor infinite."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in net.state_dict().items():
            if not x.is_floating_point():
                continue
            table = torch.rand(100_003, generator=rng)
            values = table.repeat(-(-x.numel() // 100_003))[: x.numel()].view(x.shape)
            fan_in = x[0].numel() if x.ndim > 1 else 1
            x.copy_(0.5 + values if "running_var" in name or x.ndim < 2 else (values - 0.5) * (12 / fan_in) ** 0.5)
    return net.eval()


def plain(arch, **options):
    aux = {"init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    return noise(torchvision.models.get_model(arch, weights=None, **aux, **options))


def without_last(net):
    """torchvision's own network, its last layer replaced: the reference."""
    last = [n for n, m in net.named_modules() if isinstance(m, nn.Linear) or getattr(m, "out_channels", 0) == 1000][-1]
    parent, _, leaf = last.rpartition(".")
    setattr(net.get_submodule(parent), leaf, nn.Identity())
    return net


def equal_features(arch, saved, net, monkeypatch):
    side = SIDES.get(arch, 224 if arch.startswith(FIXED) else 64)
    monkeypatch.setattr(backbones, "read", lambda _: saved)
    encoder = load_backbone("file.pth", WhichNetwork(arch), side)
    x = torch.rand(1, 3, side, side)
    with torch.no_grad():
        ours, theirs = encoder.backbone(x), without_last(net)(x).flatten(1)
    assert theirs.isfinite().all()
    assert theirs.std() > 0
    return torch.equal(ours, theirs)


@pytest.mark.parametrize("arch", FAMILIES)
def test_features_are_plain_torchvision_s(arch, monkeypatch, unseeded):
    net = plain(arch)
    assert equal_features(arch, net.state_dict(), net, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", networks.archs()[1:])
def test_every_classifier_s_features_are_plain_torchvision_s(arch, monkeypatch, unseeded):
    if arch.endswith(("h_14", "128gf")):
        pytest.skip("2.5 GB of weights, which are in memory more than once")
    net = plain(arch)
    assert equal_features(arch, net.state_dict(), net, monkeypatch)


def test_there_is_one_of_each_family():
    modules = {torchvision.models.get_model_builder(name).__module__ for name in networks.archs()[1:]}
    assert {torchvision.models.get_model_builder(name).__module__ for name in FAMILIES} == modules


@pytest.mark.parametrize(
    ("arch", "older"),
    [
        ("densenet121", lambda name: name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")),
        ("vit_b_32", lambda name: name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")),
    ],
)
def test_older_official_names_too(arch, older, monkeypatch, unseeded):
    """As torchvision renames them: DenseNet's norm.1 of before 0.2, the ViT's linear_1 of before 0.13."""
    net = plain(arch)
    state = {older(name): x for name, x in net.state_dict().items()}
    assert state.keys() != net.state_dict().keys()
    assert equal_features(arch, state, net, monkeypatch)


def test_versions_in_metadata_are_kept(monkeypatch, unseeded):
    """An MNASNet of version 1 has another stem than its file's shapes alone say; without metadata it is of today's."""
    net = plain("mnasnet0_5")
    assert equal_features("mnasnet0_5", dict(net.state_dict()), net, monkeypatch)
    old = torchvision.models.mnasnet0_5()
    state = OrderedDict(old.state_dict())
    state._metadata = old.state_dict()._metadata
    state._metadata[""] = {"version": 1}
    saved = OrderedDict((f"module.{name}", x) for name, x in state.items())
    saved._metadata = OrderedDict((f"module.{path}".rstrip("."), about) for path, about in state._metadata.items())
    monkeypatch.setattr(backbones, "read", lambda _: saved)
    with pytest.raises(ConfigError, match=r"is not of --arch mnasnet0_5 .*size mismatch"):  # as torchvision's own
        load_backbone("file.pth", WhichNetwork("mnasnet0_5"))


@pytest.fixture(scope="module")
def resnets():
    return [plain("resnet18"), noise(torchvision.models.resnet18()).requires_grad_(False)]


def under(prefix, net, number=0):
    return {f"{prefix}{n}": x + number if x.is_floating_point() else x for n, x in net.state_dict().items()}


WRAPPED = {
    "compiled": lambda net: under("_orig_mod.", net),
    "compiled inside": lambda net: under("module._orig_mod.backbone._orig_mod.", net),
    "compiled parts": lambda net: {n.replace("layer1.", "layer1._orig_mod."): x for n, x in net.state_dict().items()},
    "parallel twice": lambda net: under("module.module.", net),
    "model": lambda net: under("model.", net),
    "model.backbone": lambda net: {"state_dict": under("model.backbone.", net), "epoch": 3},
    "net": lambda net: {"net": net.state_dict(), "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}},
    "net below": lambda net: under("net.", net),
    "model_state_dict": lambda net: {"model_state_dict": net.state_dict(), "loss": 0.1},
    "three deep": lambda net: {"a": {"b": {"state_dict": under("online_network.", net)}}},
    "an average that is equal": lambda net: {"model": net.state_dict(), "model_ema": net.state_dict()},
    "MoCo": lambda net: under("module.encoder_q.", net) | under("module.encoder_k.", net, 1),
    "MoCo v3": lambda net: under("module.base_encoder.", net) | under("module.momentum_encoder.", net, 1),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_prefixes_and_wrappings_are_read_off_the_file(wrapped, resnets, monkeypatch):
    net = plain("resnet18")
    assert equal_features("resnet18", WRAPPED[wrapped](net), net, monkeypatch)


@pytest.mark.parametrize(
    ("saved", "labels", "choice"),
    [
        (lambda net: {"student": net.state_dict(), "teacher": under("", net, 1)}, "student, teacher", "teacher"),
        (lambda net: under("student.", net) | under("teacher.", net, 1), "student, teacher", "teacher"),
        (lambda net: {"model": net.state_dict(), "model_ema": under("", net, 1)}, "model, model_ema", "model_ema"),
        (
            lambda net: {"student": under("module.backbone.", net), "teacher": under("backbone.", net, 1)},
            "student.module.backbone, teacher.backbone",
            "teacher",
        ),
        (lambda net: under("online.net.", net) | under("target.net.", net, 1), "online.net, target.net", "target"),
    ],
)
def test_where_two_fit_the_message_names_them_and_the_option_that_chooses(saved, labels, choice, resnets, monkeypatch):
    saved = saved(resnets[0])
    monkeypatch.setattr(backbones, "read", lambda _: saved)
    with pytest.raises(
        ConfigError, match=rf"several networks of resnet18: {labels}; choose one, such as --weights \w+$"
    ):
        load_backbone("file.pth", WhichNetwork("resnet18"))
    chosen = load_backbone("file.pth", WhichNetwork("resnet18", choice)).backbone.trunk
    assert torch.equal(chosen.bn1.weight, resnets[0].bn1.weight + 1)
    for label in labels.split(", "):
        load_backbone("file.pth", WhichNetwork("resnet18", label.replace("\\", "")))  # as the message has it
    with pytest.raises(ConfigError, match="--weights nobody: fits 0 networks"):
        load_backbone("file.pth", WhichNetwork("resnet18", "nobody"))


@pytest.mark.parametrize("name", ["bn1.running_mean", "layer4.1.conv2.weight", "conv1.weight"])
def test_a_weight_that_is_missing_is_refused(name, resnets, monkeypatch):
    saved = {n: x for n, x in resnets[0].state_dict().items() if n != name}
    monkeypatch.setattr(backbones, "read", lambda _: saved)
    with pytest.raises(ConfigError, match=rf"\({re.escape(name)} and 0 other weights are missing\)"):
        load_backbone("file.pth", WhichNetwork("resnet18"))


def test_layers_before_the_last_are_no_heads(monkeypatch, unseeded):
    """A MobileNet's file without its first linear layer was once taken, and that layer stayed random."""
    net = plain("mobilenet_v3_small")
    saved = {n: x for n, x in net.state_dict().items() if not n.startswith("classifier.")}
    monkeypatch.setattr(backbones, "read", lambda _: saved)
    with pytest.raises(ConfigError, match=r"classifier\.0\.weight and 1 other weights are missing"):
        load_backbone("file.pth", WhichNetwork("mobilenet_v3_small"))


def test_a_larger_network_s_file_is_refused(resnets, monkeypatch, unseeded):
    monkeypatch.setattr(backbones, "read", lambda _: plain("resnet34").state_dict())
    with pytest.raises(ConfigError, match=r"is not of --arch resnet18 \(layer1\.2"):
        load_backbone("file.pth", WhichNetwork("resnet18"))


def test_our_own_export_keeps_the_versions_of_its_layers(tmp_path):
    """MNASNet refuses weights that do not say of which version they are."""
    about = {"arch": "mnasnet0_5", "stem": "", "stem_padding": None, "image_size": 32, "channels": 3}
    trunk = networks.build_backbone("mnasnet0_5", None, (3, 32, 32), try_it=False)[0].trunk
    torch.save(trunk.state_dict(), tmp_path / "net.pth")
    saved = backbones.read(tmp_path / "net.pth")
    loaded = backbones._exported("net.pth", saved, about | {"mean": None, "std": None}, WhichNetwork(), 32)
    assert loaded.origin["arch"] == "mnasnet0_5"
