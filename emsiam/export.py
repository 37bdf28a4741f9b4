"""python -m emsiam.export RUN --out FILE: the backbone as a torchvision state dict, or under Detectron2's names."""

import sys
from pathlib import Path
from typing import Any

from .config import Parser, add_network, command
from .config.rules import PATH
from .errors import ConfigError, check_alone, check_folder, tell


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(prog="python -m emsiam.export", description=__doc__)
    parser.add_argument("what", metavar="RUN|CHECKPOINT")
    add_network(parser)
    parser.add_argument("--out", type=PATH.of_argument, required=True, metavar="FILE", help="such as backbone.pth")
    parser.add_argument("--detectron2", action="store_true", help="a ResNet for MODEL.WEIGHTS, such as backbone.pkl")
    try:
        given = parser.parse_args(arguments)
        check_alone()
        check_folder("out", given.out)
        from .evaluation import exports
        from .evaluation.backbones import WhichNetwork, load_backbone

        encoder = load_backbone(given.what, WhichNetwork(given.arch, given.weights, given.stem_padding))
        if given.detectron2:
            number = exports.write_detectron2(encoder, Path(given.out))
            said = f"{given.out}: {encoder.origin['arch']} for Detectron2, {number} arrays; colours in the order RGB"
        else:
            said = report(given.out, exports.write(encoder, Path(given.out)))
    except (ConfigError, OSError) as error:
        tell("emsiam.export", error)
        return 2
    print(said)
    return 0


def report(out: str, said: dict[str, Any]) -> str:
    """How to load and feed what was written."""
    stem = f" with the CIFAR stem (3×3, stride 1, padding {said['stem_padding']}, no max-pool)"
    cifar = said["stem"] == "cifar"
    net = f"torchvision.models.{said['arch']}()"
    if said["arch"] == "tiny":
        net = f"emsiam.networks.tiny({said['channels']})"
    size = said["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    fed = f"images of {said['channels']} channel{'s' * (said['channels'] > 1)}"
    fed += f", {height}×{width}" if size else ", of a size that its file does not say"
    if said["mean"]:
        fed += f", (x - mean) / std of pixels x in [0, 1]: mean {_row(said['mean'])}, std {_row(said['std'])}"
    else:
        fed += ", normalised as its file does not say"
    return "\n".join(
        [
            f"{out}: {said['arch']}{stem if cifar else ''}, without the last layer",
            f'  net = {net}; net.load_state_dict(torch.load("{out}"), strict=False)'
            + ("  # once conv1 and maxpool are as said" if cifar else ""),
            f"  it saw {fed}",
            f'  torch.load("{out}")._metadata[""]["emsiam"] says so too',
        ]
    )


def _row(x: list[float]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in x) + ")"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
