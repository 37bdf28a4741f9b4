"""F and h as the paper describes them."""

import pytest
import torch
from torch import nn

from emsiam import networks
from emsiam.build import network
from emsiam.config import Config, resolve

pytestmark = pytest.mark.mathematics


def layers(module):
    return [type(m).__name__ for m in module]


def test_the_paper_s_heads():
    """§4: a projector of 3 fc layers with BN on each and no ReLU at the end; h is fc, BN, ReLU, fc."""
    projector = networks.build_projector(512, hidden_dim=2048, dim=2048, layers=3, bn="default", output_affine=True)
    assert layers(projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    h = networks.build_predictor("mlp", dim=2048, pred_dim=512, bn="default")
    assert layers(h) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [(m.in_features, m.out_features, m.bias is not None) for m in h if isinstance(m, nn.Linear)] == [
        (2048, 512, False),
        (512, 2048, True),
    ]


@pytest.mark.parametrize(
    ("bn", "projector", "predictor"),
    [
        ("none", [False, False, False], [False, False]),
        ("hidden", [True, True, False], [True, False]),
        ("default", [True, True, True], [True, False]),
        ("all", [True, True, True], [True, True]),
    ],
)
def test_batch_normalisation_of_table_3(bn, projector, predictor):
    def placed(head):
        names = layers(head)
        return [names[i + 1 : i + 2] == ["BatchNorm1d"] for i, name in enumerate(names) if name == "Linear"]

    assert placed(networks.build_projector(9, hidden_dim=8, dim=7, layers=3, bn=bn, output_affine=True)) == projector
    assert placed(networks.build_predictor("mlp", dim=7, pred_dim=4, bn=bn)) == predictor


def test_only_the_output_bn_loses_its_affine_part():
    projector = networks.build_projector(9, hidden_dim=8, dim=7, layers=2, bn="default", output_affine=False)
    assert [m.affine for m in projector if isinstance(m, nn.BatchNorm1d)] == [True, False]


def test_predictors():
    z = torch.randn(5, 6)
    assert torch.equal(networks.build_predictor("none", dim=6, pred_dim=3, bn="default")(z), z)
    linear = networks.build_predictor("linear", dim=6, pred_dim=3, bn="default")
    torch.testing.assert_close(linear(2 * z), 2 * linear(z))
    fixed = networks.build_predictor("fixed", dim=6, pred_dim=3, bn="default")
    assert layers(fixed) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert not any(p.requires_grad for p in fixed.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32])
def test_tiny_takes_small_images(channels, size):
    backbone, width = networks.build_backbone("tiny", None, (channels, size, size))
    assert backbone(torch.randn(3, channels, size, size)).shape == (3, width)


