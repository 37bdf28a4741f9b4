"""The doctor among strangers: heads in their checkpoints, arrays that mislead, files that are not what they say."""

import itertools
import os
import pickle
import threading

import numpy as np
import pytest
import torch
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from torch import nn
from torchvision import models

import emsiam
from emsiam import diagnose
from emsiam.doctor.networks import networks
from emsiam.errors import ConfigError
from emsiam.files import replacing

RNG = torch.Generator().manual_seed(0)
WIDTH = 512


def normal(*shape):
    return torch.randn(*shape, generator=RNG)


def mlp(*widths, affine):
    """As the official SimSiam and solo-learn build their projectors; without BN at the end the predictor."""
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        layers += [nn.Linear(a, b, bias=last), nn.BatchNorm1d(b, affine=affine or not last)]
        layers += [] if last else [nn.ReLU(inplace=True)]
    return nn.Sequential(*(layers if affine is not None else layers[:-1]))


def official(trunk):
    """facebookresearch/simsiam: the projector stands in fc's place."""
    projector, predictor = mlp(WIDTH, WIDTH, WIDTH, 64, affine=False), mlp(64, 16, 64, affine=None)
    trunk.fc = projector
    names = {f"module.encoder.{n}": x for n, x in trunk.state_dict().items()}
    names |= {f"module.predictor.{n}": x for n, x in predictor.state_dict().items()}
    trunk.fc = nn.Identity()
    return {"arch": "resnet18", "state_dict": names}, projector, predictor


def solo_learn(trunk):
    projector, predictor = mlp(WIDTH, 32, 64, affine=False), mlp(64, 16, 64, affine=None)
    parts = {"backbone": trunk, "projector": projector, "predictor": predictor, "momentum_projector": projector}
    return {f"{part}.{n}": x for part, m in parts.items() for n, x in m.state_dict().items()}, projector, predictor


def lightly(trunk):
    projector, predictor = SimSiamProjectionHead(WIDTH, 32, 64), SimSiamPredictionHead(64, 16, 64)
    parts = {"backbone": trunk, "projection_head": projector, "prediction_head": predictor}
    return {f"{part}.{n}": x for part, m in parts.items() for n, x in m.state_dict().items()}, projector, predictor


@pytest.mark.parametrize("project", [official, solo_learn, lightly])
def test_projector_and_predictor_of_a_checkpoint_are_looked_at(tmp_path, few_files, project):
    torch.manual_seed(0)
    trunk = models.resnet18()
    trunk.fc = nn.Identity()
    saved, projector, predictor = project(trunk)
    torch.save(saved, tmp_path / "net.pth")
    asked = {"dataset": "folder", "data_dir": few_files["data_dir"], "image_size": 32, "arch": "resnet18"}
    seen = networks(tmp_path / "net.pth", **asked)
    assert list(seen.batch) == list(seen.untrained) == ["z", "p", "features"]
    with torch.no_grad():
        z = [projector.train()(x) for x in seen.batch["features"]]
        p = [predictor.train()(x) for x in z]
    assert torch.allclose(seen.batch["z"], torch.stack(z), atol=1e-5)
    assert torch.allclose(seen.batch["p"], torch.stack(p), atol=1e-5)
    found = emsiam.examine(tmp_path / "net.pth", **asked)
    assert [o.name for o in found.outputs] == ["z", "p", "features"]
    assert "160 of 160 images of folder" in found.said[0]


def test_heads_that_are_not_understood_are_left_out(tmp_path, few_files):
    trunk = models.resnet18()
    names = {f"backbone.{n}": x for n, x in trunk.state_dict().items()}
    asked = {"dataset": "folder", "data_dir": few_files["data_dir"], "image_size": 32, "arch": "resnet18"}
    odd = (
        {"projector.0.weight": torch.zeros(8, 99)},  # not of the backbone's width
        {"projector.0.kernel": torch.zeros(8, WIDTH)},
        {"projector.0.weight": torch.zeros(8, WIDTH), "projector.2.weight": torch.zeros(4, 9)},
    )
    for heads in odd:
        torch.save(names | heads, tmp_path / "net.pth")
        assert list(networks(tmp_path / "net.pth", **asked).batch) == ["features"]
    classifier = {"projector.0.weight": torch.randn(8, WIDTH), "predictor.0.weight": torch.randn(3, 8)}
    torch.save(names | classifier, tmp_path / "net.pth")  # a predictor of something else
    assert list(networks(tmp_path / "net.pth", **asked).batch) == ["z", "features"]


