"""What may numbers depend on beside the options?"""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import processor
from ..config import Config


def environment(config: Config) -> dict[str, Any]:
    """What the numbers may depend on beside the options."""
    from ..ranks import world_size

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if config.device == "cuda" else processor.name(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "commit": _commit(),
        "command": sys.argv,
        "eta": source(config.eta),
    }


def source(eta: str | None) -> str | None:
    """The text of the file that a solver is in; None of one of the package."""
    return Path(eta.rpartition(":")[0]).read_text() if eta and ":" in eta else None


def _commit() -> str | None:
    """The commit of this code where it lies in a checkout, with + where the package's files differ from it."""

    def git(*command):
        done = subprocess.run(
            ["git", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
