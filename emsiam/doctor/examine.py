"""Has it collapsed? Embeddings, a network or a run in, a diagnosis out."""

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..diagnostics import collapse
from ..diagnostics.verdict import CONSTANT, Evidence, judge, seen
from ..errors import ConfigError, flag, nearest
from ..objective import unit
from ..runs.run import Run
from .arrays import Embeddings, embeddings
from .causes import causes
from .diagnosis import Diagnosis
from .files import ENDINGS, TEXT, arrays
from .outputs import Output, Shown

if TYPE_CHECKING:
    from .networks import Networks

OUTPUTS = ("z", "p", "features")  # in the order in which they are shown; the verdict is of the first
FEW_CHANNELS, NEARLY_ALL = 0.6, 0.99  # std·√d over spread, below which channels differ; and of their variance
# features after a ReLU share a mean, so they are centred, unless their spread is below this: then they are a constant.
# Of random weights it is 0.1 or more; nobody says of features whether they should differ more
AFTER_RELU = {"z": CONSTANT, "features": 0.02}
NEIGHBOURS, TEMPERATURE = 20, 0.1  # of kNN, where there are labels


def examine(
    z: Any,
    p: Any = None,
    *,
    features: Any = None,
    labels: Any = None,
    untrained: Any = None,
    pixels: Any = None,
    steps: int | None = None,
    layout: str | None = None,
    **of_file: Any,
) -> Diagnosis:
    """Has this representation collapsed? The verdict uses no labels.

        print(emsiam.examine(z))
        print(emsiam.examine(model, images))
        print(emsiam.examine("runs/mine"))

    z: [N, d], one row per image, or better [views, N, d], to see whether an image is found again by its other view;
    numpy, PyTorch or lists. These make the answer surer: p and untrained, of the shape of z, what a predictor makes of
    it, and z before the first step; pixels [views, N, C·H·W], the views themselves; steps, how many SGD steps were
    trained. features [N, f] of the backbone, and a kNN accuracy by labels [N], are shown beside. layout: how three axes
    are read, "views" or "tokens". Values that are never negative are taken for features after a ReLU, and centred.

    In place of z: a module or a function of a batch, with images [N, C, H, W] or views [views, N, C, H, W] after it; a
    run, or its directory; a file of embeddings (.npy, .npz, .safetensors, .pt), or of weights, with `arch` and
    `dataset` or `data_dir`, as `python -m emsiam.diagnose` takes them. Raises ConfigError.
    """
    given: dict[str, Any] = {"z": z, "p": p, "features": features, "untrained": untrained, "pixels": pixels}
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0):
        raise ConfigError(f"steps: is {steps!r}; allowed is a whole number, 0 or more")
    if isinstance(z, str | os.PathLike) and not os.fspath(z):
        raise ConfigError("z: is an empty path")
    if isinstance(z, str | os.PathLike) and Path(z).suffix.lower() in TEXT:
        raise ConfigError(
            f"{z}: holds text; save the numbers by numpy.save, or pass them: numpy.loadtxt, pandas.read_csv"
        )
    if isinstance(z, str | os.PathLike) and Path(z).suffix.lower() in ENDINGS:
        found = arrays(Path(z).expanduser())
        if found is not None:
            if of_file:
                name = next(iter(of_file))
                raise ConfigError(f"{flag(name)}: is of weights, and {z} holds embeddings; leave it out")
            beside = found.pop("labels", None)
            said = [f"{z}: {', '.join(found)}"]
            mine = {name: x for name, x in given.items() if x is not None and name != "z"}  # rather than the file's
            return diagnose({"z": None} | found | mine, beside if labels is None else labels, steps, layout, said)
    module = callable(z) and not isinstance(z, Run)
    if isinstance(z, str | os.PathLike | Run) or module:
        from .networks import networks

        check_names(of_file)
        others = given | {"labels": labels, "steps": steps, "layout": layout, "z": None, "p": None if module else p}
        if unused := [name for name, x in others.items() if x is not None]:
            raise ConfigError(f"{unused[0]}: is not used beside a network; pass what it makes of images")
        return of_networks(networks(z, p, **of_file))
    if of_file:
        check_names(of_file)
        raise ConfigError(f"{', '.join(of_file)}: are of a file of weights; pass its path in place of z")
    return diagnose(given, labels, steps, layout)


