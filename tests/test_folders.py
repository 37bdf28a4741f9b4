"""Folders of images: every format that people have, in memory and streamed, and what is said when one is wrong."""

import json
import os
import re
import struct
import threading
import time

import numpy as np
import pytest
import torch
from golden import After
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder
from torchvision.transforms.v2 import functional as tv

import emsiam
from emsiam import compare, data, evaluate, train
from emsiam.data import folders, headers, tree, views

pytestmark = pytest.mark.usefixtures("no_comparisons")

TRAJECTORY = emsiam.plots.trajectory
RNG = np.random.default_rng(0)


def pixels(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_tree(root, classes=("cat", "dog"), each=12, size=(20, 24)):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(pixels(*size)).save(root / name / f"{i:02}.png")
    return root


def options(root, out, **changed):
    small = {"epochs": 1, "batch_size": 8, "arch": "tiny", "dim": 8, "hidden_dim": 8, "knn_k": 3, "image_size": 8}
    small |= {"log_every": 1, "threads": 1, "quiet": True, "dataset": "folder", "data_dir": str(root), "out": str(out)}
    return small | changed


def fit(*arguments, **changed):
    return emsiam.fit(emsiam.Config(**options(*arguments, **changed)))


def array(file):
    with folders.decoded(str(file)) as image:
        return np.array(image)


COLOUR = np.array([[[200, 30, 60], [10, 250, 90]]], dtype=np.uint8).repeat(4, 0).repeat(2, 1)  # 4×4, left and right
GREY = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17


def palette():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 200, 30, 60])
    return image


