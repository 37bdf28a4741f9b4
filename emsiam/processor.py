"""How does the processor calculate? Threads, TF32 and determinism are set on purpose, here alone."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def name() -> str:
    """The processor's name and vector instructions, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def gains_by_bf16(device: str) -> bool:
    """Whether matrices are multiplied faster in bf16 than in fp32: by CUDA from Ampere on, and by AMX.

    By AVX512-BF16 on AMD's processors alone: on Intel's, a step takes 1.2 times as long (benchmarks/memory_format.py).
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    avx512 = torch.cpu._is_avx512_bf16_supported() and "AMD" in name()
    return torch.cpu._is_amx_tile_supported() or avx512


def best() -> str:
    """A device: CUDA where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def sharers() -> int:
    """How many processes of a training run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own() -> int:
    """How many processors this process may use: of those that it may run on its share, where a node runs several."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, may // sharers())


@contextmanager
def leaving(busy: int) -> Iterator[None]:
    """What is computed here meanwhile takes the threads that `busy` others leave, at least one: small operations that
    are shared by threads which have to wait for a processor take several times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - busy))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def for_training(threads: int | None, deterministic: bool | None) -> None:
    """As a resolved configuration says. In fp32 a GPU multiplies in TF32: about three digits, several times as fast."""
    torch.set_num_threads(threads or 1)
    _tf32(True)
    torch.use_deterministic_algorithms(bool(deterministic))
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.backends.cudnn.benchmark = False


def for_measuring() -> None:
    """Accuracies and embeddings are in whole fp32, on any device."""
    _tf32(False)


def _tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
