"""What follows from what was chosen? Options that depend on the data, the method or the machine."""

import dataclasses
import inspect
import math
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from .. import networks, processor, ranks
from ..data.given import handed_over
from ..data.images import ImageSet
from ..data.sets import DATASETS
from ..errors import ConfigError, flag, given_flag, nearest, refuse
from ..eta import SOLVERS
from ..eta.bank import needed
from ..methods import METHODS, Method
from ..objective import SIMILARITIES, loss
from ..traits import fit_together, hyperparameters, name_of, of_data_set, of_objective, of_solver
from .options import DATA_OPTIONS, HYPERPARAMETERS, Config
from .presets import DEFAULTS, PRESETS
from .solvers import load_solver, typed

LOOKS, APART = 3, 600  # alternations watched unasked, at most, and steps between: one costs as much as about 25


def preset(config: Config) -> Config:
    """The configuration with the data set's and the preset's values where nothing else is given."""
    chosen = PRESETS.get(config.preset or "", {})
    dataset = config.dataset or chosen.get("dataset") or ("folder" if config.data_dir else DEFAULTS["dataset"])
    values = DEFAULTS | dict(of_data_set(DATASETS[dataset]).defaults) | chosen | {"dataset": dataset}
    return dataclasses.replace(config, **{n: v for n, v in values.items() if getattr(config, n) is None})


def read_images(dataset: str, **options: Any) -> ImageSet:
    """A data set by name, with the options that its loader reads. Raises ConfigError where there is none."""
    try:
        return DATASETS[dataset](**options)
    except ConfigError:
        raise
    except ValueError as error:
        refuse("dataset", dataset, str(error))
    except OSError as error:
        refuse("dataset", dataset, f"{error.filename} cannot be read ({error.strerror})")


def load_images(
    config: Config, images: Any = None, labels: Any = None, *, read: Callable[..., ImageSet] = read_images
) -> tuple[Config, ImageSet, list[str]]:
    """The data set of a configuration, that configuration with what the data set chose, and notes for the user.

    images, labels: in place of a named data set, see `data.given`. read: `read_images`, or what remembers its answers.
    Raises ConfigError where there is no such data, or where those of a run are others.
    """
    handed = None
    if images is not None or labels is not None:
        if config.dataset not in (None, "given"):
            refuse("dataset", config.dataset, "images are handed over, which would take its place")
        handed = handed_over(images, labels, use=config.labels)
        if config.digest not in (None, handed.digest):
            run = f"the run in {config.out}" if config.resume else f"--digest {config.digest}"
            raise ConfigError(f"images: they, or their labels, are not those of {run}")
        config = dataclasses.replace(config, dataset="given")
    config = preset(config)
    options = hyperparameters(DATASETS[config.dataset])
    notes: list[str] = []
    unread: dict[str, Any] = {}
    for name in DATA_OPTIONS:
        value, default = getattr(config, name), getattr(Config, name)
        if name not in options and value != default:
            notes.append(f"{given_flag(name, value)} is not used by --dataset {config.dataset}")
            unread[name] = default
    data = handed or read(config.dataset, **{name: getattr(config, name) for name in options})
    notes += data.notes
    asked = config.augment or {}
    if asked.get("redraw") and not data.recipe.redraw:
        refuse("augment", f"redraw={asked['redraw']}", "only generated images (--dataset shapes) can be redrawn")
    if config.online_probe and data.classes is None:
        refuse("online_probe", True, f"the training images of --dataset {config.dataset} have no labels")
    for name in ("saturation", "hue", "grayscale"):
        if asked.get(name) and data.shape[0] == 1 and not config.resume:  # then all strengths are there
            notes.append(f"--augment {name}={asked[name]} is not used by grey images")
    recipe = data.recipe._replace(**asked)
    config = dataclasses.replace(config, augment=recipe._asdict(), **unread, **data.options)
    return config, data._replace(recipe=recipe), notes


