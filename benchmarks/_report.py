"""BENCHMARKS.md: one section a benchmark, each written by its own command."""

import platform
import re
import time
from pathlib import Path

import torch

from emsiam import processor

FILE = Path(__file__).parent.parent / "BENCHMARKS.md"
HEAD = """# Benchmarks

Times within a section are of one run on one machine; ratios are what carries over. Contenders take
turns, except in `bank.py`, in `growth.py` with 1 against 2 processes, and in `threads.py` with the
quiet machine against the busy one: there one ends before the other begins. Each section names its
processor: on CUDA nothing has been timed yet. `make bench` makes all of them.

What words mean:

- `bank.py`: *peak memory* is that of the process, and *of it before* is its peak before the bank
  was made. *Largest difference to an average apart*: of a stored row, to the same average formed
  separately and kept in fp32; it is the rounding of bf16.
- `folders.py`: *w* is the number of reading threads of emsiam, and of worker processes of the
  others' DataLoaders. The others make T in their workers; emsiam makes T in the main process, since
  it is meant for a GPU. *no T* is emsiam without T: files are read, decoded and cropped, which is
  what its CPU does where T runs on a GPU. *× the fastest other* compares images/s with the fastest
  of torchvision v1, v2 and lightly. *× the cheapest other* compares CPU time per image with the one
  of them that takes least; above 1 is cheaper than that one.
- `growth.py`: the exponent is the slope of log time over log size, by the upper half of the sizes;
  1 is linear.
- `throughput.py`: *lightly, bf16, channels_last* is its recipe as tuned for processors that are
  fast in bf16. The Intel processor below has no AMX, and there this recipe is slower than the plain
  one in fp32: compare with the plain one.

Two aims were set: a step at 0.97 times the speed of the model alone (`throughput.py`), and folders
read at 1.3 times the others' speed (`folders.py`). The sections say how far each is met, and what is
in the way: of the first a step's batch, which is T above all; of the second T on one thread of the
main process ([LOG.md](LOG.md)).
"""


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
