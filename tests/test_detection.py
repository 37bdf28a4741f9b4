"""A checkpoint becomes a detector: data in VOC's and COCO's formats, drawn here; C4; AP. The path, not Table 5."""

import json
import shutil

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models.resnet import BasicBlock, ResNet

from experiments import detection

NAMES = ("square", "bar")
SIDE = 96


def drawn(rng):
    """An image with one or two things on noise: pixels, and of each thing its name, left, top, right and bottom."""
    pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    things = []
    for half in range(rng.integers(1, 3)):  # one in each half, so that none hides another
        name = NAMES[rng.integers(2)]
        w, h = (40, 40) if name == "square" else (56, 28)
        left, top = rng.integers(0, SIDE - w), half * 48 + rng.integers(0, 48 - h)
        pixels[top : top + h, left : left + w] = (230, 40, 40) if name == "square" else (40, 40, 230)
        things.append((name, (left, top, left + w, top + h)))
    return pixels, things


def write_voc(root, rng, counts):
    for (year, listed), number in counts.items():
        for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (root / year / folder).mkdir(parents=True, exist_ok=True)
        names = [f"{listed}{i:03}" for i in range(number)]
        (root / year / "ImageSets" / "Main" / f"{listed}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            pixels, things = drawn(rng)
            Image.fromarray(pixels).save(root / year / "JPEGImages" / f"{name}.jpg", quality=100, subsampling=0)
            objects = "".join(
                f"<object><name>{thing}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
                f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                for thing, (x0, y0, x1, y1) in things
            )
            size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
            text = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
            (root / year / "Annotations" / f"{name}.xml").write_text(text)


def write_coco(root, rng, counts):
    (root / "annotations").mkdir(parents=True)
    for part, number in counts.items():
        (root / f"{part}2017").mkdir()
        images, objects = [], []
        for i in range(number):
            pixels, things = drawn(rng)
            Image.fromarray(pixels).save(root / f"{part}2017" / f"{i}.png")
            images.append({"id": 10 + i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE})
            for name, (x0, y0, x1, y1) in things:
                about = {"id": 1 + len(objects), "image_id": 10 + i, "category_id": 17 + 3 * NAMES.index(name)}
                about |= {"bbox": list(map(int, (x0, y0, x1 - x0, y1 - y0))), "area": int((x1 - x0) * (y1 - y0))}
                about |= {"segmentation": [list(map(int, (x0, y0, x1, y0, x1, y1, x0, y1)))], "iscrowd": 0}
                objects.append(about)
        categories = [{"id": 17 + 3 * i, "name": name} for i, name in enumerate(NAMES)]
        text = json.dumps({"images": images, "annotations": objects, "categories": categories})
        (root / "annotations" / f"instances_{part}2017.json").write_text(text)


VOC = {("VOC2007", "trainval"): 16, ("VOC2012", "trainval"): 8, ("VOC2007", "test"): 8}
COMMON = ["--batch-size", "4", "--min-size", "96", "--workers", "0", "--rois", "4", "--proposals", "10"]


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("VOCdevkit")
    write_voc(root, np.random.default_rng(0), VOC)
    return root


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco") / "coco"
    write_coco(root, np.random.default_rng(0), {"train": 24, "val": 8})
    return root


def pictures(voc, coco):
    yield "voc", *(detection.voc_pictures(voc, part) for part in ("train", "val"))
    yield "coco", *(detection.coco_pictures(coco, part, masks=True) for part in ("train", "val"))


def test_boxes_labels_and_masks_are_those_of_what_is_drawn(voc, coco):
    """VOC counts pixels from 1, COCO's categories are 17 and 20: the pixels of a box are the thing's, and no others."""
    for kind, train, test in pictures(voc, coco):
        assert (len(train), len(test)) == (24, 8)
        assert train.labels == {"bar": 1, "square": 2}
        for data in (train, test):
            for image, target in data:
                red, blue = (image[c] > 0.75 for c in (0, 2))
                for box, label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
                    x0, y0, x1, y1 = box
                    thing = red if label == 2 else blue
                    assert thing[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].all()  # JPEG blurs the rim
                    around = thing[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2]
                    assert abs(int(around.sum()) - (y1 - y0) * (x1 - x0)) <= (0 if kind == "coco" else 2 * (x1 - x0))
                if kind == "coco":
                    assert torch.equal(target["masks"].amax(0).bool(), red | blue)


class Oracle(torch.nn.Module):
    """Finds what an image holds, and one thing more with little confidence."""

    def __init__(self, data):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answers = iter([target for _, target in data])

    def forward(self, _):
        target = next(self.answers)
        boxes = torch.cat([target["boxes"].as_subclass(torch.Tensor), torch.tensor([[0.0, 0.0, 9.0, 9.0]])])
        out = {"boxes": boxes, "labels": torch.cat([target["labels"], torch.tensor([1])])}
        out["scores"] = torch.tensor([0.9] * len(target["labels"]) + [0.1])
        if "masks" in target:
            out["masks"] = torch.cat([target["masks"], torch.zeros_like(target["masks"][:1])])[:, None].float()
        return [out]


def test_who_finds_all_has_an_ap_of_100(voc, coco, capsys):
    for kind, _, test in pictures(voc, coco):
        found = detection.average_precision(Oracle(test), test)
        assert set(found) == {"AP", "AP50", "AP75"} | (
            {"mask AP", "mask AP50", "mask AP75"} if kind == "coco" else set()
        )
        assert all(x == pytest.approx(100) for x in found.values())


def test_difficult_objects_are_learned_and_not_counted(voc, tmp_path):
    root = shutil.copytree(voc, tmp_path / "VOCdevkit")
    for file in (root / "VOC2007" / "Annotations").glob("*.xml"):
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    train, test = (detection.voc_pictures(root, part) for part in ("train", "val"))
    before, after = (detection.voc_pictures(r, "val") for r in (voc, root))
    assert [len(t["boxes"]) for _, t in before] == [len(t["boxes"]) for _, t in after]
    assert len(train) == 24

    class Blind(Oracle):
        def forward(self, x):
            (out,) = super().forward(x)
            return [{name: values[1:] for name, values in out.items()}]  # misses the first of each image

    assert detection.average_precision(Blind(test), test)["AP50"] == pytest.approx(100)
    assert detection.average_precision(Blind(before), before)["AP50"] < 60


@pytest.mark.slow
def test_fine_tuning_on_drawn_images_raises_ap(voc):
    train = detection.voc_pictures(voc, "train")
    test = detection.voc_pictures(voc, "val", labels=train.labels)
    torch.manual_seed(0)
    few = {"box_batch_size_per_image": 8, "rpn_post_nms_top_n_train": 50, "rpn_post_nms_top_n_test": 20}
    net = detection.c4(ResNet(BasicBlock, [1, 1, 1, 1]), 3, masks=False, min_size=SIDE, **few)
    before = detection.average_precision(net, test)["AP"]
    losses = detection.fine_tune(
        net, train, steps=60, decays=(3 / 4, 11 / 12), batch_size=4, lr=0.02, wd=1e-4, workers=0, seed=0
    )
    after = detection.average_precision(net, test)["AP"]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert before < 20 < 40 < after


def test_a_checkpoint_s_stages_are_where_c4_has_them(tmp_path):
    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / "net.pth")
    net = detection.c4(detection.start(str(tmp_path / "net.pth"), "resnet18"), 3, masks=True)
    x = torch.randn(1, 3, 64, 64)
    stages = torch.nn.Sequential(*list(resnet.children())[:-3]).eval()  # up to layer3
    assert torch.allclose(net.eval().backbone(x), stages(x))
    (head, extra), z = net.roi_heads.box_head[0], torch.randn(2, 256, 14, 14)
    assert torch.allclose(head(z), resnet.layer4.eval()(z))
    assert net.roi_heads.mask_head is net.roi_heads.box_head[0]
    assert extra.num_features == 512
    assert all(p.requires_grad for p in net.parameters())


