"""What can be chosen? One frozen dataclass holds every option, with its meaning, allowed values and default.

The command line is made from it. A field that is None takes the method's or the network's default in `resolve`,
and stays None, and out of config.json, where nothing reads it.
"""

import argparse
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import torch

from . import networks, optim, ranks
from .data import DATASETS, SYMMETRY, ImageSet
from .eta import SOLVERS
from .eta.bank import DTYPES, needed
from .methods import METHODS, hyperparameters
from .objective import SIMILARITIES, loss
from .traits import fit_together, of_solver
from .views import LIMITS, Recipe, strength

PRECISIONS = ("auto", "fp32", "bf16", "fp64")
DEVICES = ("auto", "cpu", "cuda")
# Defaults < the data set's < the preset's < what is given.
DEFAULTS: dict[str, Any] = {
    "epochs": 120,
    "batch_size": 128,
    "lr": 0.1,
    "wd": 5e-4,
    "momentum": 0.9,
    "warmup_epochs": 0,
    "schedule": "cosine",
    "dim": 128,
    "hidden_dim": 128,
    "proj_layers": 3,
}
DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 20},
    "mnist5k": {"epochs": 40},
    "mnist": {"epochs": 10},
    "fashion_mnist": {"epochs": 10},
    "cifar10": {"epochs": 30},
    "cifar100": {"epochs": 30},
    "stl10": {"epochs": 20},
    "folder": {"epochs": 30},
}
PRESETS: dict[str, dict[str, Any]] = {
    "simsiam-cifar10": {  # Appendix D
        "dataset": "cifar10",
        "arch": "resnet18",
        "epochs": 800,
        "batch_size": 512,
        "lr": 0.03,
        "wd": 5e-4,
        "momentum": 0.9,
        "warmup_epochs": 0,
        "schedule": "cosine",
        "dim": 2048,
        "hidden_dim": 2048,
        "proj_layers": 2,
    },
    "simsiam-imagenet": {  # §4 "Baseline settings"
        "dataset": "folder",
        "image_size": 224,
        "arch": "resnet50",
        "epochs": 100,
        "batch_size": 512,
        "lr": 0.05,
        "wd": 1e-4,
        "momentum": 0.9,
        "warmup_epochs": 0,
        "schedule": "cosine",
        "dim": 2048,
        "hidden_dim": 2048,
        "proj_layers": 3,
    },
}
LOOKS, APART = 3, 600  # alternations watched unasked, at most, and steps between: one costs as much as about 25
# read by some solvers and objectives only; k by the loop
HYPERPARAMETERS = ("k", "m", "n", "bank", "bank_dtype", "tau", "tau_schedule", "queue", "shuffle_bn", "temperature")
DATA_OPTIONS = ("data_dir", "download", "num_images", "image_size", "workers")  # read by some data sets only


class ConfigError(ValueError):
    """A wrong option or input, in one line: which flag or file, what it is, what is allowed."""


class Rule(NamedTuple):
    """Which values an option takes. parse: what was given to the value, or ValueError, TypeError or KeyError."""

    allowed: str
    parse: Callable[[Any], Any]

    def of_argument(self, text: str) -> Any:
        """The value of a command-line argument, as argparse asks for it."""
        try:
            return self.parse(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text} is not {self.allowed}") from None


def whole(low: int, high: int = 10**6, *, word: str | None = None) -> Rule:
    def parse(value):
        if word is not None and value == word:
            return value
        number = int(value)
        if isinstance(value, bool) or not low <= number <= high or (not isinstance(value, str) and number != value):
            raise ValueError
        return number

    return Rule(f"a whole number from {low} to {high}" + (f", or {word}" if word else ""), parse)


