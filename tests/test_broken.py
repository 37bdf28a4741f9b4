"""Files and folders that fail, for one process or for all, for now or for good."""

import os
from types import SimpleNamespace

import _warm
import numpy as np
import pytest
import torch
from PIL import Image

from emsiam import compare, data, diagnose, errors, export, prepare, processor, train
from emsiam.config import Config
from emsiam.config.resolution import read_images
from emsiam.data import folders, headers, tree
from emsiam.errors import BadImage, ConfigError

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path):
    """Two classes of ten images, cat/00.png to dog/09.png."""
    for name in (f"{kind}/{i:02}.png" for kind in ("cat", "dog") for i in range(10)):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(256, size=(20, 24, 3), dtype=np.uint8)).save(file)
    return tmp_path / "images"


@pytest.fixture
def second(monkeypatch):
    """This process is the second of two."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def paths(root):
    return sorted(map(str, root.rglob("*.png")))


def test_what_is_one_process_s_is_refused_to_several(second, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(errors.time, "sleep", lambda _: None)
    for command, more in ((compare, []), (diagnose, []), (export, ["--out", str(tmp_path / "net.pth")])):
        assert command.main(["run", *more]) == 2
        assert "2 processes: one does it all; start it without torchrun" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"emsiam.prepare: the 2 processes of torchrun do not know of each other yet"):
        prepare(Config())


def test_what_one_process_alone_refuses_it_says_where_it_is_not_ended_with_the_first(second, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(errors.time, "sleep", waited.append)
    assert train.main(["--data-dir", "nowhere"]) == 2
    assert "--data-dir nowhere is not a folder" in capsys.readouterr().err
    assert waited == [errors.ALONE]


ALIKE = """
import os
from types import SimpleNamespace
from emsiam import Config, ranks
from emsiam.training import run_training
from emsiam.data import sets

with ranks.together("cpu"):
    for digest in ("same", os.environ["RANK"]):
        try:
            sets.digits()._replace(digest=digest).check_alike()
            print("alike")
        except ValueError as error:
            print(error)
    mine = int(os.environ["RANK"])
    each = {"threads": 1 + mine, "quiet": mine == 0, "out": str(mine)}
    for more, step in ((each, 1), ({"lr": 0.1 + mine}, 1), ({"online_probe": True} if mine else {}, 1), ({}, mine)):
        try:
            run_training.check_alike(Config(**more), SimpleNamespace(step=step))
            print("alike")
        except ValueError as error:
            print(error)