@pytest.mark.parametrize(("arch", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_residual_blocks_start_as_the_identity(arch, last):
    backbone, width = networks.build_backbone(arch, "imagenet", (3, 64, 64))
    scales = [p for name, p in backbone.named_parameters() if name.endswith(f"{last}.weight")]
    assert len(scales) in (8, 16)
    assert all((s == 0).all() for s in scales)
    assert width == {"resnet18": 512, "resnet50": 2048}[arch]
    assert not any("fc" in name for name, _ in backbone.named_parameters())


def test_stems():
    cifar, _ = networks.build_backbone("resnet18", "cifar", (3, 32, 32))
    imagenet, _ = networks.build_backbone("resnet18", "imagenet", (3, 224, 224))
    assert (cifar.trunk.conv1.kernel_size, cifar.trunk.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(cifar.trunk.maxpool, nn.Identity)
    assert (imagenet.trunk.conv1.kernel_size, imagenet.trunk.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(imagenet.trunk.maxpool, nn.MaxPool2d)


def test_grey_images_enter_colour_networks():
    backbone, _ = networks.build_backbone("resnet18", "cifar", (1, 8, 8))
    x = torch.randn(4, 1, 8, 8)
    backbone.eval()
    assert torch.equal(backbone(x), backbone(x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "vgg11", "densenet121", "squeezenet1_0"])
def test_other_classifiers_lose_their_last_layer(arch):
    backbone, width = networks.build_backbone(arch, None, (3, 64, 64))
    assert backbone.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, width)
    assert width != 1000


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not take images of 32×32"):
        networks.build_backbone("vit_b_16", None, (3, 32, 32))


def test_parts_share_initial_weights_where_others_differ():
    def build(dim):
        from emsiam import Config
        from emsiam.build import network
        from emsiam.config import resolve

        config, _ = resolve(Config(dim=dim, device="cpu"), 1437, (1, 8, 8))
        return network(config, (1, 8, 8))

    a, b = build(64), build(128)
    assert all(torch.equal(p, q) for p, q in zip(a.F.backbone.parameters(), b.F.backbone.parameters(), strict=True))
    assert torch.equal(a.F.projector[0].weight, b.F.projector[0].weight)


def test_passes_of_batch_normalisation_are_counted():
    """As PyTorch counts them, layer by layer: F passes for each view, h for each that is trained on."""
    config, _ = resolve(Config(dim=8, hidden_dim=8, pred_dim=4), 200, (1, 8, 8))
    net, views = network(config, (1, 8, 8)), torch.randn(4, 6, 1, 8, 8)
    net.F.backbone.trunk[1].eval()
    net(views, (0, 2))
    counters = {name: int(x) for name, x in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert counters.pop("F.backbone.trunk.1.num_batches_tracked") == 0
    assert set(counters.values()) == {4, 2}
    assert {name for name, n in counters.items() if n == 2} == {"h.1.num_batches_tracked"}
    with pytest.raises(RuntimeError):
        net(views[:, :, :, :, :0], (0,))
    assert {int(x) for name, x in net.named_buffers() if name.endswith("num_batches_tracked")} == {0, 2, 4}


def test_autocast_gives_single_precision():
    net = networks.Siamese(
        networks.build_backbone("tiny", None, (1, 8, 8))[0],
        networks.build_projector(128, hidden_dim=8, dim=8, layers=2, bn="default", output_affine=True),
        networks.build_predictor("mlp", dim=8, pred_dim=4, bn="default"),
        autocast=True,
    )
    x = torch.randn(2, 16, 1, 8, 8)
    z, p = net(x, (0, 1))
    assert z.dtype == p.dtype == torch.float32
    net.autocast = net.F.autocast = False
    exact, _ = net(x, (0, 1))
    assert 0 < (z - exact).abs().max() < 0.2  # bf16 was used


@pytest.mark.parametrize(
    ("arch", "stem", "side", "meets"),
    [
        ("resnet18", "imagenet", 8, True),
        ("resnet18", "imagenet", 16, True),
        ("resnet18", "imagenet", 32, False),
        ("resnet18", "cifar", 8, False),
        ("resnet18", "cifar", 4, True),
        ("tiny", None, 8, False),
        ("alexnet", None, 8, False),  # which does not take them at all
    ],
)
def test_strided_convolutions_of_one_pixel_are_kept_from_bf16(arch, stem, side, meets, monkeypatch):
    from emsiam import Config, ConfigError
    from emsiam.config import resolution

    state = torch.random.get_rng_state()
    assert networks.strides_over_one_pixel(arch, stem, (3, side, side)) == meets
    assert torch.equal(torch.random.get_rng_state(), state)
    monkeypatch.setattr("emsiam.processor.gains_by_bf16", lambda _: True)
    options = {"arch": arch, "stem": stem, "device": "cpu", "dataset": "folder"}
    auto, _ = resolution.resolve(Config(**options), 1000, (3, side, side))
    assert auto.precision == ("fp32" if meets or arch == "tiny" else "bf16")
    if meets:
        with pytest.raises(ConfigError, match=rf"--precision bf16: --arch {arch} strides over maps of one pixel"):
            resolution.resolve(Config(**options, precision="bf16"), 1000, (3, side, side))


@pytest.mark.parametrize(
    ("amx", "avx512", "maker", "gains"),
    [
        (True, True, "Intel(R) Xeon(R)", True),
        (False, True, "Intel(R) Xeon(R)", False),
        (False, True, "AMD EPYC", True),
        (False, False, "AMD EPYC", False),
    ],
)
def test_bf16_is_for_processors_that_gain_by_it(amx, avx512, maker, gains, monkeypatch):
    from emsiam import processor

    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(processor, "name", lambda: f"{maker} Processor, AVX512")
    assert processor.gains_by_bf16("cpu") == gains


def test_nothing_but_T_is_random_in_a_view():
    """Dropout and stochastic depth are off: two passes in train mode agree, and k = 1 stays SimSiam to the bit."""
    for arch in ("mobilenet_v3_small", "efficientnet_b0"):
        backbone, _ = networks.build_backbone(arch, None, (3, 32, 32))
        x = torch.randn(4, 3, 32, 32)
        assert torch.equal(backbone.train()(x), backbone(x))


@pytest.mark.parametrize("kind", ["directpred", "directcopy"])
def test_a_predictor_that_follows_from_z_says_that_z_is_not_finite(kind):
    h = networks.build_predictor(kind, dim=4, pred_dim=1, bn="default")
    assert h(torch.full((8, 4), torch.nan)).isnan().all()


def test_the_correlation_of_z_is_of_full_precision():
    """In bf16 its smaller eigenvalues would be rounding errors."""
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    exact, rounded = (networks.build_predictor("directpred", dim=16, pred_dim=1, bn="default") for _ in range(2))
    exact(z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded(z)
    assert torch.equal(exact.correlation, rounded.correlation)
