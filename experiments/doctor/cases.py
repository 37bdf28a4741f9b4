"""What is trained? Healthy runs, runs that lose images, runs that lose rank, and runs that only look ill."""

from collections.abc import Mapping
from typing import Any, NamedTuple

SEEDS = (200, 201, 202)
FEW = SEEDS[:2]


class DataSet(NamedTuple):
    """A set that is trained on, and when it is looked at."""

    options: Mapping[str, Any]
    looks: tuple[int, ...]  # steps
    weak: str  # augmentation that leaves views nearly the same


DATA = {
    "digits": DataSet({"epochs": 400}, (0, 20, 69, 275, 1100, 4400), "scale=0.9:1,degrees=2,noise=0.01"),
    "shapes": DataSet(
        {"dataset": "shapes", "num_images": 2000, "batch_size": 32, "epochs": 18, "lr": 0.3},
        (0, 20, 69, 275, 1100),
        "redraw=1",
    ),
    "Fashion-MNIST": DataSet(
        {"dataset": "fashion_mnist", "image_size": 14, "num_images": 1280, "batch_size": 64, "epochs": 55},
        (0, 20, 69, 275, 1100),
        "scale=0.9:1,flip=0",
    ),
    "mnist5k": DataSet(
        {"dataset": "mnist5k", "image_size": 14, "num_images": 1280, "batch_size": 64, "epochs": 55},
        (0, 20, 69, 275, 1100),
        "scale=0.9:1,degrees=2,noise=0.01",
    ),
}


class Case(NamedTuple):
    """A way to train."""

    name: str
    data: str
    options: Mapping[str, Any]
    seeds: tuple[int, ...] = SEEDS
    supervised: bool = False  # z is trained to name classes


# In every data set. What is looked at is what z and p have become, not whether a method is good.
EVERYWHERE: dict[str, dict[str, Any]] = {
    "SimSiam": {},
    "no stop-gradient": {"stop_grad": False},
    "no predictor": {"predictor": "none"},
    "fixed predictor": {"predictor": "fixed"},
    "h∘F as target": {"eta": "predicted"},
    "h in the η-step": {"predictor": "none", "eta": "regressed"},
    "λ = 0.5": {"eta": "mixed", "eta_args": "part=0.5"},
    "λ = 0.9": {"eta": "mixed", "eta_args": "part=0.9"},
    "moving average": {"mode": "ema_eta", "m": 0.8},  # on digits at 1.6, 6, 25 and 100 of its lags
    "SimCLR": {"mode": "simclr"},
    "VICReg": {"mode": "vicreg"},
    "SIGReg": {"mode": "sigreg"},
}
NO_AUGMENTATION = "scale=1:1,ratio=1:1,degrees=0,brightness=0,contrast=0,noise=0"
ONCE = (
    Case("no augmentation", "digits", {"augment": NO_AUGMENTATION}),
    Case("random targets", "digits", {"eta": "random_targets", "predictor": "none"}),
    Case("no BN at the output", "digits", {"bn": "hidden"}),
    Case("no BN at the output, no predictor", "digits", {"bn": "hidden", "predictor": "none"}),
    Case("BN of the output not affine", "digits", {"output_affine": False}),
    Case("lr 1", "shapes", {"lr": 1.0}),
    *(
        Case(f"{name}, d = {width}", "digits", {"dim": width, **options}, FEW)
        for width in (32, 512, 2048)
        for name, options in (("SimSiam", {}), ("no predictor", {"predictor": "none"}))
    ),
)


def cases() -> list[Case]:
    """All that is trained."""
    everywhere = [Case(name, data, options) for data in DATA for name, options in EVERYWHERE.items()]
    weak = [Case("weak augmentation", data, {"augment": of.weak}) for data, of in DATA.items()]
    supervised = [Case("supervised", data, {"predictor": "none"}, supervised=True) for data in DATA]
    return [*everywhere, *weak, *supervised, *ONCE]
