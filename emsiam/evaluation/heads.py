"""What stands behind the backbone in somebody's checkpoint? Projector and predictor, built from the names in the file.

Known are the official SimSiam (`encoder.fc.0` …, `predictor.0` …), solo-learn (`projector.0`) and lightly
(`projection_head.layers.0`). Linear layers and BN have weights there; where a number is left out, a ReLU stands.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from .layouts import Place

PROJECTORS = ("projector", "projection_head.layers", "projection_head")
PREDICTORS = ("predictor", "prediction_head.layers", "prediction_head")
OWN = "fc"  # where the projector stands in the last layer's place


class Heads(NamedTuple):
    """Modules of [B, f] and of [B, d]; None where the file has none, or none that is understood."""

    projector: nn.Sequential | None = None
    predictor: nn.Sequential | None = None


def heads(place: Place) -> Heads:
    """The projector and the predictor that a file has beside a backbone; a predictor keeps the projector's width."""
    projector = _built(place.weights, (OWN,)) or _built(place.beside, PROJECTORS)
    predictor = _built(place.beside, PREDICTORS) if projector else None
    fits = projector and predictor and {*_ends(predictor)} == {_ends(projector)[1]}
    return Heads(projector, predictor if fits else None)


def _built(tensors: Mapping[str, Tensor], names: Iterable[str]) -> nn.Sequential | None:
    """The one network of numbered layers that stands below one of some names."""
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    pattern = re.compile(rf"((?:.*\.)?(?:{'|'.join(map(re.escape, names))}))\.(\d+)\.(\w+)")
    for name, x in tensors.items():
        if match := pattern.fullmatch(name):
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = x
    return _layers(next(iter(found.values()))) if len(found) == 1 else None


def _ends(net: nn.Sequential) -> tuple[int, int]:
    """Channels that a network takes, and that it gives."""
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return linear[0].in_features, linear[-1].out_features


def _layers(parts: Mapping[int, dict[str, Tensor]]) -> nn.Sequential | None:
    layers: list[nn.Module] = []
    last = -1
    width: int | None = None  # channels so far
    for i in sorted(parts):
        weights = parts[i]
        layer = _layer(weights)
        if layer is None or width not in (None, _width(layer)):
            return None
        width = layer.out_features if isinstance(layer, nn.Linear) else width
        layers += [nn.ReLU()] * (i > last + 1) + [layer]
        last = i
    return nn.Sequential(*layers) if any(isinstance(layer, nn.Linear) for layer in layers) else None


def _width(layer: nn.Linear | nn.BatchNorm1d) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.num_features


def _layer(weights: dict[str, Tensor]) -> nn.Linear | nn.BatchNorm1d | None:
    """A linear layer or BN with these weights."""
    layer: nn.Linear | nn.BatchNorm1d
    if "running_mean" in weights:
        layer = nn.BatchNorm1d(len(weights["running_mean"]), affine="weight" in weights)
    elif "weight" in weights and weights["weight"].ndim == 2:
        wide, width = weights["weight"].shape
        layer = nn.Linear(width, wide, bias="bias" in weights)
    else:
        return None
    try:
        missing, odd = layer.load_state_dict(weights, strict=False)
    except RuntimeError:
        return None
    return None if odd or [name for name in missing if name != "num_batches_tracked"] else layer
