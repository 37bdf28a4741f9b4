"""Where in a file is the network? Names in other projects' checkpoints, read off the file."""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..errors import ConfigError

NO_LABEL = "(none)"  # of a network whose names stand alone
DEPTH = 3  # of dictionaries in dictionaries
SEQUENTIAL = ", numbered as in nn.Sequential"
# torchvision's own older names, which it renames on loading: of DenseNets, and of ViTs
OLDER = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
TAKEN = ("encoder_q", "base_encoder")  # of MoCo's two encoders, the one that SGD trains


class Place(NamedTuple):
    """A network in a file."""

    label: str  # how the file calls it, in dots; "" where its names stand alone
    kind: str  # how its weights are named
    weights: Mapping[str, Tensor]  # by the network's own names, all that are there
    beside: Mapping[str, Tensor]  # of the same dictionary, those that are not below the label


def find(path: str, saved: Mapping[str, Any], net: nn.Module, arch: str, chosen: str | None = None) -> Place:
    """The network's place in what a file holds: where all of its weights are.

    chosen: part of the label, where a file has several. Raises ConfigError.
    """
    wanted = _wanted(net)
    whole = [place for place in _places(saved, net, wanted[:1]) if all(name in place.weights for name in wanted)]
    if not whole:
        places = list(_places(saved, net, wanted))
        if not places:
            some = ", ".join(map(str, list(saved)[:3]))
            raise ConfigError(f"{path}: holds no weights of {arch} (it has {some or 'nothing'} …)")
        best = max(places, key=lambda place: sum(name in place.weights for name in wanted))
        missing = [name for name in wanted if name not in best.weights]
        raise ConfigError(
            f"{path}: is not of --arch {arch} ({missing[0]} and {len(missing) - 1} other weights are missing)"
        )
    labels = ", ".join(sorted(place.label or NO_LABEL for place in whole))
    if chosen is not None:
        fits = [p for p in whole if chosen == (p.label or NO_LABEL) or chosen in p.label.split(".")]
        if len(fits) != 1:
            raise ConfigError(f"--weights {chosen}: fits {len(fits)} networks of {path}; it has {labels}")
        return fits[0]
    if len(whole) > 1 and not _equal(whole, wanted):
        taken = [place for place in whole if set(TAKEN) & set(place.label.split("."))]
        if len(taken) != 1:
            raise ConfigError(
                f"{path}: holds several networks of {arch}: {labels}; choose one, such as --weights {_short(whole)}"
            )
        return taken[0]
    return whole[0]


def _places(saved: Mapping[str, Any], net: nn.Module, anchors: list[str]) -> Iterator[Place]:
    """Wherever one of some weights is."""
    wanted = _wanted(net)
    children = [name for name, _ in net.named_children()]
    numbered = {
        name: ".".join([str(children.index(name.split(".")[0])), *name.split(".")[1:]])
        for name in wanted
        if name.split(".")[0] in children
    }
    for outer, container in _dictionaries(saved):
        tensors = {_renamed(name): x for name, x in container.items() if isinstance(x, Tensor)}
        for kind, names in (("", {name: name for name in wanted}), (SEQUENTIAL, numbered)):
            sought = [names[name] for name in anchors if name in names]
            for prefix in sorted({t[: -len(n)] for n in sought for t in tensors if f".{t}".endswith(f".{n}")}):
                weights: OrderedDict[str, Tensor] = OrderedDict()
                if kind:
                    weights.update((name, tensors[prefix + n]) for name, n in names.items() if prefix + n in tensors)
                else:
                    weights.update((name[len(prefix) :], x) for name, x in tensors.items() if name.startswith(prefix))
                    _keep_versions(weights, container, prefix, net)
                label = ".".join(filter(None, (*outer, prefix.rstrip("."))))
                beside = {name: x for name, x in tensors.items() if not name.startswith(prefix)}
                after = f", names after {prefix!r}" if prefix else ""
                yield Place(label, f"state dict{after}{kind}", weights, beside)


def _wanted(net: nn.Module) -> list[str]:
    """The names without which a network is not all there: counters of batches play no part in eval mode."""
    return [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]


def _dictionaries(saved: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """{name: tensor} dictionaries in what was saved, with the names that lead there; optimisers have none by name."""
    named = {name: x for name, x in saved.items() if isinstance(name, str)}
    if any(isinstance(x, Tensor) for x in named.values()):
        yield outer, saved
    if len(outer) < DEPTH:
        for name, x in named.items():
            if isinstance(x, Mapping):
                # the usual wrappings say nothing of which network it is
                yield from _dictionaries(x, outer if name in ("state_dict", "model_state_dict") else (*outer, name))


def _renamed(name: str) -> str:
    name = str(name).replace("_orig_mod.", "")  # of torch.compile
    for pattern, by in OLDER:
        name = pattern.sub(by, name)
    return name


def _keep_versions(weights: OrderedDict, container: Mapping, prefix: str, net: nn.Module) -> None:
    """What state dicts say of modules' versions, which some of torchvision's read on loading."""
    said = getattr(container, "_metadata", None)
    if said is None or _older(container):
        # as Module.state_dict sets it, and load_state_dict reads
        weights._metadata = net.state_dict()._metadata  # type: ignore[attr-defined]  # of an OrderedDict, see above
    else:
        inner = {f"{path}."[len(prefix) : -1]: about for path, about in said.items() if f"{path}.".startswith(prefix)}
        weights._metadata = OrderedDict(inner)  # type: ignore[attr-defined]  # of an OrderedDict, see above


def _older(container: Mapping) -> bool:
    return any(_renamed(name) != name for name in container if isinstance(name, str))


def _equal(places: list[Place], wanted: list[str]) -> bool:
    """Whether all are one network under several names."""
    first, *others = places
    return all(
        first.weights[n].shape == p.weights[n].shape and bool((first.weights[n] == p.weights[n]).all())
        for p in others
        for n in wanted
    )


def _short(places: list[Place]) -> str:
    """A part of a label that is no other's."""
    labels = [place.label.split(".") for place in places]
    for part in labels[0]:
        if part and sum(part in label for label in labels) == 1:
            return part
    return next(place.label for place in places if place.label)
