"""What follows from what was chosen? Options that depend on the data, the method or the machine."""

import dataclasses
import functools
import importlib.util
import inspect
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import networks, ranks
from ..data import DATASETS, ImageSet
from ..errors import ConfigError, flag, given_flag, nearest, refuse
from ..eta import SOLVERS
from ..eta.bank import needed
from ..methods import METHODS, hyperparameters
from ..objective import loss
from ..traits import fit_together, of_data_set, of_solver
from .options import DATA_OPTIONS, DEFAULTS, HYPERPARAMETERS, PRESETS, Config

LOOKS, APART = 3, 600  # alternations watched unasked, at most, and steps between: one costs as much as about 25


def preset(config: Config) -> Config:
    """The configuration with the data set's and the preset's values where nothing else is given."""
    chosen = PRESETS.get(config.preset or "", {})
    dataset = config.dataset or chosen.get("dataset", DEFAULTS["dataset"])
    values = DEFAULTS | dict(of_data_set(DATASETS[dataset]).defaults) | chosen | {"dataset": dataset}
    return dataclasses.replace(config, **{n: v for n, v in values.items() if getattr(config, n) is None})


def load_images(config: Config) -> tuple[Config, ImageSet, list[str]]:
    """The data set of a configuration, that configuration with what the data set chose, and notes for the user.

    Raises ConfigError where there is no such data.
    """
    config = preset(config)
    loader = DATASETS[config.dataset]
    read = hyperparameters(loader)
    notes = []
    unread: dict[str, Any] = {}
    for name in DATA_OPTIONS:
        if name not in read and getattr(config, name) not in (None, False):
            notes.append(f"{given_flag(name, getattr(config, name))} is not used by --dataset {config.dataset}")
            unread[name] = False if name == "download" else None
    try:
        data = loader(**{name: getattr(config, name) for name in read})
    except ValueError as error:
        refuse("dataset", config.dataset, str(error))
    except OSError as error:
        refuse("dataset", config.dataset, f"{error.filename} cannot be read ({error.strerror})")
    asked = config.augment or {}
    if asked.get("redraw") and not data.recipe.redraw:
        refuse("augment", f"redraw={asked['redraw']}", "only generated images (--dataset shapes) can be redrawn")
    if config.online_probe and data.classes is None:
        refuse("online_probe", True, f"the training images of --dataset {config.dataset} have no labels")
    for name in ("saturation", "hue", "grayscale"):
        if asked.get(name) and data.shape[0] == 1:
            notes.append(f"--augment {name}={asked[name]} is not used by grey images")
    recipe = data.recipe._replace(**asked)
    config = dataclasses.replace(config, augment=recipe._asdict(), **unread, **data.options)
    return config, data._replace(recipe=recipe), notes


def load_solver(eta: str) -> Callable:
    """A solver by name, or FUNCTION of FILE.py, which is run. Raises ConfigError where there is none."""
    if eta in SOLVERS:
        return SOLVERS[eta]
    file, _, name = eta.rpartition(":")
    if not Path(file).is_file():
        refuse("eta", eta, f"there is no file {file}")
    scope = vars(_module(Path(file).resolve(), Path(file).stat().st_mtime_ns, eta))
    if not callable(scope.get(name)):
        functions = [n for n, v in scope.items() if callable(v) and not n.startswith("_")]
        refuse("eta", eta, f"{file} has no function {name}{nearest(name, functions)}")
    return scope[name]


@functools.lru_cache
def _module(file: Path, changed: int, eta: str) -> ModuleType:
    """A user's file, run once as a module; its neighbours can be imported."""
    sys.path.insert(0, str(file.parent))
    try:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        refuse("eta", eta, f"{file} does not run ({type(error).__name__}: {error})")
    finally:
        sys.path.remove(str(file.parent))


