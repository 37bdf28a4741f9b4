"""The doctor on arrays: what it says, and that it says it of the right numbers."""

import json
import math

import numpy as np
import pytest
import torch

import emsiam
from emsiam.diagnostics import collapse
from emsiam.doctor.healthy import healthy
from emsiam.errors import ConfigError


def gaussian(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


IMAGES = gaussian(300, 64)
VIEWS = IMAGES + gaussian(2, 300, 64, seed=1)
FLAT = IMAGES[:, :2] @ gaussian(2, 64, seed=2) + 0.01 * gaussian(2, 300, 64, seed=1)


def test_it_says_what_the_numbers_are():
    found = emsiam.examine(VIEWS)
    assert found.verdict == "healthy"
    content = found.to_dict()
    expected = collapse.measure(VIEWS)
    assert {name: content[name] for name in expected} == expected
    assert content["residual_norm"] == pytest.approx(1, abs=0.02)
    assert json.loads(json.dumps(content)) == content
    lines = str(found).splitlines()
    assert lines[0].startswith("healthy: ")
    for line in lines:
        assert len(line) <= 100
    assert f"found again     {expected['view_auc']:.2f} (" in str(found)
    assert "<b>healthy</b>" in found._repr_html_()


def test_what_is_usually_behind_a_collapse_is_said_with_its_source():
    found = emsiam.examine(FLAT)
    assert found.verdict == "dimensional collapse"
    assert found.reason.startswith("2.0 directions carry z; fewer than 3 is a collapse")
    assert "1. there is no predictor" in str(found)
    assert all(cause.to_try and cause.source for cause in found.causes)


def test_p_decides_where_z_looks_well():
    assert emsiam.examine(VIEWS, VIEWS[0]).verdict == "healthy"
    found = emsiam.examine(VIEWS, torch.ones(300, 64))
    assert found.verdict == "complete collapse"
    assert found.judgement.number == "p_residual_norm"
    assert [o.name for o in found.outputs] == ["z", "p"]


def test_pixels_and_untrained_weights_are_what_it_is_compared_with():
    noisy = IMAGES + 3 * gaussian(2, 300, 64, seed=3)
    assert emsiam.examine(noisy).verdict == "healthy"
    against = emsiam.examine(noisy, pixels=VIEWS)
    assert against.verdict == "not converging"
    assert "by the pixels of the views in" in against.reason
    assert emsiam.examine(noisy, untrained=VIEWS).judgement.source == "the network before training"


def test_features_after_a_relu_are_centred_first():
    """Their mean is not 0 in health: what is the same for all images is not looked at."""
    features = torch.relu(VIEWS @ gaussian(64, 128, seed=5) + 20)
    found = emsiam.examine(features)
    assert found.verdict == "healthy"
    assert any("taken for features after a ReLU, and centred first" in note for note in found.said)
    expected = collapse.measure(features - features.double().mean((0, 1)))
    assert found.to_dict()["participation_ratio"] == pytest.approx(expected["participation_ratio"])
    assert emsiam.examine(torch.ones(300, 64)).verdict == "complete collapse"


def test_a_value_that_is_not_finite_is_diverged():
    z = VIEWS.clone()
    z[0, 3, 4] = torch.nan
    found = emsiam.examine(z)
    assert found.verdict == "diverged"
    assert "z holds 1 values that are not finite" in str(found)
    assert found.to_dict()["outputs"] == {}


def test_numpy_and_pytorch_give_the_same():
    assert emsiam.examine(VIEWS.numpy()).to_dict() == emsiam.examine(VIEWS).to_dict()
    assert emsiam.examine([*VIEWS]).to_dict()["view_auc"] == emsiam.examine(np.asarray(VIEWS)).to_dict()["view_auc"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"z": "z.npy"}, r"z\.npy: there is no such file"),
        ({"z": b"z"}, "z: is a bytes"),
        ({"z": VIEWS, "arch": "resnet18"}, "arch: are of a file of weights"),
        ({"z": VIEWS, "label": [1]}, r"label: there is no such argument \(did you mean labels\?\)"),
        ({"z": VIEWS, "steps": "10"}, "steps: is '10'; allowed is a whole number, 0 or more"),
        ({"z": VIEWS, "steps": -1}, "steps: is -1; allowed"),
        ({"z": "z.csv"}, r"z\.csv: holds text; save the numbers by numpy.save, or pass them"),
        ({"z": ""}, "z: is an empty path"),
        ({"z": VIEWS, "labels": [1, 2]}, r"labels: are \[2\]; pass one for each of 300 images"),
        ({"z": VIEWS, "p": VIEWS[0, :7]}, "p: is of 7 images and z of 300; allowed is the same images"),
        ({"z": VIEWS, "pixels": VIEWS[0, 0]}, r"pixels: has one axis, \[64\]"),
    ],
)
def test_wrong_input_is_one_line(given, said):
    with pytest.raises(ConfigError, match=said):
        emsiam.examine(**given)


def test_labels_are_shown_and_change_nothing():
    labels = (IMAGES[:, 0] > 0).long()
    found = emsiam.examine(VIEWS, labels=labels)
    assert found.judgement == emsiam.examine(VIEWS).judgement
    assert "20 neighbours name" in str(found)
    assert emsiam.examine(VIEWS, labels=[str(x) for x in labels.tolist()]).said == found.said
    assert emsiam.examine(VIEWS, labels=np.array(labels.tolist(), dtype=object)).said == found.said


def test_features_are_shown_beside_and_examined_where_there_is_no_z():
    found = emsiam.examine(VIEWS, features=FLAT)
    assert [o.name for o in found.outputs] == ["z", "features"]
    assert found.verdict == "healthy"
    assert emsiam.examine(None, features=FLAT).verdict == "dimensional collapse"
    with pytest.raises(ConfigError, match="pass one of z, p, features"):
        emsiam.examine(None)


