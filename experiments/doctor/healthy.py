"""What do healthy runs look like? SimSiam's, where images are kept, by the kind of representation and its width."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from emsiam.diagnostics.evidence import many_images

from .._records import Record
from .judge import IMAGES, lines, lost

FEATURES = 128  # width of the backbone of all cases
GROWN = 275  # steps: before them every representation moves
KINDS = {"z": "z", "p": "p", "features": "centred"}  # as the doctor calls them, and as they were recorded
RANGES = ("residual_norm", "participation_ratio", "effective_rank", "view_auc")


def ranges(records: Iterable[Record]) -> list[dict[str, Any]]:
    """For each kind and width: the least and the largest value of each number, and the mean spectrum."""
    looks: dict[tuple[str, int], list[tuple[Record, dict[str, Any]]]] = {}
    for record in records:
        if not record.config["case"].startswith("SimSiam"):
            continue
        first, *others = (look for look in lines(record) if not look["as"])
        for look in others:
            if look["step"] >= GROWN and lost(look, first) is False:
                for kind in KINDS:
                    width = FEATURES if kind == "features" else record.config["dim"]
                    looks.setdefault((kind, width), []).append((record, look))
    return [
        {"kind": kind, "width": width, "images": IMAGES, **found(KINDS[kind], width, of)}
        for (kind, width), of in sorted(looks.items(), key=lambda item: item[0])
    ]


def found(name: str, width: int, of: list[tuple[Record, dict[str, Any]]]) -> dict[str, Any]:
    """What the looks have in common."""
    numbers = {}
    for number in RANGES:
        values = [look[f"{name}_{number}"] for _, look in of if look.get(f"{name}_{number}") is not None]
        if number == "participation_ratio":
            values = [many_images(x, IMAGES, width) for x in values]
        shown = "directions" if number == "participation_ratio" else number
        if values:
            numbers[shown] = [float(f"{x:.3g}") for x in (min(values), max(values))]
    spectrum = {}
    for i in range(min(IMAGES, width).bit_length()):
        values = [x for _, look in of if (x := look.get(f"{name}_eigenvalue_{2**i}"))]
        if len(values) == len(of):
            spectrum[2**i] = float(f"{np.exp(np.mean(np.log(values))):.3g}")
    sets = sorted({record.config["data"] for record, _ in of})
    return {"runs": len({record.key for record, _ in of}), "data": sets, "numbers": numbers, "spectrum": spectrum}