def check_names(given: Mapping[str, Any]) -> None:
    """Raises ConfigError for a keyword that is none."""
    from .networks import networks

    known = [p.name for f in (examine, networks) for p in signature(f).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in given:
        if name not in known:
            raise ConfigError(f"{name}: there is no such argument{nearest(name, known)}")


def of_networks(looked_at: "Networks") -> Diagnosis:
    """A diagnosis of what a network makes of images, with the BN statistics of these images."""
    first = next(name for name in OUTPUTS if name in looked_at.batch)
    given = {**looked_at.batch, "untrained": looked_at.untrained.get(first), "pixels": looked_at.pixels}
    said = [looked_at.what]
    for name, x in looked_at.running.items():
        if not (x.isfinite().all() and looked_at.batch[name].isfinite().all()):
            continue
        running, batch = (collapse.z_std_ratio(y[0]).item() for y in (x, looked_at.batch[name]))
        if running < CONSTANT < batch:
            said.append(
                f"with running BN statistics std·√d of {name} is {running:.3f}, with those of a batch {batch:.2f}: the "
                "statistics are not of these weights or images; train mode is looked at"
            )
    return diagnose(given, None, looked_at.steps, "views", said, looked_at.images)


def diagnose(
    given: Mapping[str, Any],
    labels: Any = None,
    steps: int | None = None,
    layout: str | None = None,
    said: list[str] | None = None,
    images: Tensor | None = None,
) -> Diagnosis:
    """A diagnosis of OUTPUTS by name, beside `untrained` and `pixels`. images: [N, C, H, W]. Raises ConfigError."""
    read = {name: embeddings(name, x, layout) for name, x in given.items() if x is not None}
    shown = [name for name in OUTPUTS if name in read]
    if not shown:
        raise ConfigError(f"pass one of {', '.join(OUTPUTS)}")
    first = shown[0]
    count = read[first].x.shape[1]
    for name, other in read.items():
        if other.images != (whole := read[first].images) and name != "untrained":
            what = f"{other.images:,} images and {first} of {whole:,}"
            raise ConfigError(f"{name}: is of {what}; allowed is the same images")
        if name in ("p", "untrained") and (wide := other.x.shape[-1]) != (width := read[first].x.shape[-1]):
            raise ConfigError(f"{name}: has {wide:,} channels and {first} {width:,}; allowed is the same number")
    said = [*(said or []), *(note for x in read.values() for note in x.said)]
    if len(read[first].x) == 1:
        said.append(f"{first} has one view of each image; two, [2, N, d], would show whether images are found again")
    if (tokens := read[first].tokens) is not None:
        said.append(
            f"{within(tokens):.0%} of the variance of tokens lies within images; near 0 those of an image are one"
        )
    alike = {name: first if name == "untrained" else name for name in read}  # as the same layer is
    outputs = {name: looked(name, x, said, of_layer=alike[name]) for name, x in read.items()}
    of = {name: o.seen for name, o in outputs.items() if o}
    evidence = Evidence(
        images=count,
        z=None if "p" in outputs and "p" not in of else of.get(first),
        p=of.get("p"),
        untrained=of.get("untrained"),
        pixels=of.get("pixels"),
        steps=steps,
    )
    judgement = judge(evidence)
    found, beside = (tuple(o for name in names if (o := outputs.get(name))) for names in (shown, ("untrained",)))
    if labels is not None:
        said.append(named(read[first], labels))
    pictured = Shown(read[first].x, images) if outputs[first] else None
    return Diagnosis(judgement, found, causes(evidence, judgement), tuple(said), beside, pictured)


def looked(name: str, given: Embeddings, said: list[str], *, of_layer: str) -> Output | None:
    """The numbers of what was handed over; None where it is not finite. of_layer: how that layer is called."""
    x = given.x
    if not x.isfinite().all():
        said.append(f"{name} holds {int((~x.isfinite()).sum()):,} values that are not finite")
        return None
    if of_layer in AFTER_RELU and (x >= 0).all() and (spread := collapse.residual_norm(x[0])) > AFTER_RELU[of_layer]:
        if name in OUTPUTS:
            said.append(
                f"no value of {name} is negative: it is taken for features after a ReLU, and centred first; as it is "
                f"its spread is {spread:.2f}"
            )
        x = x - x.double().mean((0, 1))
    views, count, width = x.shape
    of = seen(x)
    assert of is not None
    spectrum = collapse.spectrum(x[0]).to(torch.float32).tolist() if name != "pixels" else []
    if name not in OUTPUTS:
        return Output(name, count, width, views, {}, of, tuple(spectrum))
    if 2 * (distinct := len(x[0].unique(dim=0))) < x.shape[1]:
        alike = f"only {distinct:,} of {x.shape[1]:,} rows of {name} differ from one another"
        said.append(f"all {x.shape[1]:,} rows of {name} are equal" if distinct == 1 else alike)
    numbers = collapse.measure(x) | {"directions": of.directions.value}
    if numbers["z_std_ratio"] < FEW_CHANNELS * numbers["residual_norm"]:
        said.append(
            f"{few_channels(x[0])} of {name}; std·√d, which is a mean over channels, is {numbers['z_std_ratio']:.2f}"
        )
    return Output(name, count, width, views, numbers, of, tuple(spectrum))


def few_channels(z: Tensor) -> str:
    """How many channels hold nearly all variance of unit vectors, in words."""
    variance = unit(z.double()).var(0, correction=0).sort(descending=True).values
    live = int((variance.cumsum(0) < NEARLY_ALL * variance.sum()).sum()) + 1
    return f"{live:,} of {len(variance):,} channels hold {NEARLY_ALL:.0%} of the variance"


def within(tokens: Tensor) -> float:
    """The share of the variance of unit tokens [N, t, d] that lies within images; 0 for a constant."""
    x = unit(tokens.double())
    total = x.flatten(0, 1).var(0, correction=0).sum()
    return (x.var(1, correction=0).sum(-1).mean() / total).item() if total > 0 else 0.0


def named(given: Embeddings, labels: Any) -> str:
    """How often an image's neighbours name its class, in words. Raises ConfigError."""
    from ..evaluation.classifiers import leave_one_out

    y = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    y = y.astype(str) if y.dtype == object else y
    if y.ndim != 1 or len(y) != given.images:
        raise ConfigError(f"labels: are {list(y.shape)}; pass one for each of {given.images:,} images")
    y = y if given.rows is None else y[given.rows.numpy()]
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2 or not given.x.isfinite().all():
        return "labels are of one class" if len(classes) < 2 else "labels are not looked at"
    known = torch.from_numpy(codes.astype(np.int64))
    k = min(NEIGHBOURS, len(known) - 1)
    said = leave_one_out(given.x[0].float(), known, k=k, t=TEMPERATURE, num_classes=len(classes))
    chance = np.bincount(codes).max() / len(codes)
    right = (said == known).double().mean().item()
    return (
        f"labels, which the verdict does not use: {k} neighbours name {right:.1%} of classes right; always the largest "
        f"class would {chance:.1%}"
    )