class Setting(NamedTuple):
    """What options are resolved for, beside each other."""

    given: Config  # as it was asked for
    method: Method
    solve: Callable
    num_images: int
    shape: tuple[int, int, int]
    num_labelled: int  # what kNN compares with; 0: nothing

    @property
    def read(self) -> dict[str, Any]:
        """The hyper-parameters that solver, objective and loop read, and their defaults."""
        of_loop = {"k": self.method.k} if self.method.any_k else {}
        return hyperparameters(self.solve) | hyperparameters(self.method.objective) | of_loop


Options = Mapping[str, Any]
Changes = tuple[dict[str, Any], list[str]]  # options that come to have another value, and notes for the user


def resolve(
    config: Config,
    num_images: int,
    shape: tuple[int, int, int],
    num_labelled: int | None = None,
    *,
    solver: Callable | None = None,
) -> tuple[Config, list[str]]:
    """The configuration with every open choice made, for a data set of num_images of `shape`; and notes for the user.

    num_labelled: how many images kNN compares with, where these are not all; 0 where there are no labels.
    solver: in place of the configuration's.
    Raises ConfigError for options that do not go together.
    """
    o: dict[str, Any] = dict(vars(preset(config)))
    method = METHODS[o["mode"]]
    solve = solver or (load_solver(o["eta"]) if o["eta"] else method.solve)
    setting = Setting(config, method, solve, num_images, shape, num_images if num_labelled is None else num_labelled)
    notes: list[str] = []
    for rule in RULES:
        changes, said = rule(o, setting)
        o |= changes
        notes += said
    return Config(**o), notes