def test_a_file_is_what_is_in_it(tmp_path):
    labels = (IMAGES[:, 0] > 0).long().numpy()
    np.savez(tmp_path / "a.npz", z=VIEWS.numpy(), p=VIEWS[0].numpy(), labels=labels)
    found = emsiam.examine(tmp_path / "a.npz")
    direct = emsiam.examine(VIEWS, VIEWS[0], labels=labels)
    assert found.judgement == direct.judgement
    assert found.outputs == direct.outputs
    mine = emsiam.examine(tmp_path / "a.npz", torch.ones(300, 64), labels=labels[::-1].copy())
    assert mine.verdict == "complete collapse"  # p of the call, not the file's
    np.save(tmp_path / "z.npy", FLAT.numpy())
    assert emsiam.examine(str(tmp_path / "z.npy")).verdict == "dimensional collapse"


@pytest.mark.parametrize(("spread", "said"), [(0.0, "0% of the variance of tokens"), (5.0, "9")])
def test_tokens_of_an_image_that_are_one_are_seen(spread, said):
    tokens = IMAGES[:, None] + spread * gaussian(300, 20, 64, seed=1)
    found = emsiam.examine(tokens)
    assert found.verdict == "healthy"
    assert any(note.startswith(said) and "lies within images" in note for note in found.said)
    assert any("is read as [N, tokens, d]" in note for note in found.said)


@pytest.mark.parametrize("noise", [1e-8, 1e-6, 1e-3, 1e-2])
def test_a_positive_constant_is_no_feature_after_a_relu(noise):
    z = (gaussian(64, seed=4).abs() + 1) + noise * gaussian(2, 300, 64)
    assert emsiam.examine(z).verdict == "complete collapse"
    assert emsiam.examine(VIEWS, z[0]).verdict == "complete collapse"


def test_p_that_is_not_finite_is_diverged():
    assert emsiam.examine(VIEWS, VIEWS[0] * torch.nan).verdict == "diverged"


def test_no_more_directions_than_there_are_channels():
    assert emsiam.examine(torch.eye(64)).judgement.value <= 64
    assert emsiam.examine(gaussian(100, 300)).judgement.value <= 300


def test_channels_that_do_not_vary_are_told_of_and_are_no_collapse():
    """Their std·√d is 0.086: what differs between images is all of z."""
    found = emsiam.examine(torch.nn.functional.pad(VIEWS[..., :15], (0, 2033)))
    assert found.verdict == "healthy"
    assert "15 of 2,048 channels hold 99% of the variance of z; std·√d, which is a mean over channels, is 0.09" in str(
        found
    ).replace("\n  ", " ")
    assert not any("channels" in note for note in emsiam.examine(VIEWS).said)


def test_the_table_and_the_sentence_have_one_number():
    found = emsiam.examine(VIEWS[:, :100])
    directions = found.to_dict()["directions"]
    assert directions == found.judgement.value > found.to_dict()["participation_ratio"]
    assert f"{directions:.1f} directions carry z" in found.reason
    assert f"directions      {directions:.1f} (" in str(found)


def test_a_number_that_json_lacks_is_none():
    content = emsiam.examine(torch.ones(2, 50, 8)).to_dict()
    assert content["alpha_req"] is None
    json.loads(json.dumps(content, allow_nan=False))


def test_healthy_runs_stand_beside():
    """Ranges are those of the nearest width; an effective rank only where as many images were looked at."""
    z = gaussian(500, 100)
    like = healthy("z", 100)
    assert like == healthy("z", 128)
    low, high = like.numbers["directions"]
    assert 3 < low < high < 128
    lines = str(emsiam.examine(z)).splitlines()
    assert next(x for x in lines if x.startswith("  directions")).endswith(f" {low:.1f} to {high:.1f}")
    assert next(x for x in lines if x.startswith("  effective rank")).count(" to ") == 1
    few = str(emsiam.examine(z[:64])).splitlines()
    assert next(x for x in few if x.startswith("  effective rank")).count(" to ") == 0
    assert healthy("pixels", 100) is None


def test_what_is_beside_is_of_as_many_images_though_few_are_looked_at():
    z, labels = gaussian(5000, 16), np.arange(5000) % 2
    for given, said in (
        ({"p": gaussian(6000, 16)}, "p: is of 6,000 images and z of 5,000; allowed is the same images"),
        ({"labels": labels[:1024]}, r"labels: are \[1024\]; pass one for each of 5,000 images"),
        ({"labels": np.arange(9000) % 2}, r"labels: are \[9000\]; pass one for each of 5,000 images"),
    ):
        with pytest.raises(ConfigError, match=said):
            emsiam.examine(z, **given)
    assert any("labels, which the verdict" in note for note in emsiam.examine(z, labels=labels).said)


def test_untrained_features_are_centred_as_those_they_are_compared_with():
    features = (IMAGES + gaussian(2, 300, 64, seed=1)).relu()
    found = emsiam.examine(None, features=features, untrained=features)
    assert found.compared[0].seen == found.outputs[0].seen
    assert found.compared[0].spectrum == found.outputs[0].spectrum


def test_what_is_not_finite_has_a_picture_without_numbers():
    assert len(emsiam.examine(IMAGES * math.nan).plot().axes[0].lines) == 0
    assert emsiam.examine(IMAGES * math.nan).html()


def test_rows_of_zeros_lie_inside_their_interval():
    """E‖ẑ‖² is below 1 then."""
    z = IMAGES.clone()
    z[::2] = 0
    found = emsiam.examine(z).outputs[0].seen.spread
    assert found.low <= found.value <= found.high
