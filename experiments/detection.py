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
from typing import Any
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

from emsiam.checkpoints import load_encoder
from emsiam.config import ConfigError
from emsiam.networks import build_backbone
from emsiam.train import one_line


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
    new = what == "scratch"
    backbone = (
        build_backbone(arch or "resnet50", "imagenet", (3, 224, 224))[0] if new else load_encoder(what, arch).backbone
    )
    trunk = backbone.train().trunk
    if not isinstance(trunk, ResNet):
        raise ConfigError(f"{what}: has no stages conv4 and conv5: allowed is one of torchvision's ResNets")
    return trunk


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
        found = self.coco.loadAnns(self.coco.getAnnIds(image))
        return [o for o in found if (not o["iscrowd"] or o.get("difficult")) and min(o["bbox"][2:]) >= 1]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        objects = self.objects(self.ids[i])
        with Image.open(self.root / self.coco.imgs[self.ids[i]]["file_name"]) as file:
            picture = tv_tensors.Image(v2.functional.pil_to_tensor(file.convert("RGB")) / 255)
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
    """COCO as it is unpacked: train2017/, val2017/, annotations/instances_train2017.json and …val2017.json."""
    coco = COCO(str(root / "annotations" / f"instances_{part}2017.json"))
    return Pictures(coco, root / f"{part}2017", masks=masks, labels=labels)


VOC = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "val": (("VOC2007", "test"),)}
SIDES = ("xmin", "ymin", "xmax", "ymax")


def voc_pictures(root: Path, part: str, *, labels: dict[str, int] | None = None) -> Pictures:
    """VOCdevkit, with VOC2007 and, to train on, VOC2012 where it is there, as COCO's annotations.

    Objects marked difficult are learned, and missing or finding them is no error, as in VOC.
    """
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for year, listed in VOC[part]:
        if year == "VOC2012" and not (root / year).is_dir():
            continue
        for name in (root / year / "ImageSets" / "Main" / f"{listed}.txt").read_text().split():
            tree = ElementTree.parse(root / year / "Annotations" / f"{name}.xml").getroot()
            size = {side: int(tree.findtext(f"size/{side}", "0")) for side in ("width", "height")}
            images.append({"id": len(images), "file_name": f"{year}/JPEGImages/{name}.jpg", **size})
            for o in tree.iter("object"):
                left, top, right, bottom = (float(o.findtext(f"bndbox/{side}", "nan")) for side in SIDES)
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]  # pixels are counted from 1
                difficult = int(o.findtext("difficult", "0"))
                about = {"id": 1 + len(objects), "image_id": images[-1]["id"], "name": o.findtext("name", "")}
                about |= {"bbox": box, "area": box[2] * box[3], "iscrowd": difficult, "difficult": difficult}
                objects.append(about)
    ids = {name: i for i, name in enumerate(sorted({o["name"] for o in objects}))}
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": [o | {"category_id": ids[o["name"]]} for o in objects],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }
    coco.createIndex()
    return Pictures(coco, root, labels=labels)


def fine_tune(
    net: FasterRCNN, data: Pictures, *, steps: int, batch_size: int, lr: float, wd: float, workers: int, seed: int
) -> list[float]:
    """SGD on all layers, images with objects and their mirror images; the losses.

    100 steps of warm-up, a tenth of a short run; lr / 10 after 3/4 of the steps and again after 11/12. Raises
    ConfigError where images are too few or the loss is not finite.
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
        decayed = sum(len(losses) >= steps * part for part in (3 / 4, 11 / 12))
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
    found: list[dict[str, Any]] = []
    net.eval()
    for i, (image, _) in zip(data.ids, tqdm(data), strict=True):
        (out,) = net([image.to(device)])
        out["boxes"][:, 2:] -= out["boxes"][:, :2]
        for n, label in enumerate(out["labels"].tolist()):
            one = {"image_id": i, "category_id": category.get(label, -1), "score": out["scores"][n].item()}
            if data.masks:
                pixels = np.asfortranarray((out["masks"][n, 0] > 0.5).cpu().numpy().astype(np.uint8))
                one["segmentation"] = pycocotools.mask.encode(pixels)
            found.append(one | {"bbox": out["boxes"][n].tolist()})
    numbers = {}
    for kind, name in (("bbox", ""), ("segm", "mask "))[: 1 + data.masks]:
        result = COCOeval(data.coco, data.coco.loadRes(found) if found else COCO(), kind)
        result.evaluate()
        result.accumulate()
        result.summarize()
        numbers |= {
            name + of: 100 * max(0.0, float(x)) for of, x in zip(("AP", "AP50", "AP75"), result.stats, strict=False)
        }
    return numbers


def detect(given: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune, evaluate; the result. Raises ConfigError, OSError."""
    torch.manual_seed(given.seed)
    load: Callable[..., Pictures] = voc_pictures if given.voc else coco_pictures
    root, more = Path(given.voc or given.coco), {} if given.voc else {"masks": given.masks}
    train = load(root, "train", **more)
    test = load(root, "val", labels=train.labels, **more)
    shortest = [int(side) for side in given.min_size.split(":")]
    sizes = tuple(range(shortest[0], shortest[-1] + 1, 32))
    options = {"box_batch_size_per_image": given.rois, "rpn_post_nms_top_n_test": given.proposals}
    trunk = start(given.what, given.arch)
    net = c4(trunk, 1 + len(train.labels), masks=train.masks, min_size=sizes, max_size=1333, **options)
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    asked = {name: getattr(given, name) for name in ("steps", "batch_size", "lr", "wd", "workers", "seed")}
    losses = fine_tune(net, train, **asked)
    told = {"from": given.what, "data": str(root), "images": len(train), "test_images": len(test)}
    return told | asked | {"loss": losses[-1]} | average_precision(net, test)


def main(arguments: list[str] | None = None) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="python -m experiments.detection", description=__doc__.partition("\n")[0])
    parser.add_argument("what", metavar="RUN|CHECKPOINT|scratch", help="whose backbone")
    parser.add_argument("--arch", help="ResNet of a file that does not say, and of scratch (resnet50)")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--voc", metavar="DIR", help="VOCdevkit, with VOC2007 and VOC2012")
    data.add_argument("--coco", metavar="DIR", help="with train2017, val2017 and annotations")
    parser.add_argument("--masks", action="store_true", help="COCO: Mask R-CNN")
    parser.add_argument("--steps", type=int, default=24_000, help="(24000, VOC's schedule; COCO's is 90000)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--wd", type=float, default=1e-4)
    parser.add_argument("--min-size", default="480:800", help="shorter side of images, pixels, a range to draw from")
    parser.add_argument("--rois", type=int, default=512, help="regions of an image that the head learns (512)")
    parser.add_argument("--proposals", type=int, default=1000, help="regions of a test image that it sees (1000)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    given = parser.parse_args(arguments)
    try:
        found = detect(given)
        if given.json:
            Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    except (ConfigError, OSError, ElementTree.ParseError) as error:
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return 2
    print("   ".join(f"{name} {x:.1f}" for name, x in found.items() if "AP" in name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