"""


def test_processes_that_see_different_images_or_are_told_different_things_are_refused(tmp_path):
    (tmp_path / "alike.py").write_text(ALIKE)
    said = "--data-dir: the processes see different images; each needs the same files under the same names"
    assert (
        _warm.ranks(2, "alike", cwd=tmp_path).splitlines()
        == [
            *("alike", said, "alike"),
            "the processes differ in --lr; allowed is the same in all",
            "the processes differ in --online-probe; allowed is the same in all",  # also in the one that lacks it
            "the processes differ in the step to go on from; allowed is the same in all",
        ]
        * 2
    )


def test_a_cache_that_cannot_be_written_is_done_without(root, monkeypatch):
    """PyTorch says so by another error than the system."""
    monkeypatch.setattr(headers, "MANY", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert len(data.sets.folder(data_dir=str(root)).images) == 16


def test_an_image_that_breaks_or_is_mended_later_makes_other_ids(root):
    """A broken image of those that are decoded at the start has no id; a file that is read later keeps its own."""

    def digests():
        found = (data.sets.folder(data_dir=str(root), workers=n, skip_broken=True) for n in (0, 2))
        return [images.digest for images in found]

    whole = digests()
    assert whole[0] == whole[1]
    file = root / "cat" / "03.png"
    file.write_bytes(file.read_bytes()[:100] + bytes(file.stat().st_size - 100))
    assert [a == b for a, b in zip(digests(), whole, strict=True)] == [False, True]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_class_that_is_broken_as_a_whole_is_told_of(root, workers):
    for file in (root / "cat").iterdir():
        file.write_bytes(b"none")
    images = data.sets.folder(data_dir=str(root), workers=workers, skip_broken=True)
    assert "1 of 2 classes have no image to train on that can be read" in images.notes


def test_a_folder_that_cannot_be_read_is_no_empty_one(root, monkeypatch):
    """Tests may run as root, who reads any."""
    scan = os.scandir

    def refused(folder):
        if str(folder).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    (root / "cat" / "inner").mkdir()
    assert len(list(tree.images(root))) == 20
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError):
        list(tree.images(root))
    with pytest.raises(ConfigError, match=r"inner cannot be read \(Permission denied\)"):
        read_images("folder", data_dir=str(root))


def test_what_failed_once_is_read_again(root, tmp_path, monkeypatch, capsys):
    """A disk may fail for a while; what headers said is kept."""
    monkeypatch.setattr(headers, "MANY", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = folders._opened

    def fails(path):
        if path.endswith("cat/03.png"):
            raise OSError(5, "Input/output error", path)
        return opened(path)

    for _ in range(2):  # the second time what is kept is found
        with monkeypatch.context() as patch:
            patch.setattr(folders, "_opened", fails)
            found = headers.headers(str(root), paths(root), folders.Broken(True)).sizes
        assert found[3].tolist() == [0, 0]
        assert "cat/03.png is not an image that can be read (Input/output error)" in capsys.readouterr().err
    found = headers.headers(str(root), paths(root), folders.Broken(True)).sizes
    assert found.tolist() == [[20, 24]] * 20


def test_a_file_of_equal_size_and_time_in_another_s_place_is_another(root, tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "MANY", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = root / "cat" / "00.png"
    headers.headers(str(root), paths(root), folders.Broken())
    was = file.stat()
    Image.fromarray(RNG.integers(256, size=(10, 12, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes().ljust(was.st_size, b"\0"))
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert headers.headers(str(root), paths(root), folders.Broken()).sizes[0].tolist() == [10, 12]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_link_that_leads_nowhere_is_a_file_that_is_no_image(root, capsys, workers):
    (root / "cat" / "10.png").symlink_to(root / "gone.png")
    with pytest.raises(BadImage, match=r"cat/10\.png is not an image that can be read \(No such file"):
        data.sets.folder(data_dir=str(root), workers=workers)
    images = data.sets.folder(data_dir=str(root), workers=workers, skip_broken=True)
    assert len(images.images) + len(images.test_images) == 20
    assert capsys.readouterr().err.count("/cat/10.png") == 1


def test_one_process_says_what_all_skip_and_control_characters_are_written_out(root, second, monkeypatch, capsys):
    (root / "cat" / "\x1b[31m\n.png").write_bytes(b"none")
    data.sets.folder(data_dir=str(root), skip_broken=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    data.sets.folder(data_dir=str(root), skip_broken=True)
    said = capsys.readouterr().err
    assert r"\x1b[31m\n.png" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("i", range(7))
def test_stand_ins_are_of_the_class_in_the_order_of_ids_from_there_on(i):
    labels = [0, 1, 0, 0, 1, 2, 1]
    large = SimpleNamespace(labels=torch.tensor(labels))
    wanted = [j % 7 for j in range(i, i + 7) if labels[j % 7] == labels[i]]
    assert list(folders.Files._alike(large, i)) == wanted


def test_an_image_of_its_own_class_stands_in_for_a_broken_one(root):
    """The last cat is broken: not the first dog, but the first cat is shown in its place, for its label stays."""
    whole = (root / "cat" / "09.png").read_bytes()
    (root / "cat" / "09.png").write_bytes(whole[: len(whole) // 2])
    files = folders.Files(paths(root), torch.ones(20), 20, 2, 0.0, folders.Broken(True), torch.arange(20) // 10)
    for kept in (files, files.without(0.0), files.only(torch.arange(20)), files.to(torch.device("cpu"))):
        assert torch.equal(kept[torch.tensor([9])], kept[torch.tensor([0])])
    assert torch.equal(files.only(torch.tensor([9, 15, 3]))[torch.tensor([0])], files[torch.tensor([3])])
    with pytest.raises(BadImage, match=r"cat/09\.png and all that could stand in for it"):
        files.only(torch.tensor([9, 15]))[torch.tensor([0])]
    read = data.sets.folder(data_dir=str(root), workers=2, skip_broken=True)
    assert torch.equal(read.test_images.labels, read.test_labels)
    assert torch.equal(read.images.labels, read.classes)


def test_processes_of_one_machine_share_its_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert processor.own() == 8
    for processes, own in ((4, 2), (16, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert processor.own() == own