def test_a_constant_without_negative_values_is_no_relu():
    nearly = (normal(1, 64).abs() + 1 + 0.05 * normal(500, 64)).abs()
    found = emsiam.examine(nearly)
    assert found.verdict == "complete collapse"
    assert emsiam.examine(normal(500, 64), p=nearly).verdict == "complete collapse"
    features = emsiam.examine(None, features=nearly)
    assert "centred first; as it is its spread is 0.0" in " ".join(features.said)
    relu = normal(500, 64).relu()
    assert emsiam.examine(relu).verdict == "healthy"


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn, self.drop = nn.BatchNorm1d(48), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.bn(x.flatten(1)))


def test_layers_that_are_frozen_stay_so_and_nothing_random_moves():
    net = Frozen().train()
    net.bn.eval()
    state = torch.get_rng_state()
    emsiam.examine(net, normal(2, 100, 3, 4, 4))
    assert (net.training, net.bn.training, net.drop.training) == (True, False, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_does_not_spread_a_constant():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(torch.linspace(1, 2, 64).expand(len(x), 64))

    for mode in (True, False):
        found = emsiam.examine(Constant().train(mode), normal(100, 3, 4, 4))
        assert found.verdict == "complete collapse"


def test_what_may_be_transposed_is_said_and_wide_features_are_taken():
    found = emsiam.examine(normal(64, 500))
    assert "z has 64 rows, which are read as images, of 500 channels; else pass z.T" in found.said
    assert found.to_dict()["directions"] <= 64  # of 64 rows no more can be said
    assert emsiam.examine(normal(100, 20_000)).verdict == "healthy"
    with pytest.raises(ConfigError, match="it looks transposed"):
        emsiam.examine(normal(64, 20_000))
    emsiam.examine(normal(2, 64, 16), pixels=normal(2, 64, 20_000))


def test_rows_that_are_one_are_counted():
    assert "only 5 of 500 rows of z differ from one another" in emsiam.examine(normal(5, 16).repeat(100, 1)).said
    assert not any("only" in note for note in emsiam.examine(normal(500, 16)).said)


def test_the_number_that_decided_stands_with_its_bound_and_where_that_is_from():
    found = emsiam.examine(normal(500, 64))
    assert "Decided by directions: " in str(found)
    assert "Decided by directions: " in found.html()
    assert "the bound is 3.0 (trials on digits and shapes, LOG.md)." in " ".join(str(found).split())
    assert "Decided by the spread of z: 0.00, the bound is 0.10 (a definition)." in str(
        emsiam.examine(torch.ones(50, 4))
    )
    assert "Decided" not in str(emsiam.examine(torch.full((50, 4), torch.nan)))


def test_a_list_of_many_views_is_one_of_views():
    views = list(normal(20, 100, 16))
    assert emsiam.examine(views).outputs[0].views == 20


def test_p_is_as_wide_as_z():
    with pytest.raises(ConfigError, match="p: has 32 channels and z 64; allowed is the same number"):
        emsiam.examine(normal(100, 64), p=normal(100, 32))
    with pytest.raises(ConfigError, match="p: has 32 channels and z 64"):
        emsiam.Monitor().update(normal(100, 64), normal(100, 32))


def test_tensors_without_plain_numbers_are_one_line():
    for x in (torch.zeros(9, 4, device="meta"), torch.quantize_per_tensor(torch.ones(9, 4), 1.0, 0, torch.quint8)):
        with pytest.raises(ConfigError, match=r"z: is a (meta|quantised) tensor; pass one of plain numbers"):
            emsiam.examine(x)
    x = normal(100, 16)
    assert emsiam.examine(x.to(torch.float8_e5m2)).outputs[0].width == 16
    with pytest.raises(ConfigError, match="images: hold values that are not finite"):
        emsiam.examine(Frozen(), torch.full((9, 3, 4, 4), torch.nan))
    with pytest.raises(ConfigError, match=r"images: are of \[0, 3, 4, 4\]"):
        emsiam.examine(Frozen(), torch.zeros(0, 3, 4, 4))


def test_a_monitor_counts_all_updates_and_says_what_it_warned_of():
    monitor = emsiam.Monitor()
    z = normal(100, 16)
    with pytest.warns(RuntimeWarning, match="nearly a constant"):
        monitor.update(torch.ones(2, 100, 16))
    for _ in range(98):
        monitor.update(z)
    found = monitor.report()
    assert found.verdict == "complete collapse"  # of the last look, the first update
    monitor.update(z)
    found = monitor.report()
    assert found.verdict == "healthy"
    assert "it warned at update 1: z or p was nearly a constant" in found.said
    assert len(monitor.looks) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every": 1.5}, "every: is 1.5; allowed is a whole number, 1 or more"),
        ({"every": float("nan")}, "every: is nan; allowed is a whole number, 1 or more"),
        ({"every": "5"}, "every: is '5'; allowed is a whole number, 1 or more"),
        ({"every": True}, "every: is True; allowed is a whole number, 1 or more"),
        ({"images": 1}, "images: is 1; allowed is a whole number, 2 or more"),
    ],
)
def test_a_monitor_that_cannot_be_is_one_line(given, said):
    with pytest.raises(ConfigError, match=said):
        emsiam.Monitor(**given)


