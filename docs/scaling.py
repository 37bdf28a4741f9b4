"""docs/scaling.md: memory and traffic on many processes, and a Slurm script. `python docs/generate.py` writes it."""

import functools
import math
from pathlib import Path

import torch
from counted import (  # beside this file
    FP32,
    IMAGES,
    PER_PROCESS,
    PRESET,
    SEVERAL,
    SHAPE,
    keeps,
    of_mode,
    parameters,
    resolved,
    sent,
    shapes,
    statistics,
    step,
    traffic,
)
from torch.nn.modules.batchnorm import _BatchNorm

from emsiam import ranks
from emsiam.alternate import hold
from emsiam.build import loop_options
from emsiam.config import PRESETS
from emsiam.data.batches import SYMMETRY
from emsiam.data.headers import MANY
from emsiam.data.probe_set import PROBE_SIZE, PROBE_VIEWS
from emsiam.eta import SOLVERS, bank
from emsiam.methods import METHODS
from emsiam.traits import hyperparameters, of_solver

ROOT = Path(__file__).parents[1]
SIZES = (IMAGES, 10**9)
PROCESSES = (1, SEVERAL, 64)
MEMORY = (8, 32, 128, 512)  # GiB
PAGE = 4096  # bytes that a disk reads or writes at once
PATH = 100  # bytes that a path takes in memory, about: a string of 40 letters, and a pointer to it
BF16 = bank.dtype_of("bf16", torch.float32).itemsize
PER_IMAGE = sorted(  # those of modes first
    (name for name, f in SOLVERS.items() if of_solver(f).per_image),
    key=lambda name: SOLVERS[name] not in [m.solve for m in METHODS.values()],
)
BENCHMARK, SLURM = "python benchmarks/bank.py", "examples/slurm.sh"
TEXT = """# Many processes, many images

Made by `python docs/generate.py`. The numbers below are computed from the solvers' traits and from
the networks that the package builds; only the times of the mapped file are measured. The settings
are those of `--preset simsiam-imagenet`: ResNet-50 at 224×224, d = {d:,}. A *process* is one of
those that `torchrun` starts, usually one for each GPU; R is their number. Each process sees
b = {batch} images per step, so {several} GPUs have the paper's batch of {total}. `--batch-size` is the
total: {batches} processes.

No run with a billion images was made: [what would stop one](#what-would-stop-a-billion-images).

## Memory

### The bank

Processes share the rows of a solver that keeps one for each image: image i is row i // R of process
i mod R. So each process has N = ⌈images / R⌉ rows ([emsiam/eta/bank.py](../emsiam/eta/bank.py)). The
bytes are the solver's trait `memory`, in fp32. `ema_eta` uses `moving_average`. With `--bank` the
rows of {placed} go to host memory or to a mapped file; all else is on the device. The
last lines are flags beside the rows: whether an image was visited, or how often. Solvers that are
not listed keep no rows.

{banks}

`recomputed` keeps pixels. It is refused where the rows of all images together take more than
{at_most}, whatever the number of processes.

### What else a process keeps

Every process has these bytes whole, whatever the number of images and of processes.

{kept}

On top of the table come

- the probe set, {probe_views} views of {probe_images} images: {probe}, and {others} for a copy of the views that
  targets come from. Every process has it whole, on its device;
- with several processes, DDP's buckets, a copy of the gradients: `4 · trained`, {buckets} for
  `onestep`;
- activations, see [paper_scale.md](paper_scale.md), and what an evaluation keeps while it lasts;
- small things: BN buffers of a second encoder ({buffers}), and the keys of the last step for `moco`
  ({last} on {several} processes).

## Traffic

One step of each mode was taken with tensors that have a size and no numbers. Its passes, the
gathered representations, the sums of their gradients and the rows of the bank were counted; the
bytes of gradients and BN statistics follow from formulas. The bytes are those that one process
sends per step; on average it receives as many. One process alone sends nothing. Sums and gathers
are counted as rings do them. Evaluations, log lines and checkpoints are left out.

| what travels | bytes that each process sends per step |
|---|---|
| gradients, summed (all-reduce) | `2 (R−1)/R · 4 · trained` |
| BN statistics, gathered forward, summed backward | `(R−1) · 4 · forward + 2 (R−1)/R · 4 · backward` |
| representations, gathered; their gradients, summed | `(R−1) · b · g + 2 (R−1) · b · r` |
| rows of the bank, there and back (all-to-all) | `(R−1)/R · b · row` on average, at most `R · b · row / 2` |

- *trained*: parameters that have a gradient.
- *forward*, *backward*: numbers that all BN layers hand over in all passes of a step, 2C + 1 and 2C
  for C channels (PyTorch's SyncBatchNorm).
- *g*, *r*, *row*: bytes for each image of the process; *row* counts both ways. A row travels in the
  bank's type. A process sends the maximum when it keeps the rows of all (R−1) · b images of the
  other processes, and they keep those of its own b images. `random_targets` only reads its rows: at
  most `(R−1) · b · row`. No process asks for rows: each knows the ids of all images of the batch.

{counts}

{traffic}

Rows of the bank hardly depend on R. BN statistics and gathered representations grow with R.

The other solvers with rows, `--mode ema_eta --eta NAME`: bytes of rows that each process sends.
Gradients are those of `ema_eta`.

{travelling}

## Where the bank should be

Use the first place that has room: `--bank device`, then `--bank host`, then `--bank DIR`, a mapped
file for each process in DIR. This table gives the largest number of images by the memory that one
process can give to its rows, `R · ⌊memory / (bytes of a number · d)⌋`. On a GPU that is what weights
and activations leave. In host memory the processes of a node share what there is.

{room}

**What the mapped file costs while it fits into memory.** `python benchmarks/bank.py` measured it on
a CPU, with 512 images a step on one process (elsewhere on this page a process has {batch}), see
[BENCHMARKS.md](../BENCHMARKS.md#python-benchmarksbankpy). The rows of such a step take
{first_host:g} ms in host memory and {first_mapped:g} ms in the file at a first visit ({first_more:+.0%}), and
{later_host:g} ms and {later_mapped:g} ms at later visits ({later_more:+.0%}). The operating system keeps
the file in memory that nothing else needs, and writes it out by and by. So the file starts to pay
when the rows do not fit into host memory, or when other programs need that memory.

**What it costs when it does not fit.** Each row is then read from the disk when its image is seen,
and written back: {pages[bf16]:,} pages of {page:,} bytes per step and process in bf16, {pages[fp32]:,} in fp32,
`b · ⌈bytes of a row / {page:,}⌉`, in random places. DIR should be on a local SSD, not on a network disk.
This was not measured.

## What would stop a billion images

- Every process has the order of the images of an epoch, 8 bytes each: {order_small} for ImageNet,
  {order} for a billion.
- A checkpoint holds all rows: {saved_small} in bf16 for ImageNet, {saved} for a billion. Two are kept,
  and a third exists while it is written. Several processes first collect their rows in a file in
  the run's directory. So the disk needs room for four times the rows.
- One process writes the checkpoint, and the others wait for it, {patience:.0f} minutes at most (`PATIENCE` in
  [emsiam/ranks.py](../emsiam/ranks.py)); then the job ends. Writing the rows of a billion images in
  that time needs {rate} per second (bf16).
- To resume, every process checks the whole checkpoint, byte by byte, before it takes its share.
- `--dataset folder` walks the folder at each start, and asks for the size of each file, in every
  process. Every process keeps every path in memory, of the order of 100 bytes each: {paths_small} for
  ImageNet, {paths} for a billion. From {many:,} files on, height and width of the images are read from
  the files once, by one process of a node, and found in a cache afterwards.

## A Slurm script

[examples/slurm.sh](../examples/slurm.sh) starts one `torchrun` per node and one process per GPU.
Submit it from the repository's directory, or from one where `torchrun` finds `emsiam`:

    sbatch --nodes=2 examples/slurm.sh --out runs/mine --preset simsiam-imagenet --data-dir DIR --save-every 1

- The processes meet at a port of the first node (`--rdzv-endpoint`). With PyTorch 2.14 a restart
  can fail unless `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` is set, as the script does
  ([pytorch issue 135712](https://github.com/pytorch/pytorch/issues/135712)).
- Before the time limit Slurm sends USR1 to the script (`--signal=B:USR1@…`), which sends SIGTERM to
  the training processes on its node. An evaluation that is under way is finished. Then all
  processes stop at the same step, at most ten steps later. The first process saves; the others wait
  until it has. Then the script puts the job back into the queue (`scontrol requeue`), and
  `--resume` goes on.
- `--bank DIR` must exist on each node, and should be on a local disk.

```bash
{slurm}
```

## After a crash

| what happened | what follows |
|---|---|
| a process failed | `torchrun` starts all processes again (`--max-restarts`), from the last checkpoint |
| a node failed | Slurm puts the job back into the queue (`--requeue`) |
| the time limit is near | the script saves, and puts the job back into the queue |
| `scancel`, or the job is preempted | the last checkpoint counts: a second signal may end the processes at once |
| wrong input, or the run diverged | `torchrun` tries again in vain, and the job ends; the log says why |

Where nothing was saved at the end, what was trained since the last checkpoint is lost: at most
`--save-every` epochs. An epoch of ImageNet has {steps:,} steps of {total} images, so say `--save-every 1`.

**With another number of processes** the same command goes on, with other `--nodes` and the same
`--out`:

- `--batch-size` is the total and stays. It must be a multiple of the number of processes. The
  learning rate and its schedule stay with it.
- The order of the images and the draws of T follow from the seed and the step, so they stay.
- The bank's rows are intact: a checkpoint has them in the order of the images, and each process
  takes its share. A test goes on with 1, 2, 4 and 1 processes
  ([tests/test_ranks.py](../tests/test_ranks.py)).
- The numbers agree with those of one process up to rounding, see [training.md](training.md#a-run).
  The bits are the same only with the same number of processes.
- `--resume` refuses options that change the result. `--bank DIR` may name another directory.
"""


