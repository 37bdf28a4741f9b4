"""A SimSiam backbone is as good a start for object detection as the other systems' and as a supervised one (Table 5).

Paper: Faster and Mask R-CNN, C4 backbone, all layers fine-tuned; AP on VOC 07: scratch 16.8, supervised 42.4, SimCLR
46.8, MoCo v2 48.5, BYOL 47.0, SwAV 46.5, SimSiam 47.0. docs/detection.md has the rest, and the commands.
Here: nothing of it has been run, as it takes the data sets and days of GPUs. The tests fine-tune on a few drawn images,
which shows that the path from a checkpoint to an AP is whole, not that Table 5 is reproduced.
Command: python -m experiments.detection RUN|CHECKPOINT|scratch --voc DIR | --coco DIR [--masks]
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pycocotools.mask
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import tv_tensors
from torchvision.models import ResNet
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2
from tqdm import tqdm

from emsiam.config import Parser, command
from emsiam.config.rules import Rule, real, whole
from emsiam.errors import BadImage, ConfigError, check_folder, nearest, one_line
from emsiam.evaluation.backbones import WhichNetwork, load_backbone
from emsiam.networks import archs, build_backbone


class Schedule(NamedTuple):
    """How a detector is fine-tuned, as facebookresearch/moco has it for a data set (detection/configs)."""

    steps: int
    min_size: tuple[int, int]  # shorter side of images, pixels, a range to draw from
    decays: tuple[float, float]  # parts of the steps after which lr / 10


VOC_SCHEDULE = Schedule(24_000, (480, 800), (3 / 4, 11 / 12))
COCO_SCHEDULE = Schedule(90_000, (640, 800), (2 / 3, 8 / 9))


def c4(trunk: ResNet, classes: int, *, masks: bool, **options: Any) -> FasterRCNN | MaskRCNN:
    """R-CNN on the features of a ResNet's stage conv4; conv5 is its head, of boxes and masks alike.

    classes: with the background. options: of torchvision's FasterRCNN. A BN follows conv5, and every BN learns, as
    He et al. 2020 (MoCo, §4.2) fine-tune.
    """
    width = next(m for m in reversed(list(trunk.layer3.modules())) if isinstance(m, nn.BatchNorm2d)).num_features
    features = nn.Sequential(
        *(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool), *(trunk.layer1, trunk.layer2, trunk.layer3)
    )
    features.out_channels = width
    res5 = nn.Sequential(trunk.layer4, nn.BatchNorm2d(2 * width))
    parts = {
        "rpn_anchor_generator": AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=0),
        "box_head": nn.Sequential(res5, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "box_predictor": FastRCNNPredictor(2 * width, classes),
    }
    if masks:
        parts |= {
            "mask_roi_pool": MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=0),
            "mask_head": res5,
            "mask_predictor": MaskRCNNPredictor(2 * width, 256, classes),
        }
    return (MaskRCNN if masks else FasterRCNN)(features, **parts, **options)


def start(what: str, arch: str | None) -> ResNet:
    """The ResNet of a run or a checkpoint, or, for `scratch`, as it is initialised. Raises ConfigError."""
    if what != "scratch":
        trunk = load_backbone(what, WhichNetwork(arch)).backbone.trunk
    elif (arch := arch or "resnet50") in archs():
        trunk = build_backbone(arch, None, (3, 224, 224))[0].trunk
    else:
        raise ConfigError(f"--arch {arch}: allowed is one of torchvision's ResNets{nearest(arch, archs())}")
    if not isinstance(trunk, ResNet):
        raise ConfigError(f"{what}: has no stages conv4 and conv5: allowed is one of torchvision's ResNets")
    if trunk.conv1.kernel_size != (7, 7):
        raise ConfigError(f"{what}: has the CIFAR stem; allowed is a ResNet with ImageNet's")
    return trunk.train()


class Pictures(Dataset):
    """Images with boxes and, where asked for, masks, from annotations as COCO has them.

    labels: of categories by name, from 1; 0 is the background.
    """

    def __init__(self, coco: COCO, root: Path, *, masks: bool = False, labels: dict[str, int] | None = None):
        self.coco, self.root, self.masks, self.ids = coco, root, masks, sorted(coco.imgs)
        names = {category["name"]: i for i, category in coco.cats.items()}
        self.labels = labels or {name: 1 + i for i, name in enumerate(sorted(names))}
        self.label_of = {names[name]: label for name, label in self.labels.items() if name in names}

    def objects(self, image: int) -> list[dict[str, Any]]:
        """What is learned of an image: no crowds, and no empty boxes."""
        objects = self.coco.loadAnns(self.coco.getAnnIds(image))
        return [o for o in objects if (not o.get("iscrowd") or o.get("difficult")) and min(o["bbox"][2:]) >= 1]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        objects = self.objects(self.ids[i])
        path = self.root / self.coco.imgs[self.ids[i]]["file_name"]
        try:
            with Image.open(path) as file:
                picture = tv_tensors.Image(v2.functional.pil_to_tensor(file.convert("RGB")) / 255)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadImage(f"{path} is not an image that can be read ({error})") from error
        size = tuple(picture.shape[1:])
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.tensor([self.label_of.get(o["category_id"], 0) for o in objects], dtype=torch.int64),
        }
        if self.masks:
            drawn = [torch.as_tensor(self.coco.annToMask(o)) for o in objects]
            target["masks"] = tv_tensors.Mask(torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.uint8))
        return picture, target


def coco_pictures(root: Path, part: str, *, masks: bool, labels: dict[str, int] | None = None) -> Pictures:
    """COCO as it is unpacked: train2017/, val2017/, annotations/instances_train2017.json and …val2017.json.

    Raises ConfigError where the annotations are not as COCO's.
    """
    file = root / "annotations" / f"instances_{part}2017.json"
    try:
        coco = COCO(str(file))
        pictures = Pictures(coco, root / f"{part}2017", masks=masks, labels=labels)
        for o in coco.dataset["annotations"]:
            _, _, width, height = map(float, o["bbox"])
            o.setdefault("iscrowd", 0)
            o.setdefault("area", width * height)
            if o["image_id"] not in coco.imgs or o["category_id"] not in coco.cats:
                raise ValueError("of an image or a category that the file does not list")
            if masks and "segmentation" not in o:
                raise ValueError("without segmentation, which --masks needs")
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ConfigError(f"{file}: is not in COCO's format ({type(error).__name__}: {one_line(error)})") from None
    return pictures


VOC = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "val": (("VOC2007", "test"),)}
SIDES = ("xmin", "ymin", "xmax", "ymax")


def voc_pictures(root: Path, part: str, *, labels: dict[str, int] | None = None) -> Pictures:
    """VOCdevkit, with VOC2007 and, to train on, VOC2012 where it is there, as COCO's annotations.

    Objects marked difficult are learned, and missing or finding them is no error, as in VOC. Raises ConfigError where
    an annotation is not as VOC's.
    """
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for year, listed in VOC[part]:
        if year == "VOC2012" and not (root / year).is_dir():
            continue
        for name in (root / year / "ImageSets" / "Main" / f"{listed}.txt").read_text().split():
            images.append({"id": len(images), "file_name": f"{year}/JPEGImages/{name}.jpg"})
            for o in _voc_objects(root / year / "Annotations" / f"{name}.xml"):
                objects.append({"id": 1 + len(objects), "image_id": images[-1]["id"], **o})
    ids = {name: i for i, name in enumerate(sorted({o["name"] for o in objects}))}
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": [o | {"category_id": ids[o["name"]]} for o in objects],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }
    coco.createIndex()
    return Pictures(coco, root, labels=labels)


def _voc_objects(file: Path) -> list[dict[str, Any]]:
    objects = []
    try:
        for o in ElementTree.parse(file).iter("object"):
            left, top, right, bottom = (float(o.findtext(f"bndbox/{side}") or "") for side in SIDES)
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]  # pixels are counted from 1
            difficult = int(o.findtext("difficult") or 0)
            about = {"name": o.findtext("name", ""), "bbox": box, "area": box[2] * box[3]}
            objects.append(about | {"iscrowd": difficult, "difficult": difficult})
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"{file}: is not in VOC's format ({one_line(error)})") from None
    return objects


def fine_tune(
    net: FasterRCNN,
    data: Pictures,
    *,
    steps: int,
    decays: tuple[float, float],
    batch_size: int,
    lr: float,
    wd: float,
    workers: int,
    seed: int,
) -> list[float]:
    """SGD on all layers, images with objects and their mirror images; the losses.

    100 steps of warm-up, a tenth of a short run; lr / 10 after each of the parts `decays` of the steps. Raises
    ConfigError where images are too few or the loss is not finite, BadImage where a file is no image.
    """
    learned = Subset(data, [n for n, i in enumerate(data.ids) if data.objects(i)])
    if len(learned) < batch_size:
        raise ConfigError(f"--batch-size {batch_size}: allowed is at most {len(learned)}, the images with objects")
    flip = v2.RandomHorizontalFlip()
    device = next(net.parameters()).device
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        learned, batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=list, generator=order
    )
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=wd)
    losses: list[float] = []
    net.train()
    for pairs in tqdm(itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps), total=steps):
        decayed = sum(len(losses) >= steps * part for part in decays)
        optimizer.param_groups[0]["lr"] = lr * min(1, (len(losses) + 1) / min(100, 1 + steps // 10)) * 0.1**decayed
        pairs = [flip(*pair) for pair in pairs]
        targets = [{name: x.to(device) for name, x in target.items()} for _, target in pairs]
        loss = sum(net([image.to(device) for image, _ in pairs], targets).values())
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise ConfigError(f"--lr {lr}: the loss is not finite at step {len(losses)}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@torch.no_grad()
def average_precision(net: FasterRCNN, data: Pictures) -> dict[str, float]:
    """COCO's AP, AP50 and AP75 in percent, of boxes, and of masks where data has them."""
    device, category = next(net.parameters()).device, {label: i for i, label in data.label_of.items()}
    detections: list[dict[str, Any]] = []
    net.eval()
    for i, (image, _) in zip(data.ids, tqdm(data), strict=True):
        (out,) = net([image.to(device)])
        out["boxes"][:, 2:] -= out["boxes"][:, :2]
        for n, label in enumerate(out["labels"].tolist()):
            one = {"image_id": i, "category_id": category.get(label, -1), "score": out["scores"][n].item()}
            if data.masks:
                pixels = np.asfortranarray((out["masks"][n, 0] > 0.5).cpu().numpy().astype(np.uint8))
                one["segmentation"] = pycocotools.mask.encode(pixels)
            detections.append(one | {"bbox": out["boxes"][n].tolist()})
    numbers = {}
    for kind, name in (("bbox", ""), ("segm", "mask "))[: 1 + data.masks]:
        result = COCOeval(data.coco, data.coco.loadRes(detections) if detections else COCO(), kind)
        result.evaluate()
        result.accumulate()
        result.summarize()
        numbers |= {
            name + of: 100 * max(0.0, float(x)) for of, x in zip(("AP", "AP50", "AP75"), result.stats, strict=False)
        }
    return numbers


