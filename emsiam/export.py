"""python -m emsiam.export RUN --out FILE: the backbone as a torchvision state dict, or under Detectron2's names."""

import pickle
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Parser, command
from .config.rules import PATH
from .errors import ConfigError, check_folder, one_line

if TYPE_CHECKING:
    from .config import Config


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(prog="python -m emsiam.export", description=__doc__)
    parser.add_argument("what", metavar="RUN|CHECKPOINT")
    parser.add_argument("--arch", help="network of a file that does not say")
    parser.add_argument("--out", type=PATH.of_argument, required=True, metavar="FILE", help="such as backbone.pth")
    parser.add_argument("--detectron2", action="store_true", help="a ResNet for MODEL.WEIGHTS, such as backbone.pkl")
    try:
        given = parser.parse_args(arguments)
        written = export(given.what, given.out, given.arch, given.detectron2)
    except (ConfigError, OSError) as error:
        print(f"emsiam.export: {one_line(error)}", file=sys.stderr)
        return 2
    print(written)
    return 0


def export(what: str, out: str, arch: str | None = None, detectron2: bool = False) -> str:
    """Write it; what was written. Raises ConfigError where the network is not one of torchvision's, or Detectron2's."""
    import torch

    from .evaluation.backbones import PADDED, load_backbone
    from .networks import is_resnet

    encoder = load_backbone(what, arch)
    trunk, name = encoder.backbone.trunk, encoder.origin["arch"]
    if name == "tiny":
        raise ConfigError(f"{what}: is of the network tiny, which torchvision does not have")
    check_folder("out", out)
    state = {key: x.clone().contiguous() for key, x in trunk.state_dict().items()}
    first = state.get("conv1.weight")
    if detectron2:
        if not is_resnet(name) or first is None or first.shape[-1] != 7:
            raise ConfigError(f"{what}: --detectron2 takes ResNets with the ImageNet stem, this is {name}")
        model = {detectron2_name(key): x.numpy() for key, x in state.items() if "num_batches" not in key}
        Path(out).write_bytes(pickle.dumps({"model": model, "__author__": "emsiam", "matching_heuristics": True}))
        return f"{out}: {name} for Detectron2, {len(model)} arrays; colours in the order RGB"
    torch.save(state, Path(out))
    stem = (
        " with the CIFAR stem (conv1 3×3 stride 1, no max-pool)" if first is not None and first.shape[-1] == 3 else ""
    )
    report = f"{out}: {name}{stem}, {len(state)} tensors without the last layer; load_state_dict(…, strict=False)"
    if encoder.origin["kind"].endswith(PADDED):
        report += f"\n{PADDED}, which a state dict does not say: conv1.padding = (2, 2) before loading"
    return report + _normalised(encoder.config)


def _normalised(config: "Config | None") -> str:
    """How images of our runs are normalised."""
    if config is None:
        return ""
    whose = "ImageNet" if config.dataset == "folder" and config.workers else f"its training images ({config.dataset})"
    return f"\nimages normalised by mean and standard deviation of {whose}"


def detectron2_name(key: str) -> str:
    """torchvision's name of a ResNet's weight as Detectron2's, which has the stage conv2 for layer1 and so on."""
    stage = re.match(r"layer(\d)", key)
    key = f"res{int(stage[1]) + 1}{key[stage.end() :]}" if stage else f"stem.{key}"
    key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return re.sub(r"\bbn(\d)\.", r"conv\1.norm.", key)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