@functools.cache
def flags() -> dict[tuple[str, int], list[str]]:
    """{(tensor with one number for each image, bytes of the number): the solvers that keep it}."""
    found: dict[tuple[str, int], list[str]] = {}
    for name in PER_IMAGE:
        c = resolved(mode="ema_eta", eta=name, arch="tiny")
        for tensor, x in step(c, shapes(c), 1).state.items():
            if tensor in (of_solver(SOLVERS[name]).per_image or ()) and x.ndim == 1:
                found.setdefault((tensor, x.dtype.itemsize), []).append(f"`{name}`")
    return found


def size(number: float) -> str:
    """Bytes in decimal units, three digits."""
    if number < 1000:
        return f"{number:.0f} B" if number else "0"
    power = min(4, int(math.log10(number) // 3))
    scaled = number / 1000**power
    return f"{scaled:,.{max(0, 2 - int(math.log10(scaled)))}f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def banks() -> str:
    """A line for each solver with rows: bytes in each process."""
    rows = []
    for name in PER_IMAGE:
        c = resolved(mode="ema_eta", eta=name)
        of_all = [keeps(c, n, r, 0) for n in SIZES for r in PROCESSES]
        formula = of_solver(SOLVERS[name]).memory
        rows.append([f"`{name}`", f"`{formula}`", *map(size, of_all)])
        if "bank_dtype" in hyperparameters(SOLVERS[name]):
            halved = [size(x * BF16 / FP32) for x in of_all]
            rows.append([f"`{name}`, `--bank-dtype bf16`", f"`{formula}` · {BF16}/{FP32}", *halved])
    for (tensor, width), solvers in flags().items():
        numbers = [size(width * bank.shared(n, r)) for n in SIZES for r in PROCESSES]
        rows.append([f"`{tensor}` of {', '.join(solvers)}", f"`{width} * N`", *numbers])
    head = [f"{n:,} images, {r} process{'es' * (r > 1)}" for n in SIZES for r in PROCESSES]
    return table(["solver", "bytes", *head], rows)


def kept() -> str:
    """A line for each mode: what else each process keeps."""
    rows = []
    for name, method in METHODS.items():
        net, c = of_mode(name), resolved(mode=name)
        P, all_of_it = parameters(net.F), parameters(net)
        memory, number = of_solver(method.solve).memory, keeps(c, IMAGES, 1, P)
        formula = f"`{memory}`" if memory != "0" else "nothing"
        if of_solver(method.solve).per_image:
            formula, number = "the bank, above", 0
        if loop_options(c)["held"]:
            formula, number = "θᵗ: F and its buffers", sum(x.nbytes for x in hold(net.F, copy=True).values())
        if c.queue:
            formula += f", queue = {c.queue:,}"
        numbers = [f"{P:,}", f"{all_of_it - P:,}", size(3 * FP32 * all_of_it)]
        rows.append([f"`{name}`", *numbers, size(number), formula])
    head = ["mode", "parameters of F (P)", "of h", f"weights, gradients, momentum: `{3 * FP32} * (P + h)`"]
    return table([*head, "beside them", "formula"], rows)


def counts() -> str:
    """A line for each mode: what the formulas of traffic speak of."""
    rows = []
    for name in METHODS:
        net, s = of_mode(name), sent(mode=name)
        layers = [sum(isinstance(x, _BatchNorm) for x in part.modules()) for part in (net.F, net.h)]
        passes = [f"{a} / {b}" if n else "–" for n, (a, b) in zip(layers, (s.F, s.h), strict=True)]
        own = [parameters(net, trained=True), *statistics(net, s), s.gathered, s.reduced, s.rows]
        rows.append([f"`{name}`", *passes, *(f"{x:,}" for x in own)])
    passes = [f"passes of {part}, forward / backward" for part in ("F", "h")]
    return table(["mode", *passes, "trained", "forward", "backward", "g", "r", "row"], rows)


def traffics(processes: int) -> str:
    """A line for each mode: bytes that each of so many processes sends."""
    rows = []
    for name in METHODS:
        numbers = traffic(of_mode(name), sent(mode=name), processes)
        rows.append([f"`{name}`", *map(size, [*numbers, sum(numbers)])])
    return table([f"{processes} processes", "gradients", "BN", "gathered", "rows", "all"], rows)


def travelling() -> str:
    """A line for each solver with rows: bytes of them that travel."""
    rows = []
    for name in PER_IMAGE:
        for dtype in ("fp32", "bf16") if "bank_dtype" in hyperparameters(SOLVERS[name]) else ("fp32",):
            s = sent(mode="ema_eta", eta=name, **({"bank_dtype": dtype} if dtype != "fp32" else {}))
            numbers = [size(traffic(of_mode("ema_eta"), s, r)[-1]) for r in PROCESSES]
            rows.append([f"`{name}`" + ", bf16" * (dtype != "fp32"), f"{s.rows:,}", *numbers])
    return table(["solver", "row", *(f"{r} process{'es' * (r > 1)}" for r in PROCESSES)], rows)


def room() -> str:
    """How many images have room, by the memory that each process has for its rows."""
    d, rows = resolved().width, []
    for memory in MEMORY:
        for dtype, width in (("fp32", FP32), ("bf16", BF16)):
            most = memory * 2**30 // (width * d)
            rows.append([f"{memory} GiB, {dtype}", *(f"{r * most:,}" for r in PROCESSES)])
    return table([f"for the rows, d = {d:,}", *(f"{r} process{'es' * (r > 1)}" for r in PROCESSES)], rows)


def measured() -> dict[str, float]:
    """What BENCHMARKS.md has of a bank in host memory and in a mapped file, in ms per step, and their ratios."""
    section = (ROOT / "BENCHMARKS.md").read_text().split(f"## `{BENCHMARK}`")[1].split("\n## ")[0]
    cells = [[x.strip() for x in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    found: dict[str, float] = {}
    for name, *numbers in cells[1:]:
        if name.endswith("ms a step"):
            host, mapped = map(float, numbers)
            visit = name.partition(" ")[0]
            found |= {f"{visit}_host": host, f"{visit}_mapped": mapped, f"{visit}_more": mapped / host - 1}
    return found


def text() -> str:
    """The text of docs/scaling.md."""
    moco = resolved(mode="moco", arch="tiny")
    d, total = resolved().width, PRESETS[PRESET]["batch_size"]
    view = FP32 * PROBE_SIZE * math.prod(SHAPE)  # of each image of the probe set
    pages = {name: PER_PROCESS * -(-d * width // PAGE) for name, width in (("fp32", FP32), ("bf16", BF16))}
    return TEXT.format(
        **measured(),
        d=d,
        page=PAGE,
        total=total,
        batch=PER_PROCESS,
        batches=", ".join(f"{r * PER_PROCESS:,} on {r}" for r in PROCESSES),
        several=SEVERAL,
        placed=", ".join(f"`{name}`" for name in PER_IMAGE if of_solver(SOLVERS[name]).placed),
        at_most=f"{of_solver(SOLVERS['recomputed']).at_most / 2**30:g} GiB",
        probe_views=PROBE_VIEWS,
        probe_images=PROBE_SIZE,
        probe=size(PROBE_VIEWS * view),
        others=size(len(SYMMETRY[resolved().symmetry][1]) * view),
        buckets=size(FP32 * parameters(of_mode("onestep"), trained=True)),
        buffers=size(sum(x.nbytes for x in of_mode("byol").F.buffers())),
        last=size(step(moco, shapes(moco), SEVERAL).state["last"].nbytes),
        banks=banks(),
        kept=kept(),
        counts=counts(),
        traffic="\n\n".join(traffics(r) for r in PROCESSES[1:]),
        travelling=travelling(),
        room=room(),
        pages=pages,
        order=size(SIZES[1] * torch.randperm(1).itemsize),
        order_small=size(SIZES[0] * torch.randperm(1).itemsize),
        saved=size(SIZES[1] * d * BF16),
        saved_small=size(SIZES[0] * d * BF16),
        paths=size(PATH * SIZES[1]),
        paths_small=size(PATH * SIZES[0]),
        many=MANY,
        patience=ranks.PATIENCE.total_seconds() / 60,
        rate=size(round(SIZES[1] * d * BF16 / ranks.PATIENCE.total_seconds())),
        steps=SIZES[0] // total,
        slurm=(ROOT / SLURM).read_text().rstrip(),
    )
