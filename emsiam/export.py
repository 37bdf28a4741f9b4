"""python -m emsiam.export RUN --out FILE: the backbone as a torchvision state dict."""

import argparse
import sys
from pathlib import Path

import torch

from .checkpoints import load_encoder
from .config import ConfigError
from .train import one_line


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="python -m emsiam.export", description=__doc__)
    parser.add_argument("what", metavar="RUN|CHECKPOINT")
    parser.add_argument("--arch", help="network of a file that does not say")
    parser.add_argument("--out", required=True, metavar="FILE", help="such as backbone.pth")
    given = parser.parse_args(arguments)
    try:
        print(export(given.what, given.out, given.arch))
    except (ConfigError, OSError) as error:
        print(f"emsiam.export: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def export(what: str, out: str, arch: str | None = None) -> str:
    """Write it; what was written. Raises ConfigError where the network is not one of torchvision's."""
    encoder = load_encoder(what, arch)
    trunk, name = encoder.backbone.trunk, encoder.told["arch"]
    if name == "tiny":
        raise ConfigError(f"{what}: is of the network tiny, which torchvision does not have")
    state = {key: x.clone().contiguous() for key, x in trunk.state_dict().items()}
    torch.save(state, Path(out))
    first = state.get("conv1.weight")
    stem = (
        " with the CIFAR stem (conv1 3×3 stride 1, no max-pool)" if first is not None and first.shape[-1] == 3 else ""
    )
    return f"{out}: {name}{stem}, {len(state)} tensors without the last layer; load_state_dict(…, strict=False)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