def real(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """low ≤ value ≤ high, finite; above: low itself is not allowed."""

    def parse(value):
        number = float(value)
        if (
            isinstance(value, bool)
            or not (low <= number <= high and math.isfinite(number))
            or (above and number == low)
        ):
            raise ValueError
        return number

    span = f"{'>' if above else '≥'} {low:g}" + ("" if math.isinf(high) else f" and ≤ {high:g}")
    return Rule(f"a number {span}", parse)


def one_of(names: Iterable[str]) -> Rule:
    table = {name: name for name in names}
    listing = list(table) if len(table) <= 12 else [*list(table)[:3], "… (see docs/training.md)"]
    return Rule(", ".join(listing), table.__getitem__)


def nearest(value: Any, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(value), names, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _switch(value):
    if not isinstance(value, bool):
        raise ValueError
    return value


def _path(value):
    if not str(value):
        raise ValueError
    return str(value)


def _augment(value):
    """NAME=STRENGTH,… or a dict, to {name: strength}."""
    items = dict(item.split("=") for item in value.split(",")) if isinstance(value, str) else dict(value)
    strengths = {}
    for name, v in items.items():
        if name not in LIMITS:
            refuse("augment", f"{name}={v}", f"allowed is {', '.join(LIMITS)}{nearest(name, LIMITS)}")
        try:
            strengths[name] = strength(name, v)
        except (ValueError, TypeError):
            low, high = LIMITS[name]
            kind = type(Recipe._field_defaults[name])
            what = {int: "a whole number", bool: "0 or 1,", tuple: "LOW:HIGH, both"}.get(kind, "a number")
            refuse("augment", f"{name}={v}", f"allowed is {what} from {low} to {high}")
    return strengths


AUGMENT = Rule(f"NAME=STRENGTH or NAME=LOW:HIGH, with commas between, of {', '.join(LIMITS)}", _augment)
SWITCH = Rule("true or false", _switch)
PATH = Rule("a path", _path)
BANK = Rule("device, host, or a directory for a memory-mapped file", _path)
SOLVER = Rule(f"{', '.join(SOLVERS)}, or FILE.py:FUNCTION", _path)


def option(default: Any, rule: Rule, help: str, names: Iterable[str] = ()) -> Any:
    """A field: its default, the values it takes, its meaning and unit; names: valid ones, to propose the nearest."""
    return field(default=default, metadata={"rule": rule, "help": help, "names": tuple(names)})


def named(default: Any, names: Iterable[str], help: str) -> Any:
    names = tuple(names)
    return option(default, one_of(names), help, names)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option of a run. Raises ConfigError for a value that no run could have."""

    mode: str = named("onestep", METHODS, "how η is solved, and what stands around it")
    eta: str | None = option(None, SOLVER, "another solver for η than the mode's, by name or your own", SOLVERS)
    k: int | str | None = option(None, whole(1, word="epoch"), "SGD steps per alternation (multistep 10, else 1)")
    m: float | None = option(None, real(0, 1), "momentum of the bank of η (0.8)")
    n: int | None = option(None, whole(1), "views averaged for η (4)")
    bank: str | None = option(None, BANK, "where the bank of η is: device, host, or DIR, a file mapped there (device)")
    bank_dtype: str | None = named(None, DTYPES, "of the bank's rows; averages are formed in fp32 (fp32)")
    tau: float | None = option(None, real(0, 1), "momentum of the encoder that gives η (0.99)")
    tau_schedule: str | None = named(None, optim.SCHEDULES, "of tau: to 1 at the end, or constant (byol cosine)")
    queue: int | None = option(None, whole(1, 10**8), "moco: negatives kept (65,536, but a quarter of the images)")
    shuffle_bn: int | None = option(None, whole(1), "moco: random groups that keys pass in, each with its own BN (1)")
    temperature: float | None = option(None, real(0, above=True), "of simclr and moco (0.2), swav (0.1)")
    prototypes: int | None = option(None, whole(1, 10**6), "swav: how many (3,000, or d where that is less)")

    preset: str | None = named(None, PRESETS, "the paper's settings; other flags override it")
    dataset: str = named(None, DATASETS, "images to train on")
    data_dir: str | None = option(None, PATH, "where a torchvision data set or a folder of images is")
    download: bool = option(False, SWITCH, "fetch a torchvision data set there")
    num_images: int | None = option(None, whole(2000, 10**8), "shapes: how many are generated to train on (10,000)")
    image_size: int | None = option(None, whole(8, 4096), "folder: side in pixels (of its images, at most 224)")
    workers: int | None = option(None, whole(0, 1024), "folder: threads that read files; 0: all are kept in memory")
    augment: Any = option(None, AUGMENT, "strengths of T other than the data set's, as blur=0,scale=0.2:1")
    arch: str = option(None, one_of(networks.archs()), "backbone: tiny or a torchvision classifier", networks.archs())
    stem: str | None = named(None, networks.STEMS, "first layers of a ResNet (cifar up to 64×64, else imagenet)")

    epochs: int = option(None, whole(1), "passes over the training images")
    batch_size: int = option(None, whole(1), "images a step, over all processes")
    lr: float = option(None, real(0, 1e6, above=True), "base learning rate; × batch/256")
    wd: float = option(None, real(0, 1e6), "weight decay, on every parameter")
    momentum: float = option(None, real(0, 1), "of SGD")
    warmup_epochs: int = option(None, whole(0), "epochs of linear warm-up")
    schedule: str = named(None, optim.SCHEDULES, "of the learning rate")

    dim: int = option(None, whole(1, 65536), "d, the width of z and p")
    hidden_dim: int = option(None, whole(1, 65536), "width of the projector's hidden layers")
    pred_dim: int | None = option(None, whole(1, 65536), "width of the predictor's hidden layer (dim/4)")
    proj_layers: int = option(None, whole(1, 100), "fc layers of the projector")
    predictor: str | None = named(None, networks.PREDICTORS, "h (mlp; ema_eta none)")
    fix_pred_lr: bool | None = option(None, SWITCH, "constant lr for the predictor (on)")
    stop_grad: bool | None = option(None, SWITCH, "no gradient through η (on; off for simclr, vicreg, barlow, sigreg)")
    symmetry: str = named("sym", SYMMETRY, "which views train θ: both, one, or one of each of two pairs")
    similarity: str | None = named(None, SIMILARITIES, "D(p, η) (cosine)")
    bn: str | None = named(None, networks.BN, "batch normalisation in the heads, Table 3 (default; vicreg … hidden)")
    output_affine: bool | None = option(None, SWITCH, "scale and shift in the BN of the projector's output (on)")

    precision: str = named(
        "auto", PRECISIONS, "auto: bf16 where the processor has it, but for tiny on images up to 16×16; else fp32"
    )
    device: str = named("auto", DEVICES, "auto: cuda where present")
    threads: int | None = option(None, whole(1, 1024), "CPU threads (PyTorch's default)")
    seed: int = option(0, whole(0, 2**63 - 1), "initial weights, order of images, draws of T")

    knn_k: int = option(20, whole(1), "neighbours of the kNN monitor")
    knn_t: float = option(0.1, real(0, above=True), "temperature of the kNN monitor")
    online_probe: bool | None = option(None, SWITCH, "a linear classifier trained beside, on detached features (off)")
    out: str | None = option(None, PATH, "run directory (runs/<dataset>-<mode>-<time>)")
    resume: bool = option(False, SWITCH, "go on with the run that --out holds, or start it")
    overwrite: bool = option(False, SWITCH, "replace the run that --out holds")
    eval_every: int = option(10, whole(1), "epochs between kNN evaluations")
    log_every: int = option(30, whole(1), "steps between lines of metrics.jsonl")
    save_every: int = option(10, whole(1), "epochs between checkpoints")
    diagnose_every: int | None = option(
        None, whole(1), "epochs between looks at an alternation (three looks, 600 steps apart or more)"
    )
    quiet: bool = option(False, SWITCH, "no progress bar")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            rule = f.metadata["rule"]
            try:
                object.__setattr__(self, f.name, rule.parse(value))
            except ConfigError:
                raise
            except (ValueError, TypeError, KeyError, OverflowError):
                hint = nearest(value, f.metadata["names"])
                raise ConfigError(f"{flag(f.name)} {value}: allowed is {rule.allowed}{hint}") from None

    @property
    def width(self) -> int:
        """Of z: d, or the number of prototypes where F ends in their scores."""
        return self.prototypes or self.dim

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds: every option that something reads."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def given_flag(name: str, value: Any) -> str:
    """An option as it is written on the command line."""
    if isinstance(value, dict):
        spans = {n: v if isinstance(v, list | tuple) else [v] for n, v in value.items()}
        value = ",".join(
            f"{n}={':'.join(str(int(x) if isinstance(x, bool) else x) for x in v)}" for n, v in spans.items()
        )
    return flag(name) if value is True else flag("no_" + name) if value is False else f"{flag(name)} {value}"


def refuse(name: str, value: Any, reason: str) -> NoReturn:
    raise ConfigError(f"{given_flag(name, value)}: {reason}")


def check_folder(name: str, file: str | None) -> None:
    """Raises ConfigError where a file that is to be written has no folder, or is one: before the work, not after it."""
    if file is not None and not Path(file).parent.is_dir():
        refuse(name, file, f"there is no folder {Path(file).parent}")
    if file is not None and Path(file).is_dir():
        refuse(name, file, "is a folder; allowed is a file")


def preset(config: Config) -> Config:
    """The configuration with the data set's and the preset's values where nothing else is given."""
    chosen = PRESETS.get(config.preset or "", {})
    dataset = config.dataset or chosen.get("dataset", "digits")
    values: dict[str, Any] = DEFAULTS | DATASET_DEFAULTS.get(dataset, {}) | chosen | {"dataset": dataset}
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
    file, colon, name = eta.rpartition(":")
    if not colon or not file.endswith(".py"):
        refuse("eta", eta, f"allowed is {SOLVER.allowed}{nearest(eta, SOLVERS)}")
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


class Parser(argparse.ArgumentParser):
    """Raises ConfigError for what cannot be parsed."""

    def error(self, message):
        raise ConfigError(message.removeprefix("argument "))


def parser() -> argparse.ArgumentParser:
    """The command line: a flag for each field, absent from the result where it is not given."""
    p = Parser(prog="python -m emsiam.train", description="Train SimSiam and its EM variants.", allow_abbrev=False)
    for f in dataclasses.fields(Config):
        help = f.metadata["help"] + ("" if f.default is None or isinstance(f.default, bool) else f" ({f.default})")
        if f.metadata["rule"] is SWITCH:
            action = "store_true" if f.default is False else argparse.BooleanOptionalAction
            p.add_argument(flag(f.name), action=action, default=argparse.SUPPRESS, help=help)
        else:
            p.add_argument(flag(f.name), default=argparse.SUPPRESS, metavar=f.name.upper(), help=help)
    return p


def parse(arguments: list[str]) -> tuple[Config, set[str]]:
    """The configuration of a command line, and the names of the options that it gives. Raises ConfigError."""
    p = parser()
    arguments = arguments[arguments[:1] == ["--"] :]  # torchrun needs it before --m, and may hand it on
    known, unknown = p.parse_known_args(arguments)
    if unknown:
        flags = [s for action in p._actions for s in action.option_strings]
        raise ConfigError(f"{unknown[0]}: no such option{nearest(unknown[0].split('=')[0], flags)}")
    return Config(**vars(known)), set(vars(known))
