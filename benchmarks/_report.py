"""BENCHMARKS.md: one section a benchmark, each written by its own command."""

import platform
import re
import time
from pathlib import Path

import torch

from emsiam import processor

FILE = Path(__file__).parent.parent / "BENCHMARKS.md"
HEAD = (
    "# Benchmarks\n\nTimes within a section are of one run on one machine, interleaved; ratios are what carries over. "
    "Each section names its\nprocessor: on CUDA nothing has been timed yet. `make bench` makes all of them.\n"
)


def write(command: str, text: str) -> None:
    """Put a section under the command that makes it, in place of the one before."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else processor.name()
    made = f"{time.strftime('%Y-%m-%d')}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    section = f"\n## `{command}`\n\n*{made}, Python {platform.python_version()}.*\n\n{text.strip()}\n"
    old = FILE.read_text() if FILE.exists() else HEAD
    _, *sections = re.split(r"(?=\n## `)", old)
    kept = [s for s in sections if not s.startswith(f"\n## `{command}`")]
    FILE.write_text(HEAD + "".join(sorted([*kept, section])))
    print(text)