def _hyperparameters(o: Options, s: Setting) -> Changes:
    """Hyper-parameters that something reads have a value; the others are left out."""
    missing = [n for n, default in hyperparameters(s.solve).items() if default is inspect.Parameter.empty]
    if missing:
        refuse("eta", o["eta"], f"its parameter {missing[0]} needs a default")
    if "k" in hyperparameters(s.solve):
        refuse("eta", o["eta"], "k belongs to the loop, call it otherwise")
    for name in hyperparameters(s.solve):
        if name in o and name not in HYPERPARAMETERS:
            refuse("eta", o["eta"], f"its parameter {name} is an option that is not a solver's; call it otherwise")
    changes: dict[str, Any] = {}
    notes = []
    for name in HYPERPARAMETERS:
        if name in s.read:
            changes[name] = s.read[name] if o[name] is None else o[name]
        elif o[name] is not None:
            solver = f" --eta {o['eta']}" if o["eta"] else ""
            other = " (--mode multistep holds θ for k steps)" if name == "k" else ""
            notes.append(f"{flag(name)} {o[name]} is not used by --mode {o['mode']}{solver}{other}")
            changes[name] = None
    changes["eta_args"] = typed(s.solve, o["eta_args"])
    if "queue" in s.read and o["queue"] is None and s.solve in SOLVERS.values():
        few = 2 ** int(math.log2(max(1, s.num_images // 4)))  # few keys of the same image
        changes["queue"] = min(changes["queue"], few)
    return changes, notes


def _of_method(o: Options, s: Setting) -> Changes:
    """What the method chooses, or has no use for."""
    changes: dict[str, Any] = {"bn": o["bn"] or s.method.bn}
    changes["stop_grad"] = s.method.stop_grad if o["stop_grad"] is None else o["stop_grad"]
    notes = []
    for name, used, default in (
        ("prototypes", s.method.prototypes, min(3000, o["dim"])),
        ("similarity", s.method.objective is loss, "cosine"),
    ):
        if used:
            changes[name] = o[name] or default
        elif o[name] is not None:
            notes.append(f"{given_flag(name, o[name])} is not used by --mode {o['mode']}")
            changes[name] = None
    return changes, notes


def _bank(o: Options, s: Setting) -> Changes:
    """A bank in a file needs room on its disk."""
    if o["bank"] not in (None, "device", "host"):
        of_z = torch.float64 if o["precision"] == "fp64" else torch.float32
        _check_disk(o["bank"], needed(s.num_images, o["prototypes"] or o["dim"], o["bank_dtype"] or "fp32", of_z))
    return {}, []


def _batch(o: Options, s: Setting) -> Changes:
    """A batch is a part of the images, and each process and group has a part of it; k in steps."""
    size = ranks.world_size()
    if s.num_images < 2:
        refuse("dataset", o["dataset"], f"has {s.num_images} image to train on; allowed is 2 or more")
    if not 2 <= o["batch_size"] <= s.num_images:
        refuse("batch_size", o["batch_size"], f"allowed is 2 to {s.num_images}, the training images of {o['dataset']}")
    if o["batch_size"] % size:
        refuse("batch_size", o["batch_size"], f"allowed is a multiple of the {size} processes")
    groups = o["shuffle_bn"] or 1
    if groups > 1 and (o["batch_size"] % (groups * size) or o["batch_size"] < 2 * groups):
        of = f"{size} processes' " if size > 1 else ""
        refuse("shuffle_bn", groups, f"allowed is what divides the {of}--batch-size {o['batch_size']} into 2 or more")
    return ({"k": s.num_images // o["batch_size"]} if o["k"] == "epoch" else {}), []


def _gradient(o: Options, s: Setting) -> Changes:
    """The solver gives what the objective needs, and a gradient where there is no stop-gradient."""
    if s.solve in SOLVERS.values() and s.solve is not s.method.solve and not fit_together(s.solve, s.method.objective):
        refuse("eta", s.solve.__name__, f"gives no target that the objective of --mode {o['mode']} is defined for")
    wants = of_objective(SIMILARITIES[o["similarity"] or "cosine"]).takes
    if wants and of_solver(s.solve).gives != wants:
        gives = f"{name_of(s.solve)} gives {of_solver(s.solve).gives}"
        refuse("similarity", o["similarity"], f"is for targets that are {wants}, and {gives}")
    if of_solver(s.solve).needs_h and s.method.prototypes:
        raise ConfigError(
            f"--mode {o['mode']}: {name_of(s.solve)} asks for h of z, and here h stands before prototypes"
        )
    if not o["stop_grad"] and (not of_solver(s.solve).passes_gradient or s.method.held or (o["k"] or 1) > 1):
        given = f"--mode {o['mode']}" + (f" --eta {o['eta']}" if o["eta"] else "")
        given += f" --k {o['k']}" if (o["k"] or 1) > 1 and not s.method.held else ""
        reason = "a gradient passes only through the other view under the same θ, with k = 1"
        if s.given.stop_grad is None:
            raise ConfigError(f"{given}: this mode has no stop-gradient, and {reason}; add --stop-grad")
        raise ConfigError(f"--no-stop-grad with {given}: {reason} and --mode onestep or swav")
    return {}, []


def _network(o: Options, s: Setting) -> Changes:
    """Backbone and heads: what follows from the size of images, and what a part has no use for."""
    predictor, side = o["predictor"] or s.method.predictor, max(s.shape[1:])
    arch = o["arch"] or ("tiny" if side <= 32 else "resnet18")
    changes: dict[str, Any] = {"predictor": predictor, "arch": arch}
    notes, pred_dim = [], o["pred_dim"]
    if predictor == "none" and of_solver(s.solve).needs_h:
        given = f"--predictor none with --eta {name_of(s.solve)}"
        raise ConfigError(f"{given}: this solver asks for h; add --predictor mlp, or another")
    if predictor not in ("mlp", "fixed") and pred_dim is not None:
        notes.append(f"--pred-dim {pred_dim} is not used by --predictor {predictor}")
        changes["pred_dim"] = pred_dim = None
    if o["bn"] == "all" and predictor not in ("mlp", "fixed"):
        refuse("bn", "all", f"--predictor {predictor} has no output BN")
    if o["proj_layers"] == 1:
        changes["hidden_dim"] = None
    if predictor in ("mlp", "fixed"):
        changes["pred_dim"] = max(1, o["dim"] // 4) if pred_dim is None else pred_dim
    for name, default, used, reason in (
        ("fix_pred_lr", True, predictor in ("mlp", "linear"), f"--predictor {predictor} is not trained"),
        ("output_affine", True, o["bn"] in ("default", "all"), f"--bn {o['bn']} has no BN on the projector's output"),
        (
            "stem",
            "imagenet" if side > 64 else "cifar",
            networks.is_resnet(arch),
            f"--arch {arch} has no stem to choose",
        ),
    ):
        if used:
            changes[name] = default if o[name] is None else o[name]
        elif o[name] is not None:
            refuse(name, o[name], reason)
    return changes, notes


def _length(o: Options, s: Setting) -> Changes:
    """When alternations are watched; what the length of training and the number of labels allow."""
    per_epoch = s.num_images // o["batch_size"]
    looks = min(LOOKS, o["epochs"] * per_epoch // APART)
    every = o["diagnose_every"] or (max(1, o["epochs"] // looks) if looks else math.ceil(APART / per_epoch))
    if o["resume"] and o["out"] is None:
        raise ConfigError("--resume: which run? add --out DIR")
    if o["warmup_epochs"] > o["epochs"]:
        refuse("warmup_epochs", o["warmup_epochs"], f"allowed is at most --epochs {o['epochs']}")
    if o["knn_k"] > s.num_labelled > 0:
        allowed = f"allowed is at most {s.num_labelled}, what kNN compares with on {o['dataset']}"
        refuse("knn_k", o["knn_k"], allowed)
    notes = []
    if per_epoch == 1 and s.num_images > o["batch_size"]:
        left = s.num_images - o["batch_size"]
        more = f"; --batch-size {o['batch_size'] // 2} would make it {s.num_images // (o['batch_size'] // 2)} steps"
        notes.append(f"an epoch is one step of {o['batch_size']} of {s.num_images} images, and leaves {left} out{more}")
    return {"diagnose_every": every}, notes


def _machine(o: Options, s: Setting) -> Changes:
    """Device, precision, threads."""
    cuda = torch.cuda.is_available()
    if o["device"] == "cuda" and not cuda:
        refuse("device", "cuda", "this machine has no CUDA device that PyTorch can use; allowed is cpu")
    device, precision = o["device"], o["precision"]
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    if precision == "auto":
        pays = o["arch"] != "tiny" or max(s.shape[1:]) > 16  # benchmarks/memory_format.py
        precision = "bf16" if pays and processor.gains_by_bf16(device) else "fp32"
    if precision == "bf16" and device == "cpu" and networks.strides_over_one_pixel(o["arch"], o["stem"], s.shape):
        if o["precision"] == "bf16":
            at = f"--arch {o['arch']} strides over maps of one pixel at {s.shape[1]}×{s.shape[2]}"
            refuse("precision", "bf16", f"{at}, where PyTorch's gradients in bf16 are wrong on a CPU; allowed is fp32")
        precision = "fp32"
    return {
        "device": device,
        "precision": precision,
        "threads": o["threads"] or torch.get_num_threads(),
        "online_probe": o["online_probe"] or None,
        "deterministic": o["deterministic"] or None,
    }, []


RULES = (
    _hyperparameters,
    _of_method,
    _bank,
    _batch,
    _gradient,
    _network,
    _length,
    _machine,
)  # each sees the ones before


def _check_disk(place: str, size: int) -> None:
    if not os.path.isdir(place) or not os.access(place, os.W_OK):
        hint = nearest(place, ("device", "host"))
        refuse("bank", place, f"allowed is device, host, or a directory that is there and can be written to{hint}")
    free, here = shutil.disk_usage(place).free, processor.sharers()
    if free < here * size:
        refuse("bank", place, f"needs {here * size / 2**20:,.0f} MiB there, and {free / 2**20:,.0f} are free")
