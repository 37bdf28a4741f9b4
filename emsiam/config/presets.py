"""What stands where nothing is chosen? Defaults < the data set's < the preset's < what is given."""

from typing import Any

# Defaults < the data set's < the preset's < what is given.
DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
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