def test_a_monitor_s_views_come_first_and_numpy_of_any_order_is_taken():
    with pytest.raises(
        ConfigError, match=r"z: is \[200, 2, 16\]; views come first, \[views, B, d\]: z.swapaxes\(0, 1\)"
    ):
        emsiam.Monitor().update(normal(200, 2, 16))
    with pytest.raises(ConfigError, match="z: is a NoneType"):
        emsiam.Monitor().update(None)
    x = normal(100, 16).numpy()
    for same in (x[::-1], x.astype(">f4"), x.astype(np.longdouble)):
        monitor = emsiam.Monitor()
        monitor.update(same)
        assert len(monitor.looks) == 1


def test_tensors_of_torch_save_are_embeddings_and_weights_are_not(tmp_path):
    z = normal(2, 100, 16)
    torch.save({"z": z, "p": z[0], "epoch": 3}, tmp_path / "z.pt")
    torch.save(z, tmp_path / "alone.pth")
    np.save(tmp_path / "z.npy", z.numpy())
    os.rename(tmp_path / "z.npy", tmp_path / "Z.NPY")
    for name in ("z.pt", "alone.pth", "Z.NPY"):
        assert emsiam.examine(tmp_path / name).outputs[0].images == 100
    torch.save({"fc.weight": z[0]}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="add --arch"):
        emsiam.examine(tmp_path / "weights.pt")
    from safetensors.torch import save_file

    save_file({"fc.weight": z[0].contiguous()}, tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError):
        emsiam.examine(tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match=r"--dataset: is of weights, and .*z\.pt holds embeddings; leave it out"):
        emsiam.examine(tmp_path / "z.pt", dataset="digits")


def test_a_pickle_is_refused_as_one(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    for content in ({"z": [1.0, 2.0]}, Evil()):
        for name in ("z.pkl", "z.pt"):
            (tmp_path / name).write_bytes(pickle.dumps(content))
            with pytest.raises(ConfigError, match="a pickle, which could run code"):
                emsiam.examine(tmp_path / name)
    assert not (tmp_path / "was here").exists()


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "link.new").write_text("somebody's")
    with replacing(tmp_path / "link") as new:
        new.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "link.new").read_text() == "somebody's"
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    np.save(tmp_path / "z.npy", normal(100, 16).numpy())
    assert diagnose.main([str(tmp_path / "z.npy"), "--json", str(tmp_path / "pipe")]) == 0
    reader.join(10)
    assert '"verdict": "healthy"' in read[0]
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "link.new", "pipe", "target", "z.npy"]
