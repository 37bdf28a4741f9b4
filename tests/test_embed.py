"""A run put to use: images of one's own are embedded, or trained on, as arrays, tensors, Datasets."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torchvision
from golden import After
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import emsiam
from emsiam import ConfigError, embed, evaluate, export, train
from emsiam.data.given import handed_over, pixels
from emsiam.data.sets import digits, mnist5k
from emsiam.evaluation.backbones import load_backbone
from emsiam.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("plain_runs")
SMALL = {"epochs": 2, "batch_size": 200, "dim": 16, "hidden_dim": 16, "threads": 1, "quiet": True}
RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(50, 8, 8), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(50, 8, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(once):
    return emsiam.load_run(
        once("embedded", lambda path: emsiam.fit(emsiam.Config(**SMALL, out=str(path / "run")))) / "run"
    )


@pytest.fixture(scope="module")
def digit_images():
    x, y = load_digits(return_X_y=True)
    return np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), y


# Embedding


def test_embed_is_the_network_on_normalised_images(run):
    data, net = digits(), run.model()
    made = run.embed(data.images)
    with torch.no_grad():
        z = net.F(data.normalise(data.images))
        expected = net.F.backbone(data.normalise(data.images)), z, net.h(z)
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.dtype == np.float32
        assert np.allclose(ours, theirs, atol=1e-5)
    again = run.embed(data.images, batch_size=100)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(made, again, strict=True))


def test_a_checkpoint_holds_what_feeds_the_network(run):
    data, feeding = digits(), run.feeding()
    assert feeding.shape == (1, 8, 8)
    assert torch.equal(feeding.mean, data.mean)
    assert torch.equal(feeding.std, data.std)
    file = run.path / "checkpoints" / "last.pt"
    whole = file.read_bytes()
    saved = torch.load(file, weights_only=True)
    torch.save({name: x for name, x in saved.items() if name not in ("mean", "std")}, file)  # as of before
    try:
        assert torch.equal(run.feeding().mean, data.mean)
    finally:
        file.write_bytes(whole)


def test_other_sizes_and_colours_are_brought_to_the_run_s(run):
    grey = run.embed(GREY).z
    assert np.allclose(run.embed(np.repeat(GREY[..., None], 3, axis=3)).z, grey, atol=1e-4)
    plain = np.arange(0, 250, 10, dtype=np.uint8)[:, None, None] + np.zeros((1, 24, 16), np.uint8)
    assert np.allclose(run.embed(plain).z, run.embed(plain[:, :8, :8]).z, atol=1e-4)
    assert np.allclose(run.embed(GREY / 255).z, grey, atol=1e-5)


def test_the_command_writes_what_run_embed_gives(run, tmp_path, capsys):
    assert embed.main([str(run.path), "--out", str(tmp_path / "z.npz"), "--quiet"]) == 0
    assert "features [1797, 128], z [1797, 16], p [1797, 16], labels [1797]" in capsys.readouterr().out
    data = digits()
    with np.load(tmp_path / "z.npz") as file:
        both = run.embed(torch.cat([data.images, data.test_images]))
        for name, x in both._asdict().items():
            assert np.allclose(file[name], x, atol=1e-5)
        assert np.array_equal(file["labels"], torch.cat([data.labels, data.test_labels]))
        assert np.array_equal(file["ids"], [*range(1437), *range(360)])
        assert np.array_equal(file["test"], np.arange(1797) >= 1437)
    assert [file.name for file in tmp_path.iterdir()] == ["z.npz"]


def test_a_run_and_its_export_see_other_images_alike(run, tmp_path):
    """As in training: `run.embed` knows no others to normalise by."""
    assert export.main([str(run.path), "--out", str(tmp_path / "net.pth")]) == 0
    made = {}
    for what in (run.path, tmp_path / "net.pth"):
        assert embed.main([str(what), "--dataset", "mnist5k", "--out", str(tmp_path / "z.npz"), "--quiet"]) == 0
        with np.load(tmp_path / "z.npz") as file:
            made[what] = file["features"]
    data = mnist5k()
    for features in made.values():
        assert np.allclose(features, run.embed(torch.cat([data.images, data.test_images])).features, atol=1e-5)


def test_images_that_are_not_square_are_fed_as_they_are(tmp_path):
    run = emsiam.fit(emsiam.Config(**SMALL | {"batch_size": 20, "knn_k": 5}, out=str(tmp_path / "run")), images=COLOUR)
    assert export.main([str(run.path), "--out", str(tmp_path / "net.pth")]) == 0
    assert torch.load(tmp_path / "net.pth", weights_only=True)._metadata[""]["emsiam"]["image_size"] == [8, 6]
    exported = load_backbone(str(tmp_path / "net.pth"))
    assert exported.shape == run.feeding().shape == (3, 8, 6)
    with torch.no_grad():
        x = (torch.from_numpy(COLOUR).permute(0, 3, 1, 2) / 255 - exported.mean) / exported.std
        assert np.allclose(exported.backbone(x), run.embed(COLOUR).features, atol=1e-5)


def test_a_folder_without_labels_is_embedded_with_its_paths(run, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(GREY):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
    command = [str(run.path), "--out", str(tmp_path / "z.npz"), "--data-dir", str(tmp_path / "images"), "--quiet"]
    assert embed.main(command) == 0
    assert "there are no labels" in capsys.readouterr().err
    with np.load(tmp_path / "z.npz") as file:
        assert (file["labels"] == -1).all()
        assert [path.rpartition("/")[2] for path in file["files"]] == [f"{i:02}.png" for i in range(50)]
        assert file["z"].shape == (50, 16)


SQUEEZENET = ["--arch", "squeezenet1_1"]


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    file = tmp_path_factory.mktemp("theirs") / "net.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), file)
    return file


def test_others_networks_have_features_alone(squeezenet, tmp_path):
    command = [str(squeezenet), *SQUEEZENET, "--dataset", "digits", "--image-size", "32"]
    assert embed.main([*command, "--out", str(tmp_path / "z.npz"), "--quiet"]) == 0
    with np.load(tmp_path / "z.npz") as file:
        assert set(file) == {"features", "labels", "ids", "test"}
        assert file["features"].shape == (1797, 512)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--out", "{tmp}/no/z.npz"], "--out {tmp}/no/z.npz: there is no folder {tmp}/no"),
        (["{run}", "--out", "{tmp}/z.npz", "--dataset", "cifar10"], "--dataset cifar10: lies in a directory of yours"),
        (["{run}", "--out", "{tmp}/z.npz", "--image-size", "9"], "--image-size 9: a run sees images at the size"),
        (["{tmp}", "--out", "{tmp}/z.npz"], "{tmp}: holds no run"),
        (["{run}", "--out", "{tmp}/z.npz", "--arch", "resnet18"], "--arch resnet18: {run} says itself"),
        (["{net}", *SQUEEZENET, "--out", "{tmp}/z.npz"], "--dataset: which images? the file does not say"),
        (
            ["{net}", *SQUEEZENET, "--out", "{tmp}/z.npz", "--dataset", "digits", "--image-size", "8"],
            "{net}: does not take images of 8×8 (",
        ),
        (["{run}", "--out", "/proc/z.npz"], "--out /proc/z.npz: cannot be written there"),
    ],
)
def test_wrong_input_is_one_line(run, squeezenet, tmp_path, capsys, arguments, said):
    fill = {"run": run.path, "tmp": tmp_path, "net": squeezenet}
    assert embed.main([argument.format(**fill) for argument in arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"emsiam.embed: {said.format(**fill)}")
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Images that are handed over

FORMS = {  # of one set of colour images, [50, 8, 6, 3] uint8
    "channels last": lambda x: x,
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "a tensor": lambda x: torch.from_numpy(x).permute(0, 3, 1, 2),
    "floats": lambda x: x / 255,
    "floats in single precision": lambda x: torch.from_numpy(x).float() / 255,
    "a tensor in double precision": lambda x: (torch.from_numpy(x) / 255).to(torch.float64),
    "a list of arrays": list,
    "a list of PIL's": lambda x: [Image.fromarray(image) for image in x],
    "a Dataset": lambda x: TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2)),
    "a Dataset with labels": lambda x: TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2), torch.arange(50) % 3),
    "not contiguous": lambda x: np.asfortranarray(x),
    "the other way round": lambda x: x[::-1].copy()[::-1],
    "an array of objects": lambda x: np.array([*x, None], dtype=object)[:-1],
    "numbers of another machine's order": lambda x: (x / 255).astype(">f4"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_images(form):
    x, labels = pixels(FORMS[form](COLOUR))
    assert x.dtype == torch.uint8
    assert np.array_equal(x, COLOUR.transpose(0, 3, 1, 2))
    assert (labels is not None) == (form == "a Dataset with labels")


def test_grey_images_have_one_channel():
    for form in (GREY, GREY[..., None], GREY[:, None], torch.from_numpy(GREY), [Image.fromarray(x) for x in GREY]):
        assert np.array_equal(pixels(form)[0], GREY[:, None])
    assert np.array_equal(pixels(list(GREY[:3]))[0], GREY[:3, None])  # three images, not one in colour


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((9, 3, 8, 3), np.uint8), None, r"the shape \[9, 3, 8, 3\] could be read in two ways"),
        (np.zeros((9, 1, 8, 1), np.uint8), None, "could be read in two ways"),
        (np.zeros((9, 8, 8, 4), np.uint8), None, r"the shape \[9, 8, 8, 4\] is not of \[N, H, W\]"),
        (np.zeros((9, 64), np.uint8), None, r"the shape \[9, 64\] is not of"),
        (np.zeros((0, 8, 8), np.uint8), None, "images: there are none"),
        (np.zeros((), np.uint8), None, r"the shape \[1\] is not of"),
        (np.zeros((8, 8, 3), np.uint8), None, r"\[8, 8, 3\] could be one image in colour; .* image\[None\] for one"),
        (torch.zeros(3, 8, 8), None, r"\[3, 8, 8\] could be one image in colour"),
        (np.zeros((8, 8, 1)), None, "could be one image"),
        (np.zeros((8, 8), np.uint8), None, r"the shape \[8, 8\] is not of"),
        (GREY[..., None].astype(object), None, "are object; allowed is uint8, or floats from 0 to 1"),
        (GREY.astype(np.longdouble) / 255, None, "are float128; allowed is uint8"),
        (GREY.astype(float), None, "floats from 0 to 255; allowed is 0 to 1, or uint8"),
        (np.full((9, 8, 8), np.nan), None, "floats from nan to nan"),
        (GREY / 255 - 0.1, None, r"floats from -0\.1 to "),
        (GREY.astype(np.int64), None, "are int64; allowed is uint8, or floats"),
        (iter(GREY), None, "is a \\w*iterator; allowed is an array, a tensor, or a Dataset with a length"),
        ("photos/", None, "is a str; allowed"),
        ([], None, "there are none"),
        (["a.png"], None, "number 0 is a str"),
        (
            [GREY[0], GREY[0, :4]],
            None,
            r"number 0 is uint8 \[8, 8\], but number 1 is uint8 \[4, 8\]; allowed is one size",
        ),
        (GREY, [1, 2], r"labels: have the shape \[2\]; allowed is one for each of the 50 images"),
        (GREY, [0.5] * 50, r"labels: are float64, the first 0\.5; allowed are whole numbers, or names"),
        (GREY, set(range(50)), "labels: is a set; allowed is a list or an array, one for each image"),
        (None, [1] * 50, "labels: are given, but no images"),
        (GREY[:4], [0, 1, 0, 1], "images: what is handed over has 4 images; allowed is 5 or more"),
    ],
)
def test_what_could_be_read_in_two_ways_or_in_none_is_refused(images, labels, said):
    with pytest.raises(ConfigError, match=said):
        handed_over(images, labels)


def test_classes_are_the_distinct_values_of_labels():
    for labels in ([5, 10**12, -1] * 16 + [5, 5], ["b", "c", "a"] * 16 + ["b", "b"], np.array([1, 2, 0] * 16 + [1, 1])):
        data = handed_over(GREY, labels)
        assert data.num_classes == 3
        assert data.labels[:4].tolist() == [1, 2, 0, 1]
    one = handed_over(GREY, [7] * 50)  # every image would be right
    assert one.num_classes == 0
    assert len(one.images) == 50


def test_arrays_train_as_the_same_images_in_a_folder(tmp_path):
    """The same T, the same split, the same losses to the bit."""
    y = np.arange(50) % 2
    for i, image in enumerate(COLOUR):
        (tmp_path / "images" / "ab"[y[i]]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(np.pad(image, ((0, 0), (0, 2), (0, 0))))).save(
            tmp_path / "images" / "ab"[y[i]] / f"{i:02}.png"
        )
    paths = sorted((tmp_path / "images").glob("*/*.png"))
    images = np.stack([np.array(Image.open(path)) for path in paths])
    labels = [path.parent.name == "b" for path in paths]
    small = SMALL | {"batch_size": 20, "knn_k": 5}
    ours = emsiam.fit(emsiam.Config(**small, out=str(tmp_path / "a")), images=images, labels=np.array(labels) * 1)
    theirs = emsiam.fit(
        emsiam.Config(**small, dataset="folder", data_dir=str(tmp_path / "images"), out=str(tmp_path / "b"))
    )
    assert ours.metrics.loss.tolist() == theirs.metrics.loss.tolist()
    assert ours.summary["knn_acc1"] == theirs.summary["knn_acc1"]
    assert ours.config.augment == theirs.config.augment
    assert ours.config.dataset == "given"


def test_without_labels_all_are_trained_on_and_a_dataset_s_own_are_taken(tmp_path, digit_images, capsys):
    x, y = digit_images
    plain = emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path / "a")), images=x)
    assert "accuracies are left out" in capsys.readouterr().err
    assert plain.summary["steps"] == 2 * (1797 // 200)
    assert "knn_acc1" not in plain.summary
    pairs = TensorDataset(torch.from_numpy(x)[:, None], torch.from_numpy(y))
    labelled = emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path / "b")), images=pairs)
    assert "every fifth of 1,797 images is not trained on" in capsys.readouterr().err
    assert labelled.summary["knn_acc1"] > 0.9
    assert labelled.probe["labels"] is not None
    without = emsiam.fit(emsiam.Config(**SMALL, labels=False, out=str(tmp_path / "c")), images=pairs)
    assert "accuracies are left out" not in capsys.readouterr().err  # which was asked for
    assert without.metrics.loss.tolist() == plain.metrics.loss.tolist()
    with pytest.raises(ConfigError, match="--labels: what is handed over has no labels of two classes or more"):
        emsiam.fit(emsiam.Config(**SMALL, labels=True, out=str(tmp_path / "d")), images=x)


def test_a_run_goes_on_with_the_same_images_only(tmp_path, digit_images, capsys):
    x, y = digit_images
    whole = emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path / "whole")), images=x, labels=y)
    stopped = emsiam.fit(emsiam.Config(**SMALL, out=str(tmp_path / "run")), stop=After(5), images=x, labels=y)
    said = json.loads((stopped.path / "config.json").read_text())
    assert said["dataset"] == "given"
    assert len(said["digest"]) == 64
    again = emsiam.Config(out=str(stopped.path), resume=True, quiet=True)
    assert train.main(["--resume", "--out", str(stopped.path)]) == 2
    assert "emsiam.fit(config, images=…)" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"images were handed over; emsiam\.fit\(config, images=…\) takes them"):
        emsiam.fit(again)
    for other in ({"images": 255 - x, "labels": y}, {"images": x, "labels": (y + 1) % 10}, {"images": x}):
        for run in (stopped, whole):  # unfinished, finished
            with pytest.raises(
                ConfigError, match=f"images: they, or their labels, are not those of the run in {run.path}"
            ):
                emsiam.fit(dataclasses.replace(again, out=str(run.path)), **other)
    hint = str(Interrupted(2, stopped)).removeprefix("stopped and saved; ").removesuffix(" goes on")
    scope = {"emsiam": emsiam, "x": x / 255, "y": y}
    exec(f"run = {hint.replace('images=…, labels=…', 'images=x, labels=y')}", scope)
    assert scope["run"].finished
    assert scope["run"].metrics.loss.tolist() == whole.metrics.loss.tolist()
    assert evaluate.main(["knn", str(whole.path)]) == 2
    assert "handed over to it; --data-dir or --eval-dataset: others" in capsys.readouterr().err
    assert evaluate.main(["knn", str(whole.path), "--eval-dataset", "digits"]) == 0


def test_images_take_no_named_data_set_s_place(tmp_path, digit_images):
    with pytest.raises(ConfigError, match="--dataset digits: images are handed over, which would take its place"):
        emsiam.fit(emsiam.Config(dataset="digits", out=str(tmp_path / "run")), images=digit_images[0])
    assert not (tmp_path / "run").exists()


def test_the_loop_in_one_s_own_hands_takes_images_too(tmp_path, digit_images):
    x, y = digit_images
    config = emsiam.Config(**SMALL, log_every=1)
    run = emsiam.fit(dataclasses.replace(config, out=str(tmp_path / "run")), images=x, labels=y)
    parts = emsiam.prepare(config, images=x, labels=y)
    assert run.metrics.loss.tolist()[1:] == [step.loss.item() for step in parts.alternation()]


def test_a_picture_in_python_is_the_picture_of_a_folder():
    """What is transparent is white, 16 bits are scaled; what has no range is refused."""
    clear = Image.fromarray(np.dstack([np.full((8, 8, 3), 90, np.uint8), np.zeros((8, 8), np.uint8)]), "RGBA")
    assert (pixels([clear, clear])[0] == 255).all()
    deep = Image.fromarray(np.full((8, 8), 257 * 70, np.uint16))
    assert (pixels([deep, deep])[0] == 70).all()
    with pytest.raises(ConfigError, match="images: number 0: its pixels are floating-point numbers"):
        pixels([Image.fromarray(np.zeros((8, 8), np.float32))])


def test_a_class_that_is_only_trained_on_or_only_tested_is_told_of():
    x, y = np.zeros((50, 8, 8), np.uint8), np.arange(50) % 5  # every fifth image is of class 4
    assert handed_over(x, y).notes[1:] == (
        "no image of class 4, counted from 0, is trained on; hand them over in another order",
        "no image of class 0, 1, 2 and 1 more, counted from 0, is to test; hand them over in another order",
    )