FILES = {
    "grey.png": (lambda: Image.fromarray(GREY), {}, np.stack([GREY] * 3, 2)),
    "one_bit.png": (lambda: Image.fromarray(GREY > 100), {}, np.stack([(GREY > 100) * 255] * 3, 2)),
    "sixteen_bits.png": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), {}, np.stack([GREY] * 3, 2)),
    "sixteen_bits.tif": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), {}, np.stack([GREY] * 3, 2)),
    "palette.png": (palette, {}, np.full((4, 4, 3), [200, 30, 60])),
    "palette_transparent.png": (palette, {"transparency": 1}, np.full((4, 4, 3), 255)),
    "alpha.png": (lambda: Image.new("RGBA", (4, 4), (200, 30, 60, 0)), {}, np.full((4, 4, 3), 255)),
    "half_alpha.webp": (
        lambda: Image.new("RGBA", (4, 4), (200, 0, 100, 51)),
        {"lossless": True},
        np.full((4, 4, 3), [244, 204, 224]),
    ),
    "grey_alpha.png": (lambda: Image.new("LA", (4, 4), (70, 255)), {}, np.full((4, 4, 3), 70)),
    "cmyk.tif": (lambda: Image.new("CMYK", (4, 4), (0, 255, 255, 0)), {}, np.full((4, 4, 3), [255, 0, 0])),
    "cmyk.jpg": (lambda: Image.new("CMYK", (4, 4), (0, 0, 0, 255)), {"quality": 100}, np.zeros((4, 4, 3))),
    "plain.bmp": (lambda: Image.fromarray(COLOUR), {}, COLOUR),
    "plain.ppm": (lambda: Image.fromarray(COLOUR), {}, COLOUR),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_becomes_rgb(tmp_path, name):
    make, parameters, expected = FILES[name]
    make().save(tmp_path / name, **parameters)
    assert np.array_equal(array(tmp_path / name), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_stands_upright(tmp_path, suffix, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8] = 255  # the sky
    upright[:, :8, 2] = 0
    turned = {  # what a camera stores so that a viewer's turning restores the photograph
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[folders.ORIENTATION] = orientation
    file = tmp_path / f"photo.{suffix}"
    quality = {"quality": 100} if suffix in ("jpg", "webp") else {}
    Image.fromarray(np.ascontiguousarray(turned)).save(file, exif=exif, **quality)
    assert np.abs(array(file).astype(int) - upright).mean() < 4  # JPEG is lossy
    assert folders.sizes([str(file)], folders.Broken()).tolist() == [[16, 32]]


def test_ids_are_positions_in_the_sorted_list_and_every_fifth_image_tests(tmp_path):
    root = write_tree(tmp_path / "data", size=(8, 8))
    (root / "cat" / ".hidden.png").write_bytes(b"no image")
    (root / ".ipynb_checkpoints").mkdir()
    (root / "cat" / "notes.txt").write_text("no image")
    loaded = data.sets.folder(data_dir=str(root))
    files = sorted(root.glob("[cd]*/[0-9]*.png"))
    kept = [f for i, f in enumerate(files) if i % 5 != 4]
    assert loaded.shape == (3, 8, 8)  # the side of the images
    assert np.array_equal(loaded.images, np.stack([np.array(Image.open(f)).transpose(2, 0, 1) for f in kept]))
    assert loaded.labels.tolist() == [f.parent.name == "dog" for f in kept]
    assert len(loaded.test_images) == len(files) - len(kept) == 4


def test_train_and_val_below_the_folder(tmp_path):
    write_tree(tmp_path / "data" / "train", ("a", "b", "c"), each=4)
    write_tree(tmp_path / "data" / "val", ("a", "c"), each=2)
    loaded = data.sets.folder(data_dir=str(tmp_path / "data"), image_size=16)
    assert loaded.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert loaded.test_labels.tolist() == [0, 0, 2, 2]  # by train's classes


def test_streamed_images_are_those_in_memory(tmp_path):
    root = write_tree(tmp_path / "data")
    memory, streamed = (data.sets.folder(data_dir=str(root), image_size=16, workers=workers) for workers in (0, 2))
    ids = torch.tensor([5, 0, 11])
    assert torch.equal(streamed.images[ids], memory.images[ids])
    assert torch.equal(streamed.test_images[torch.arange(4)], memory.test_images)
    assert streamed.labels.tolist() == memory.labels.tolist()
    assert torch.equal(streamed.classes, memory.classes)
    assert streamed.digest == memory.digest


def test_a_streamed_crop_is_torchvision_s_crop_of_the_file(tmp_path):
    root = write_tree(tmp_path / "data", size=(40, 30))
    streamed = data.sets.folder(data_dir=str(root), image_size=16, workers=2)
    ids = torch.tensor([3, 7])
    boxes = [(4, 6, 20, 15), (0, 0, 40, 30), (10, 3, 4, 24), (39, 29, 1, 1)]  # two views of each image
    fractions = torch.tensor([[t / 40, x / 30, h / 40, w / 30] for t, x, h, w in boxes])
    draw = views.Draw(box=fractions)
    crops, rest = streamed.images.ask(ids, draw, 2)(ids, draw)
    assert rest.box is None
    for crop, i, box in zip(crops, (3, 7, 3, 7), boxes, strict=True):
        expected = tv.resized_crop(Image.open(streamed.images.paths[i]), *box, [16, 16], antialias=True)
        assert np.array_equal(crop.permute(1, 2, 0).numpy(), np.array(expected))


def test_crops_of_files_keep_their_proportions(tmp_path):
    """On tall files boxes are drawn for their own shape: width / height of a crop in pixels is in ratio."""
    root = write_tree(tmp_path / "data", size=(60, 20))
    streamed = data.sets.folder(data_dir=str(root), image_size=16, workers=1)
    box = streamed.sample(torch.arange(16), 50, torch.Generator().manual_seed(0)).box
    ratio = (box[:, 3] * 20) / (box[:, 2] * 60)
    assert ratio.min() >= 0.7499
    assert ratio.max() <= 1.3334
    assert (box[:, :2] + box[:, 2:]).max() <= 1.0001


def test_t_takes_the_threads_that_reading_leaves(tmp_path, monkeypatch):
    root, before, apply, seen = write_tree(tmp_path), torch.get_num_threads(), views.apply, []
    monkeypatch.setattr(views, "apply", lambda *given: (seen.append(torch.get_num_threads()), apply(*given))[1])
    torch.set_num_threads(4)
    try:
        for workers in (0, 1, 3, 9):
            images = data.sets.folder(data_dir=str(root), image_size=16, workers=workers)
            draw = images.sample(torch.arange(2), 1, torch.Generator().manual_seed(0))
            images.ask(torch.arange(2), draw, 1, torch.float32)()
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert seen == [4, 3, 1, 1]


def test_the_number_of_threads_changes_nothing(tmp_path):
    root = write_tree(tmp_path / "data")
    runs = [fit(root, tmp_path / f"run{n}", workers=n, mode="expectation", n=2) for n in (1, 3)]
    assert runs[0].metrics.loss.tolist() == runs[1].metrics.loss.tolist()
    assert runs[0].config.workers == 1
    assert runs[0].config.image_size == 8


def renamed(root):
    os.rename(root / "cat" / "03.png", root / "cat" / "3.png")


def another(root):
    Image.fromarray(pixels(30, 30)).save(root / "cat" / "03.png")


def another_to_test(root):
    Image.fromarray(pixels(30, 30)).save(root / "cat" / "04.png")


@pytest.mark.parametrize("change", [renamed, another, another_to_test])
def test_files_that_have_changed_are_noticed_on_resuming(tmp_path, change):
    root = write_tree(tmp_path / "data")
    fit(root, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    change(root)
    with pytest.raises(emsiam.ConfigError, match="holds other images than when"):
        emsiam.fit(emsiam.Config(out=str(tmp_path / "run"), resume=True), given=())


def test_resuming_takes_other_threads_but_not_streaming_for_memory(tmp_path):
    root = write_tree(tmp_path / "data")
    fit(root, tmp_path / "run", workers=2)
    (tmp_path / "run" / "summary.json").unlink()
    resumed = {"out": str(tmp_path / "run"), "resume": True, "quiet": True}
    with pytest.raises(emsiam.ConfigError, match=r"--workers 0 \(was 2\)"):
        emsiam.fit(emsiam.Config(**resumed, workers=0), given={"workers"})
    for option, value, said in (("skip_broken", True, "--skip-broken (was off)"), ("labels", False, "(was not given)")):
        with pytest.raises(emsiam.ConfigError, match=f"{re.escape(said)}$"):
            emsiam.fit(emsiam.Config(**resumed, **{option: value}), given={option})
    more = {"workers": 1, "skip_broken": False, "save_every": 1}
    run = emsiam.fit(emsiam.Config(**resumed, **more), given=more.keys())
    assert run.finished


def spoil_header(root):
    (root / "dog" / "07.png").write_bytes(b"not an image")


def cut(root):
    file = root / "dog" / "07.png"
    file.write_bytes(file.read_bytes()[:600])


def float_pixels(root):
    (root / "dog" / "07.png").unlink()
    Image.fromarray(np.zeros((9, 9), np.float32)).save(root / "dog" / "07.tif")


def empty_class(root):
    (root / "bird").mkdir()


def emptied(root):
    for file in root.glob("*/*"):
        file.unlink()


def flat(root):
    for folder in list(root.iterdir()):
        for file in folder.iterdir():
            file.rename(root / f"{folder.name}{file.name}")
        folder.rmdir()


def like_parts(root):
    (root / "cat").rename(root / "Train")
    (root / "dog").rename(root / "Validation")


def few(root):
    for folder in root.iterdir():
        for file in list(folder.iterdir())[2:]:
            file.unlink()


def loop(root):
    (root / "dog" / "loop").symlink_to(root)


def named_train(root):
    (root / "cat").rename(root / "train")


def strange_val(root):
    write_tree(root.parent / "all" / "val", ("cow",), each=2)
    root.rename(root.parent / "all" / "train")
    (root.parent / "all").rename(root)


WRONG = {
    "no folder": (None, [], r"--data-dir \S+nowhere is not a folder"),
    "no class folders, which are asked for": (flat, ["--labels"], r"has no class folders"),
    "folders named like parts": (like_parts, [], r"are named like parts, not classes \(Train, Validation\)"),
    "class without images": (empty_class, [], r"bird has no images \(\.jpg"),
    "no images": (emptied, [], r"cat has no images"),
    "no images at all": (emptied, ["--no-labels"], r"data has no images \(\.jpg"),
    "too few": (few, [], r"has 4 images; allowed is 5 or more"),
    "damaged header": (spoil_header, [], r"dog/07\.png is not an image"),
    "damaged header, streamed": (spoil_header, ["--workers", "2"], r"dog/07\.png is not an image"),
    "cut file": (cut, [], r"dog/07\.png cannot be decoded"),
    "float pixels": (
        float_pixels,
        ["--workers", "2"],
        r"dog/07\.tif is not an image .* \(its pixels are floating-point",
    ),
    "a link to a folder above": (loop, [], r"dog/loop/\w+ is the same folder as \S+, by a link"),
    "a class named train": (named_train, [], r"train has no class folders, .* \(train and val are taken for the parts"),
    "a path too long": ("a" * 300, [], r"is not a folder|cannot be read \(File name too long\)"),
    "a line break": ("no\nwhere", [], r"no\\nwhere is not a folder"),
    "unknown class": (strange_val, [], r"val/cow is a class that \S+train does not have"),
    "image size 0": (lambda root: None, ["--image-size", "0"], r"--image-size 0: allowed is a whole number from 7"),
    "image size 7": (
        lambda root: None,
        ["--image-size", "7"],
        r"--image-size 7: allowed is 8 or more with --dataset f",
    ),
    "workers": (lambda root: None, ["--workers", "-1"], r"--workers -1: allowed is a whole number from 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_folders_are_one_line(tmp_path, capsys, case):
    spoil, more, said = WRONG[case]
    root = write_tree(tmp_path / "data") if callable(spoil) else tmp_path / (spoil or "nowhere")
    if callable(spoil):
        spoil(root)
    command = ["--dataset", "folder", "--data-dir", str(root), "--out", str(tmp_path / "run"), *more]
    assert train.main(command) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert re.search(said, line)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_data_dir_says_what_to_add(capsys):
    assert train.main(["--dataset", "folder"]) == 2
    assert "--dataset folder: add --data-dir DIR, with images, best in class folders" in capsys.readouterr().err


def test_a_streamed_file_that_fails_stops_the_run_with_its_path_and_the_run_goes_on_once_it_is_mended(tmp_path, capsys):
    root, out = write_tree(tmp_path / "data"), tmp_path / "run"
    whole = (root / "dog" / "07.png").read_bytes()
    cut(root)
    command = [f"--{name.replace('_', '-')}={value}" for name, value in options(root, out, workers=2).items()]
    command[command.index("--quiet=True")] = "--quiet"
    assert train.main(command) == 2
    assert re.search(r"^emsiam.train: \S+dog/07\.png cannot be decoded \(.*\)$", capsys.readouterr().err.strip())
    (root / "dog" / "07.png").write_bytes(whole)
    assert train.main([*command, "--resume"]) == 0
    assert json.loads((out / "summary.json").read_text())["steps"] == 2


def broken_exif(orientation):
    """Exif whose orientation is right and whose other tags are not: a width below 0, text that is somewhere else."""
    entries = [(0x0112, 3, 1, orientation), (0x0100, 9, 1, 0xFFFFFFFF), (0x010E, 2, 99, 0x00FFFFFF)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_broken_metadata_do_not_end_a_run_whose_pixels_decode(tmp_path, orientation):
    file, plain = tmp_path / "a.jpg", tmp_path / "b.png"
    exif = Image.Exif()
    exif[folders.ORIENTATION] = orientation
    Image.fromarray(pixels(16, 24)).save(file, exif=broken_exif(orientation))
    Image.fromarray(np.asarray(Image.open(file))).save(plain, exif=exif)
    if orientation > 1:  # Pillow's own way writes the tags anew
        with pytest.raises(struct.error):
            ImageOps.exif_transpose(Image.open(file))
    assert np.array_equal(array(file), array(plain))
    assert (
        folders.sizes([str(file)], folders.Broken()).tolist() == folders.sizes([str(plain)], folders.Broken()).tolist()
    )
    assert folders.sizes([str(file)], folders.Broken()).tolist() == [[24, 16] if orientation > 4 else [16, 24]]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_named_like_an_image_and_is_a_pipe_is_not_waited_for(tmp_path, workers):
    root = write_tree(tmp_path / "images")
    os.mkfifo(root / "cat" / "pipe.png")
    with pytest.raises(emsiam.ConfigError, match=r"cat/pipe\.png .*not a regular"):
        fit(root, tmp_path / "run", workers=workers)
    assert not (tmp_path / "run").exists()


def test_a_directory_of_images_alone_means_a_folder(tmp_path):
    root = write_tree(tmp_path / "images")
    chosen = {n: x for n, x in options(root, tmp_path / "run").items() if n != "dataset"}
    run = emsiam.fit(emsiam.Config(**chosen))
    assert run.summary["dataset"] == "folder"
    with pytest.raises(emsiam.ConfigError, match="--dataset folder"):
        emsiam.fit(emsiam.Config(data_dir=str(tmp_path / "nowhere"), out=str(tmp_path / "other")))
    preset = emsiam.config.preset(emsiam.Config(data_dir="x", preset="simsiam-cifar10"))
    assert preset.dataset == "cifar10"
    digits = emsiam.fit(emsiam.Config(epochs=1, batch_size=700, quiet=True, threads=1, out=str(tmp_path / "digits")))
    assert emsiam.evaluate.evaluate("knn", str(digits.path), data_dir=str(root), knn_k=3)["dataset"] == "folder"
    assert emsiam.evaluate.evaluate("knn", str(run.path), data_dir=str(root), knn_k=3)["dataset"] == "folder"


def test_ids_and_labels_are_those_of_torchvision_s_imagefolder(tmp_path):
    names = ["b", "a", "a/x", "a/x/y", "a-z", "C", "b/2", "b/10"]
    for i, name in enumerate(names):
        (tmp_path / name).mkdir()
        for j in range(3):
            (tmp_path / name / f"{7 * i + j}.{('png', 'JPG', 'Webp')[j]}").touch()
        (tmp_path / name / "notes.txt").touch()
    theirs = ImageFolder(tmp_path, allow_empty=True)
    ours = tree.index(tmp_path)
    assert (ours.classes, list(zip(ours.paths, ours.targets, strict=True))) == (theirs.classes, theirs.samples)
    assert tree.SUFFIXES == IMG_EXTENSIONS


def under(root, *trees):
    for name, classes in trees:
        write_tree(root / name, classes, each=4, size=(9, 9))
    return root


# which trees are written, and what is said of them; whether they have labels
TREES = {
    "flat": ([("", [""])], False, "are in no class folders, so there are no labels, and accuracies are left out"),
    "one class": ([("", ["cat"])], False, "all images are in one folder, {root}/cat, so there are no labels"),
    "a level deeper": (
        [("all", ["a", "b"])],
        False,
        "left out; if its 2 folders are classes, give --data-dir {root}/all",
    ),
    "flat parts": ([("train", [""]), ("val", [""])], False, "{root}/val is not read: only train is, where there are"),
    "another name": ([("train", "ab"), ("Val", "ab")], True, "{root}/Val is not read: under the name val it would be"),
    "beside both": ([("train", "ab"), ("val", "ab"), ("test", "ab")], True, "test is not read: only train and val are"),
    "a part among classes": ([("", ["a", "b", "test"])], True, "test in {root}: taken for a class, though named like"),
    "two levels": (
        [("b", "xy"), ("a", "xy")],
        True,
        "{root} are taken for classes, and each has x, y inside; which are?",
    ),
    "some without a class": ([("", ["a", "b"]), ("", [""])], True, "4 images directly in {root} are of no class"),
}


@pytest.mark.parametrize("case", TREES)
@pytest.mark.parametrize("workers", [0, 2])
def test_what_may_not_be_meant_is_said_before_training(tmp_path, capsys, case, workers):
    trees, labelled, said = TREES[case]
    root = under(tmp_path / "data", *((name, [c for c in classes if c]) for name, classes in trees if classes != [""]))
    for name, classes in trees:
        if classes == [""]:
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(4):
                Image.fromarray(pixels(9, 9)).save(root / name / f"{i}.png")
    run = fit(root, tmp_path / "run", batch_size=3, workers=workers)
    notes = capsys.readouterr().err
    assert said.format(root=root) in notes
    assert ("accuracies are left out" in notes) == (not labelled)
    assert ("knn_acc1" in run.summary) == ("knn_acc1" in run.metrics) == labelled
    assert run.config.labels == (None if labelled else False)


def test_without_labels_every_output_says_that_accuracies_are_left_out(tmp_path, capsys):
    root = write_tree(tmp_path / "data")
    given = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in options(root, "x").items()
        if name not in ("quiet", "out")
    ]
    for out, more in (("a", ["--no-labels"]), ("b", ["--no-labels", "--seed=1"]), ("c", [])):
        assert train.main([*given, *more, "--quiet", f"--out={tmp_path / out}"]) == 0
        said = capsys.readouterr().out
        assert ("no accuracies: the images have no labels" in said) == (out != "c")
    a = emsiam.load_run(tmp_path / "a")
    assert a.summary["steps"] == 3  # nothing is kept aside to test
    assert a.probe["labels"] is None
    assert not any("acc1" in name for name in (*a.summary, *a.metrics))
    assert compare.main([*(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "d")]) == 0
    assert "accuracies are left out of a, b: there are no labels" in capsys.readouterr().out
    assert evaluate.main(["knn", str(tmp_path / "a")]) == 2
    assert "the images of folder have no labels" in capsys.readouterr().err
    other = ["--data-dir", str(under(tmp_path / "other", ("", "ab")))]
    assert evaluate.main(["knn", str(tmp_path / "a"), "--knn-k", "3", *other]) == 0
    panels = TRAJECTORY([a]).axes
    assert any("no labels" in text.get_text() for axes in panels for text in axes.texts)
    again = emsiam.Config(out=str(tmp_path / "a"), resume=True, labels=True)
    with pytest.raises(emsiam.ConfigError, match=r"--labels \(was off\)$"):
        emsiam.fit(again)


def test_a_flat_folder_is_one_again_when_its_run_is_read(tmp_path, capsys):
    """No labels was not what the user chose, so no option is named."""
    root = under(tmp_path / "flat", ("", [""]))
    fit_until(1, root, tmp_path / "run", epochs=3, batch_size=2)
    assert "are in no class folders" in capsys.readouterr().err
    emsiam.fit(emsiam.Config(out=str(tmp_path / "run"), resume=True, quiet=True))
    said = capsys.readouterr().err
    assert "folders are not taken for classes, so there are no labels" in said
    assert "--no-labels" not in said


def test_one_image_is_too_few(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "one" / "a.png")
    assert train.main(["--data-dir", str(tmp_path / "one"), "--out", str(tmp_path / "run")]) == 2
    assert "--dataset folder: has 1 image to train on; allowed is 2 or more" in capsys.readouterr().err


def test_a_flat_curve_is_not_hidden_by_its_panel_s_frame(tmp_path):
    run = fit(write_tree(tmp_path / "data"), tmp_path / "run")
    for name in ("z_std", "participation_ratio"):
        run.metrics[name] = 7.0
    tops = {axes.get_title(): axes.get_ylim() for axes in TRAJECTORY([run]).axes}
    assert [span for span in tops.values() if span[0] == 0] == [pytest.approx((0, 7 * 1.15))] * 2


def test_an_unlabelled_run_goes_on_with_the_same_bits(tmp_path):
    root = write_tree(tmp_path / "data")
    whole = fit(root, tmp_path / "whole", labels=False, epochs=2)
    fit_until(3, root, tmp_path / "stopped", labels=False, epochs=2)
    again = emsiam.fit(emsiam.Config(out=str(tmp_path / "stopped"), resume=True, quiet=True))
    assert again.metrics.loss.tolist() == whole.metrics.loss.tolist()


def fit_until(steps, *arguments, **changed):
    return emsiam.fit(emsiam.Config(**options(*arguments, **changed)), stop=After(steps))


def test_an_epoch_of_one_step_is_said(tmp_path, capsys):
    root = write_tree(tmp_path / "data")
    fit(root, tmp_path / "run", batch_size=16)
    said = "note: an epoch is one step of 16 of 20 images, and leaves 4 out; --batch-size 8 would make it 2 steps\n"
    assert said in capsys.readouterr().err


def test_memory_while_decoding_does_not_grow_with_the_threads(tmp_path):
    """Eight images of 4 million pixels, eight threads, room for one of them."""
    files = [str(tmp_path / f"{i}.png") for i in range(8)]
    for file in files:
        Image.new("L", (2000, 2000), 70).save(file)
    at_once, most, lock = 0, 0, threading.Lock()
    rgb = folders.rgb

    def counted(image):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        try:
            return rgb(image)
        finally:
            with lock:
                at_once -= 1

    for room, allowed in ((folders.Room(5_000_000), 1), (folders.Room(2**27), 8)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folders, "ROOM", room)
            patch.setattr(folders, "rgb", counted)
            patch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
            patch.setattr(os, "cpu_count", lambda: 8)
            most = 0
            loaded = folders.load(files, 16, folders.Broken())
        assert most <= allowed
        assert allowed == 1 or most > 1  # else the first says nothing
        assert room.free == room.pixels
        assert (loaded == 70).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_of_too_many_pixels_is_one_line(tmp_path, recwarn, workers):
    """A few kilobytes may hold gigabytes of one colour."""
    root = write_tree(tmp_path / "data")
    Image.new("1", (13_000, 13_000)).save(root / "cat" / "bomb.png")
    with pytest.raises(
        emsiam.ConfigError, match=r"cat/bomb\.png .*has 169,000,000 pixels, allowed is at most 89,478,485"
    ):
        fit(root, tmp_path / "run", workers=workers)
    assert not [w for w in recwarn if "pixels" in str(w.message)]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_skipped_and_counted_where_asked_for(tmp_path, capsys, workers):
    root = write_tree(tmp_path / "images")
    (root / "cat" / "03.png").write_bytes(b"no image")  # its header says so
    whole = (root / "dog" / "05.png").read_bytes()
    (root / "dog" / "05.png").write_bytes(whole[: len(whole) // 2])  # its pixels do
    with pytest.raises(emsiam.ConfigError, match=r"cat/03\.png is not an image"):
        fit(root, tmp_path / "strict", workers=workers)
    run = fit(root, tmp_path / "run", workers=workers, skip_broken=True, epochs=2)
    assert run.finished
    assert run.summary["broken_images"] == 2
    said = capsys.readouterr().err
    assert said.count("cat/03.png is not an image") == 1
    assert said.count("dog/05.png cannot be decoded") == 1
    images = data.sets.folder(data_dir=str(root), workers=workers, skip_broken=True)
    left = [os.path.relpath(path, root) for path in images.paths]
    assert ("cat/03.png" in left, "dog/05.png" in left) == (False, workers > 0)
    if workers:  # the next image stands in
        at = left.index("dog/05.png")
        expected = images.images[torch.tensor([at + 1])]
        assert torch.equal(images.images[torch.tensor([at])], expected)


def test_what_headers_say_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(headers, "MANY", 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "_size", lambda path, size=folders._size: (read.append(path), size(path))[1])
    root = write_tree(tmp_path / "images")

    def sizes():
        read.clear()
        paths = sorted(map(str, root.rglob("*.png")))
        found = headers.headers(str(root), paths, folders.Broken()).sizes
        assert torch.equal(found, folders.sizes(paths, folders.Broken()))
        return len(read) - len(paths)

    assert sizes() == 24
    assert sizes() == 0
    Image.fromarray(pixels(30, 10)).save(root / "cat" / "00.png")
    assert sizes() == 24
    (kept,) = (tmp_path / "cache").rglob("*.pt")
    kept.write_bytes(kept.read_bytes()[:100])
    assert sizes() == 24
    kept.parent.chmod(0o500)
    assert sizes() == 0