def test_the_command(coco, tmp_path, capsys):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "net.pth")
    command = [str(tmp_path / "net.pth"), "--arch", "resnet18", "--coco", str(coco), "--masks", "--steps", "2", *COMMON]
    assert detection.main([*command, "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["images"], found["test_images"], found["steps"]) == (24, 8, 2)
    assert f"mask AP50 {found['mask AP50']:.1f}" in capsys.readouterr().out
    torch.save(
        torchvision.models.resnet18().state_dict() | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "3.pth"
    )
    for wrong, said in (
        (["nothing.pth", "--coco", str(coco)], "nothing.pth: there is no such file or run"),
        (["scratch", "--arch", "vgg11", "--coco", str(coco)], "allowed is one of torchvision's ResNets"),
        (["scratch", "--voc", str(tmp_path)], "No such file or directory"),
        (["scratch", "--coco", str(coco), "--arch", "resnet18", "--batch-size", "25"], "--batch-size 25: allowed is"),
        (["scratch", "--coco", str(coco), "--steps", "0"], "--steps: 0 is not a whole number from 1"),
        (["scratch", "--coco", str(coco), "--min-size", "200:100"], "--min-size: 200:100 is not pixels, or LOW:HIGH"),
        (["scratch", "--coco", str(coco), "--arch", "resnet5"], "did you mean resnet50?"),
        (["scratch", "--coco", str(coco), "--json", "nowhere/a"], "--json nowhere/a: there is no folder nowhere"),
        (["scratch", "--voc", str(coco), "--masks"], "--masks: the annotations of --voc have boxes only"),
        ([str(tmp_path / "3.pth"), "--arch", "resnet18", "--coco", str(coco)], "has the CIFAR stem"),
    ):
        assert detection.main(wrong) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_files_that_are_not_in_the_format_are_named(voc, coco, tmp_path, capsys):
    command = ["scratch", "--arch", "resnet18", "--steps", "8", *COMMON]

    def refused(*data):
        assert detection.main([*command, *map(str, data)]) == 2
        error = capsys.readouterr().err.splitlines()[-1]  # after tqdm's
        return error.removeprefix("python -m experiments.detection: ")

    root = shutil.copytree(voc, tmp_path / "VOCdevkit")
    file = root / "VOC2007" / "Annotations" / "trainval003.xml"
    text = file.read_text()
    for wrong in (text.replace("<xmin>", "<xmin>left"), text.replace("xmin>", "nothing>"), text[:40], ""):
        file.write_text(wrong)
        assert refused("--voc", root).startswith(f"{file}: is not in VOC's format (")
    file.write_text(text.replace("</xmin>", ".0</xmin>"))  # as some tools write it
    assert len(detection.voc_pictures(root, "train")) == 24
    picture = root / "VOC2007" / "JPEGImages" / "trainval003.jpg"
    picture.write_bytes(b"no picture")
    for workers in "01":
        said = refused("--voc", root, "--workers", workers)
        assert said.startswith(f"{picture} is not an image that can be read (")

    root = shutil.copytree(coco, tmp_path / "coco")
    file = root / "annotations" / "instances_train2017.json"
    whole = json.loads(file.read_text())
    objects = whole["annotations"]
    for wrong, more in (
        ([], ()),
        ({"images": whole["images"]}, ()),
        (whole | {"categories": []}, ()),
        (whole | {"annotations": [o | {"bbox": None} for o in objects]}, ()),
        (whole | {"annotations": [{n: x for n, x in o.items() if n != "segmentation"} for o in objects]}, ["--masks"]),
    ):
        file.write_text(json.dumps(wrong))
        assert refused("--coco", root, *more).startswith(f"{file}: is not in COCO's format (")
    few = [{n: o[n] for n in ("id", "image_id", "category_id", "bbox")} for o in objects]  # what boxes need
    file.write_text(json.dumps(whole | {"annotations": few}))
    assert detection.coco_pictures(root, "train", masks=False).coco.dataset["annotations"] == [
        o | {"iscrowd": 0, "area": o["bbox"][2] * o["bbox"][3]} for o in few
    ]
