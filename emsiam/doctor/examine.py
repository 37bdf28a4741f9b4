"""Has it collapsed? Embeddings in, a diagnosis out."""

from typing import Any

import torch
from torch import Tensor

from ..diagnostics import collapse
from ..diagnostics.evidence import intervals
from ..diagnostics.judgement import Evidence, Number, Seen, judge
from ..errors import ConfigError
from .arrays import Embeddings, embeddings
from .causes import causes
from .diagnosis import Diagnosis, Output


def examine(
    z: Any,
    p: Any = None,
    *,
    untrained: Any = None,
    pixels: Any = None,
    steps: int | None = None,
    layout: str | None = None,
) -> Diagnosis:
    """Has this representation collapsed? No labels are used.

        print(emsiam.examine(z))

    z: [N, d], one row an image, or [views, N, d], better, as it is then seen whether an image is found again by its
    other view; numpy, PyTorch or lists. What makes the answer surer: p, of the same images, what a predictor makes of
    z; untrained, z of the same network before its first step; pixels, the views themselves, flattened; steps, how
    many were trained. Values that are never negative are taken for features after a ReLU, and centred first. layout:
    how three axes are read, "views" or "tokens". Raises ConfigError, in one line, for what is no representation.
    """
    given = {"z": z, "p": p, "untrained": untrained, "pixels": pixels}
    read = {name: embeddings(name, x, layout) for name, x in given.items() if x is not None}
    for name, other in read.items():
        number, of_z = other.x.shape[1], read["z"].x.shape[1]
        if number != of_z and name != "untrained":
            raise ConfigError(f"{name}: is of {number:,} images and z of {of_z:,}; allowed is the same images")
    said = [note for x in read.values() for note in x.said]
    if len(read["z"].x) == 1:
        said.append("z is of one view of each image: with two, [2, N, d], it is seen whether images are found again")
    outputs = {name: looked(name, x, said) for name, x in read.items()}
    evidence = Evidence(
        images=read["z"].x.shape[1],
        width=read["z"].x.shape[2],
        z=seen(outputs["z"]),
        p=seen(outputs.get("p")),
        untrained=seen(outputs.get("untrained")),
        pixels=seen(outputs.get("pixels")),
        steps=steps,
    )
    judgement = judge(evidence)
    shown = tuple(o for name in ("z", "p") if (o := outputs.get(name)))
    return Diagnosis(judgement, shown, causes(evidence, judgement), tuple(said))


def looked(name: str, given: Embeddings, said: list[str]) -> Output | None:
    """The numbers of what was handed over; None where it is not finite."""
    x = given.x
    if not x.isfinite().all():
        said.append(f"{name} holds {int((~x.isfinite()).sum()):,} values that are not finite")
        return None
    if name == "z" and (x >= 0).all() and not (x == x[0, 0]).all():
        said.append("no value of z is negative: it is taken for features after a ReLU, and centred first")
        x = x - x.double().mean((0, 1))
    numbers = collapse.measure(x)
    return Output(name, x.shape[1], x.shape[2], len(x), numbers, intervals(x), tuple(_spectrum(x[0])))


def seen(o: Output | None) -> Seen | None:
    """What a verdict looks at, of an output."""
    if o is None:
        return None

    def number(name: str) -> Number:
        return Number(o.numbers[name], *o.intervals[name])

    found = number("view_auc") if "view_auc" in o.intervals else None
    return Seen(number("z_std_ratio"), number("participation_ratio"), found)


def _spectrum(x: Tensor) -> list[float]:
    return collapse.spectrum(x).to(torch.float32).tolist()