def resolve(
    config: Config, num_images: int, shape: tuple[int, int, int], num_labelled: int | None = None
) -> tuple[Config, list[str]]:
    """The configuration with every open choice made, for a data set of num_images of `shape`; and notes for the user.

    num_labelled: how many images kNN compares with, where these are not all.
    Raises ConfigError for options that do not go together.
    """
    o: dict[str, Any] = dict(vars(preset(config)))
    method = METHODS[o["mode"]]
    solve = load_solver(o["eta"]) if o["eta"] else method.solve

    notes = []
    own = hyperparameters(solve)
    missing = [n for n, default in own.items() if default is inspect.Parameter.empty]
    if missing or "k" in own:
        reason = (
            f"its parameter {missing[0]} needs a default" if missing else "k belongs to the loop, call it otherwise"
        )
        refuse("eta", o["eta"], reason)
    read = own | hyperparameters(method.objective) | ({"k": method.k} if method.any_k else {})
    for name in HYPERPARAMETERS:
        if name in read:
            o[name] = read[name] if o[name] is None else o[name]
        elif o[name] is not None:
            solver = f" --eta {o['eta']}" if o["eta"] else ""
            notes.append(f"{flag(name)} {o[name]} is not used by --mode {o['mode']}{solver}")
            o[name] = None

    if "queue" in read and o["queue"] == read["queue"]:
        o["queue"] = min(o["queue"], 2 ** int(math.log2(max(1, num_images // 4))))  # few keys of the same image
    for name, used, default in (
        ("prototypes", method.prototypes, min(3000, o["dim"])),
        ("similarity", method.objective is loss, "cosine"),
    ):
        if used:
            o[name] = o[name] or default
        elif o[name] is not None:
            notes.append(f"{given_flag(name, o[name])} is not used by --mode {o['mode']}")
            o[name] = None
    o["bn"] = o["bn"] or method.bn
    o["stop_grad"] = method.stop_grad if o["stop_grad"] is None else o["stop_grad"]
    width = o["prototypes"] or o["dim"]

    if o["bank"] not in (None, "device", "host"):
        of_z = torch.float64 if o["precision"] == "fp64" else torch.float32
        _check_disk(o["bank"], needed(num_images, width, o["bank_dtype"], of_z))
    size = ranks.world_size()
    if not 2 <= o["batch_size"] <= num_images:
        refuse("batch_size", o["batch_size"], f"allowed is 2 to {num_images}, the training images of {o['dataset']}")
    if o["batch_size"] % size:
        refuse("batch_size", o["batch_size"], f"allowed is a multiple of the {size} processes")
    groups = o["shuffle_bn"] or 1
    if groups > 1 and (o["batch_size"] % (groups * size) or o["batch_size"] < 2 * groups):
        of = f"{size} processes' " if size > 1 else ""
        refuse("shuffle_bn", groups, f"allowed is what divides the {of}--batch-size {o['batch_size']} into 2 or more")
    if o["k"] == "epoch":
        o["k"] = num_images // o["batch_size"]
    if o["eta"] in SOLVERS and not fit_together(solve, method.objective):
        refuse("eta", o["eta"], f"gives no target that the objective of --mode {o['mode']} is defined for")
    if not o["stop_grad"] and (not of_solver(solve).passes_gradient or method.held or (o["k"] or 1) > 1):
        given = f"--mode {o['mode']}" + (f" --eta {o['eta']}" if o["eta"] else "")
        given += f" --k {o['k']}" if (o["k"] or 1) > 1 and not method.held else ""
        reason = "a gradient passes only through the other view under the same θ, with k = 1"
        if config.stop_grad is None:
            raise ConfigError(f"{given}: this mode has no stop-gradient, and {reason}; add --stop-grad")
        raise ConfigError(f"--no-stop-grad with {given}: {reason} and --mode onestep or swav")

    o["predictor"] = predictor = o["predictor"] or method.predictor
    if predictor not in ("mlp", "fixed") and o["pred_dim"] is not None:
        notes.append(f"--pred-dim {o['pred_dim']} is not used by --predictor {predictor}")
        o["pred_dim"] = None
    if o["bn"] == "all" and predictor not in ("mlp", "fixed"):
        refuse("bn", "all", f"--predictor {predictor} has no output BN")
    if o["proj_layers"] == 1:
        o["hidden_dim"] = None
    side = max(shape[1:])
    o["arch"] = o["arch"] or ("tiny" if side <= 32 else "resnet18")
    resnet = networks.is_resnet(o["arch"])
    for name, default, used, reason in (
        ("pred_dim", max(1, o["dim"] // 4), predictor in ("mlp", "fixed"), ""),
        ("fix_pred_lr", True, predictor in ("mlp", "linear"), f"--predictor {predictor} is not trained"),
        ("output_affine", True, o["bn"] in ("default", "all"), f"--bn {o['bn']} has no BN on the projector's output"),
        ("stem", "imagenet" if side > 64 else "cifar", resnet, f"--arch {o['arch']} has no stem to choose"),
    ):
        if used:
            o[name] = default if o[name] is None else o[name]
        elif o[name] is not None:
            refuse(name, o[name], reason)

    per_epoch = num_images // o["batch_size"]
    looks = min(LOOKS, o["epochs"] * per_epoch // APART)
    o["diagnose_every"] = o["diagnose_every"] or (o["epochs"] // looks if looks else math.ceil(APART / per_epoch))
    if o["resume"] and o["out"] is None:
        raise ConfigError("--resume: which run? add --out DIR")
    if o["warmup_epochs"] > o["epochs"]:
        refuse("warmup_epochs", o["warmup_epochs"], f"allowed is at most --epochs {o['epochs']}")
    labelled = num_labelled or num_images
    if o["knn_k"] > labelled:
        refuse("knn_k", o["knn_k"], f"allowed is at most {labelled}, what kNN compares with on {o['dataset']}")

    cuda = torch.cuda.is_available()
    if o["device"] == "cuda" and not cuda:
        refuse("device", "cuda", "this machine has no CUDA device that PyTorch can use; allowed is cpu")
    if o["device"] == "auto":
        o["device"] = "cuda" if cuda else "cpu"
    if o["precision"] == "auto":
        pays = o["arch"] != "tiny" or side > 16  # benchmarks/memory_format.py
        o["precision"] = "bf16" if pays and _fast_bf16(o["device"]) else "fp32"
    o["threads"] = o["threads"] or torch.get_num_threads()
    o["online_probe"] = o["online_probe"] or None
    o["out"] = o["out"] or f"runs/{o['dataset']}-{o['mode']}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Config(**o), notes


def _check_disk(place: str, size: int) -> None:
    if not os.path.isdir(place) or not os.access(place, os.W_OK):
        hint = nearest(place, ("device", "host"))
        refuse("bank", place, f"allowed is device, host, or a directory that is there and can be written to{hint}")
    free = shutil.disk_usage(place).free
    if free < size:
        refuse("bank", place, f"needs {size / 2**20:,.0f} MiB there, and {free / 2**20:,.0f} are free")


def _fast_bf16(device: str) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware: CUDA from Ampere on, AMX or AVX512-BF16."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
