"""What can be chosen? One frozen dataclass holds every option, with all that is known of it: its meaning, allowed
values, default, what it is for, and how runs may be compared that differ in it.

The command line, its help and the table of docs/training.md are made from it. A field that is None takes the method's
or the network's default in `resolve`, and stays None, and out of config.json, where nothing reads it.
An option that some read is a keyword-only parameter of their functions, by its name: of solvers in `emsiam.eta`,
objectives in `emsiam.objective`, loaders in `emsiam.data.sets`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from .. import names
from ..errors import ConfigError, flag, nearest
from .declared import FLAGS, named, option
from .presets import PRESETS
from .rules import ARCH, AUGMENT, BANK, DIGEST, ETA_ARGS, PATH, SWITCH, real, solver, whole

PRECISIONS = ("auto", "fp32", "bf16", "fp64")


DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option of a run. Raises ConfigError for a value that no run could have."""

    mode: str = named("onestep", names.METHODS, "how η is solved, and what stands around it", "solver")
    eta: str | None = option(
        None,
        solver(names.SOLVERS),
        "another solver for η than the mode's, by name or your own",
        "solver",
        names=names.SOLVERS,
        unset="the mode's",
    )
    eta_args: Any = option(
        None,
        ETA_ARGS,
        "parameters of the solver without a flag of their own, such as `first=random,target=bank`; see docs/solvers.md",
        "solver",
        unset="the solver's own",
    )
    k: int | str | None = option(
        None,
        whole(1, word="epoch"),
        "SGD steps per alternation, a number or `epoch`; onestep has 1",
        "solver",
        "read_by_some",
    )
    m: float | None = option(
        None, real(0, 1), "momentum of the bank of η, or of the centroids", "solver", "read_by_some"
    )
    n: int | None = option(None, whole(1), "views averaged for η", "solver", "read_by_some")
    bank: str | None = option(
        None,
        BANK,
        "where the bank of η is: `device`, `host` (memory), or DIR, for a mapped file there, deleted with the process",
        "solver",
        *("read_by_some", "resumable", "stays"),
    )
    bank_dtype: str | None = named(
        None,
        names.BANK_DTYPES,
        "storage type of the bank's rows; averages are computed in fp32",
        "solver",
        "read_by_some",
    )
    tau: float | None = option(None, real(0, 1), "momentum of the encoder that gives η", "solver", "read_by_some")
    tau_schedule: str | None = named(
        None, names.SCHEDULES, "schedule of tau: cosine (rises to 1) or constant", "solver", "read_by_some"
    )
    queue: int | None = option(
        None,
        whole(1, 10**8),
        "negatives kept",
        "solver",
        "read_by_some",
        unset="{}, but at most about a quarter of the images",
    )
    shuffle_bn: int | None = option(
        None,
        whole(1),
        "the momentum encoder takes a batch in this many random groups, each with its own batch statistics "
        "(MoCo's groups are its GPUs); 1: not shuffled",
        "solver",
        "read_by_some",
    )
    temperature: float | None = option(None, real(0, above=True), "softmax temperature", "solver", "read_by_some")
    stop_grad: bool | None = option(None, SWITCH, "no gradient through η", "solver")
    symmetry: str = named(
        "sym",
        names.SYMMETRIES,
        "views that are trained on: both of a pair (sym), the first (asym), or the first of each of two pairs (asym2x)",
        "solver",
        "pairs",
    )
    similarity: str | None = named(None, names.SIMILARITIES, "D(p, η)", "solver", unset="cosine")

    preset: str | None = named(None, PRESETS, "the paper's settings; other flags override it", "data", unset="")
    dataset: str = named(None, names.DATASETS, "images to train on", "data", "starts_F")
    data_dir: str | None = option(
        None,
        PATH,
        "where a torchvision data set or a folder of images is",
        "data",
        *("may_differ", "no_number", "resumable", "stays", "read_by_some"),
        unset="",
    )
    download: bool = option(
        False,
        SWITCH,
        "fetch a torchvision data set there",
        "data",
        *("may_differ", "no_number", "resumable", "read_by_some"),
    )
    num_images: int | None = option(
        None,
        whole(64, 10**8),
        "shapes: how many are generated to train on, 2,000 or more; fashion_mnist: a part to train on",
        "data",
        "read_by_some",
        unset="10000 for shapes, all for fashion_mnist",
    )
    image_size: int | None = option(
        None,
        whole(7, 4096),
        "folder: side in pixels, 8 or more; fashion_mnist: 28, 14 or 7",
        "data",
        *("pairs", "read_by_some"),
        unset="that of the images, at most 224",
    )
    workers: int | None = option(
        None,
        whole(0, 1024),
        "threads of each process that read files as training goes on (T then crops from the whole file); 0: all "
        "images are kept in memory",
        "data",
        *("may_differ", "read_by_some"),
        unset="0 if the images fit in 4 GiB, else the processors, shared among the processes of a node",
    )
    labels: bool | None = option(
        None,
        SWITCH,
        "class folders, or what is handed over, are labels; off: accuracies are left out",
        "data",
        "read_by_some",
        unset="on where there are two class folders or more",
    )
    skip_broken: bool | None = option(
        None,
        SWITCH,
        "files that are no images, or damaged, are left out and counted; off: the first ends the run",
        "data",
        "read_by_some",
        unset="off",
    )
    digest: str | None = option(
        None,
        DIGEST,
        "sha256 of the images and labels that are handed over",
        "data",
        *("pairs", "read_by_some"),
        unset="computed from them",
    )
    augment: Any = option(
        None,
        AUGMENT,
        "strengths of T other than the data set's, such as `blur=0,scale=0.2:1`; names in `emsiam/recipes.py`",
        "data",
        "pairs",
        unset="the data set's",
    )

    arch: str = option(
        None,
        ARCH,
        "backbone: tiny, or a torchvision classifier's name",
        "network",
        "starts_F",
        unset="tiny up to 32×32, else resnet18",
    )
    stem: str | None = named(
        None,
        names.STEMS,
        "first layers of a ResNet",
        "network",
        "starts_F",
        unset="cifar up to 64×64, else imagenet",
    )
    dim: int = option(None, whole(1, 65536), "d, the width of z and p", "network", "starts_F")
    hidden_dim: int = option(None, whole(1, 65536), "width of the projector's hidden layers", "network", "starts_F")
    pred_dim: int | None = option(
        None, whole(1, 65536), "width of the predictor's hidden layer", "network", unset="dim/4"
    )
    proj_layers: int = option(None, whole(1, 100), "fc layers of the projector", "network", "starts_F")
    predictor: str | None = named(
        None,
        names.PREDICTORS,
        "h; directpred and directcopy are set from the correlation of z, not trained",
        "network",
    )
    prototypes: int | None = option(
        None,
        whole(1, 10**6),
        "swav: number of prototypes; z is then their scores, and h, if used, comes before them",
        "network",
        "starts_F",
        unset="3000, or d where that is less",
    )
    bn: str | None = named(None, names.BN, "batch normalisation in the heads (Table 3)", "network", "starts_F")
    output_affine: bool | None = option(
        None, SWITCH, "scale and shift in the BN of the projector's output", "network", "starts_F", unset="on"
    )

    epochs: int = option(
        None,
        whole(1),
        "passes over the training images; what does not fill a batch is left out of an epoch",
        "training",
    )
    batch_size: int = option(None, whole(1), "images per step, over all processes", "training", "pairs")
    lr: float = option(None, real(0, 1e6, above=True), "base learning rate; × batch/256", "training")
    wd: float = option(None, real(0, 1e6), "weight decay, on every parameter", "training")
    momentum: float = option(None, real(0, 1), "momentum of SGD", "training")
    warmup_epochs: int = option(None, whole(0), "epochs of linear warm-up", "training")
    schedule: str = named(None, names.SCHEDULES, "of the learning rate", "training")
    fix_pred_lr: bool | None = option(None, SWITCH, "constant lr for the predictor", "training", unset="on")
    seed: int = option(
        0,
        whole(0, 2**63 - 1),
        "initial weights, order of images, draws of T",
        "training",
        *("starts_F", "pairs", "may_differ"),
    )

    knn_k: int = option(20, whole(1), "neighbours of the kNN monitor", "monitor")
    knn_t: float = option(0.1, real(0, above=True), "temperature of the kNN monitor", "monitor")
    online_probe: bool | None = option(
        None,
        SWITCH,
        "a linear classifier trained beside, on detached features of the views (`probe_acc1`); it changes nothing in "
        "what is trained",
        "monitor",
        unset="off",
    )
    eval_every: int = option(10, whole(1), "epochs between kNN evaluations", "monitor", "may_differ")
    log_every: int = option(30, whole(1), "steps between lines of metrics.jsonl", "monitor", "may_differ")
    save_every: int = option(10, whole(1), "epochs between checkpoints", "monitor", "may_differ", "resumable", "stays")
    diagnose_every: int | None = option(
        None,
        whole(1),
        "epochs between looks at an alternation",
        "monitor",
        "may_differ",
        unset="a third of the run, at least 600 steps",
    )

    precision: str = named(
        "auto",
        PRECISIONS,
        "auto: bf16 if the processor is fast at it, except for `tiny` on images up to 16×16; else fp32",
        "where",
    )
    device: str = named("auto", DEVICES, "auto: cuda where present", "where", "may_differ")
    threads: int | None = option(None, whole(1, 1024), "CPU threads", "where", "may_differ", unset="PyTorch's")
    deterministic: bool | None = option(
        None,
        SWITCH,
        "only kernels that give the same bits each time; slower on a GPU; on a CPU this is so also without the option",
        "where",
        "may_differ",
        unset="off",
    )
    out: str | None = option(
        None,
        PATH,
        "run directory",
        "where",
        *("may_differ", "no_number", "resumable"),
        unset="`runs/<dataset>-<mode>-<time>`",
    )
    resume: bool = option(
        False,
        SWITCH,
        "go on with the run that --out holds, or start it",
        "where",
        *("may_differ", "no_number", "resumable"),
    )
    overwrite: bool = option(
        False, SWITCH, "replace the run that --out holds", "where", "may_differ", "no_number", "resumable"
    )
    quiet: bool = option(False, SWITCH, "no progress bar", "where", "may_differ", "no_number", "resumable")

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
        """The width of z: d, or the number of prototypes where F ends in their scores."""
        return self.prototypes or self.dim

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds: every option that something reads."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def having(flag: str, role: str = "") -> tuple[str, ...]:
    """The options of which one of FLAGS is true, of one of ROLES or of all."""
    if flag not in FLAGS:
        raise KeyError(flag)
    return tuple(
        f.name
        for f in dataclasses.fields(Config)
        if flag in f.metadata["flags"] and f.metadata["role"] in (role or f.metadata["role"])
    )


def of_role(role: str) -> tuple[str, ...]:
    """The options of one of ROLES."""
    return tuple(f.name for f in dataclasses.fields(Config) if f.metadata["role"] == role)


HYPERPARAMETERS = having("read_by_some", "solver")  # of solvers and objectives; k is the loop's


DATA_OPTIONS = having("read_by_some", "data")  # of data sets