def detect(given: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune, evaluate; the result. Raises ConfigError, BadImage, OSError."""
    check_folder("json", given.json)
    if given.voc and given.masks:
        raise ConfigError("--masks: the annotations of --voc have boxes only")
    torch.manual_seed(given.seed)
    trunk = start(given.what, given.arch)
    load: Callable[..., Pictures] = voc_pictures if given.voc else coco_pictures
    schedule = VOC_SCHEDULE if given.voc else COCO_SCHEDULE
    root, more = Path(given.voc or given.coco), {} if given.voc else {"masks": given.masks}
    train = load(root, "train", **more)
    test = load(root, "val", labels=train.labels, **more)
    low, high = given.min_size or schedule.min_size
    sizes = tuple(range(low, high + 1, 32))
    options = {"box_batch_size_per_image": given.rois, "rpn_post_nms_top_n_test": given.proposals}
    net = c4(trunk, 1 + len(train.labels), masks=train.masks, min_size=sizes, max_size=1333, **options)
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    asked = {"steps": given.steps or schedule.steps, "decays": schedule.decays}
    asked |= {name: getattr(given, name) for name in ("batch_size", "lr", "wd", "workers", "seed")}
    losses = fine_tune(net, train, **asked)
    about = {"from": given.what, "data": str(root), "images": len(train), "test_images": len(test)}
    return about | asked | {"loss": losses[-1]} | average_precision(net, test)


def _sides(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    if not 1 <= int(low) <= int(high or low):
        raise ValueError
    return int(low), int(high or low)


SIDES_RULE = Rule("pixels, or LOW:HIGH in pixels", _sides)


@command
def main(arguments: list[str] | None = None) -> int:
    """The command. Status 0 done, 2 wrong input."""
    about = __doc__.partition("\n")[0]
    parser = Parser(prog="python -m experiments.detection", description=about)
    parser.add_argument("what", metavar="RUN|CHECKPOINT|scratch", help="whose backbone")
    parser.add_argument("--arch", help="ResNet of a file that does not say, and of scratch (resnet50)")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--voc", metavar="DIR", help="VOCdevkit, with VOC2007 and VOC2012")
    data.add_argument("--coco", metavar="DIR", help="with train2017, val2017 and annotations")
    parser.add_argument("--masks", action="store_true", help="COCO: Mask R-CNN")
    for name, rule, default, about in (
        ("steps", whole(1), None, "(VOC 24000, COCO 90000)"),
        ("batch-size", whole(1), 16, "images a step (16)"),
        ("lr", real(0, above=True), 0.02, "(0.02)"),
        ("wd", real(0), 1e-4, "(1e-4)"),
        ("min-size", SIDES_RULE, None, "shorter side, pixels, or a range to draw from (VOC 480:800, COCO 640:800)"),
        ("rois", whole(1), 512, "regions of an image that the head learns (512)"),
        ("proposals", whole(1), 1000, "regions of a test image that it sees (1000)"),
        ("workers", whole(0, 1024), 4, "processes that read images (4)"),
        ("seed", whole(0), 0, ""),
    ):
        parser.add_argument(f"--{name}", type=rule.of_argument, default=default, help=about)
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    try:
        given = parser.parse_args(arguments)
        result = detect(given)
        if given.json:
            Path(given.json).write_text(json.dumps(result, indent=1) + "\n")
    except (ConfigError, BadImage, OSError) as error:
        message = one_line(error).rpartition("BadImage: ")[2].removesuffix("\\n")  # a worker's has a traceback before
        print(f"{parser.prog}: {message}", file=sys.stderr)
        return 2
    print("   ".join(f"{name} {x:.1f}" for name, x in result.items() if "AP" in name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
