"""A step on CUDA mixes no devices and never waits for the GPU: tested on a machine without one, with real numbers.

A `Gpu` holds its numbers on the CPU, is a meta tensor to C++ (so that autograd asks for no driver) and says cuda:0 to
Python. Not seen: kernels, memory, NCCL, time; what waits inside a C++ kernel, but for WAITS; casts of autocast other
than those of matrix products and convolutions. `python tests/cuda_dry_run.py [MODE …]` prints a line a mode, status 1
if the last step reads from the device or a loss is not the CPU's; inside `pretended() as log` any code may use
"cuda". test_cuda.py has what is held.
"""

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

META, T, AUTOCAST = torch.device("meta"), torch.Tensor, torch.autocast
WAITS = "_local_scalar_dense nonzero masked_select _unique2 unique_dim unique_consecutive equal bincount multinomial"
WAITS = {*WAITS.split(), "_linalg_check_errors", "_linalg_eigh", "_linalg_svd"}
FREE = {"detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias", "set_", "as_strided_", "empty", "empty_like"}
FREE |= {"empty_strided", "new_empty", "new_empty_strided"}  # launch nothing, like views
LOW = {torch.conv2d, torch.matmul, torch.mm, torch.bmm, T.matmul, T.__matmul__, torch.nn.functional.linear}


class Event(NamedTuple):
    # read: the host waits for the device; send: from pageable memory, waits too; copy, fetch: to and from page-locked
    # memory, which do not wait; random: drawn there
    kind: str
    op: str
    bytes: int
    step: int  # -1 before the first
    lines: tuple[str, ...]  # of the code that asked, outermost first


class Gpu(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: torch.device("cuda", 0))
    is_cuda, is_cpu, is_meta = (property(lambda self, x=x: x) for x in (True, False, False))

    @staticmethod
    def __new__(cls, x):
        like = {"strides": x.stride(), "storage_offset": x.storage_offset(), "dtype": x.dtype, "device": META}
        self = T._make_wrapper_subclass(cls, x.shape, **like)
        self.inner = x.detach()
        return self

    def __torch_dispatch__(self, *_, **__):
        raise AssertionError("used outside of pretended()")

    def __reduce_ex__(self, protocol):  # torch.save; to be loaded with map_location
        return self.inner.__reduce_ex__(protocol)

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy


class Pinned(torch.Tensor):
    """Page-locked memory of the host."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Names(TorchFunctionMode):
    """cuda in Python is meta in C++; lists and numbers are made on the host and sent; autocast casts products."""

    depth, kept = 0, {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def named(x):
            return META if isinstance(x, torch.device | str) and str(x).startswith("cuda") else x

        args = tuple(map(named, args)) if func is T.to else args
        kwargs = {name: named(x) for name, x in (kwargs or {}).items()}
        if kwargs.pop("pin_memory", False):  # which asks for a driver
            with torch._C.DisableTorchFunction():
                return func(*args, **kwargs).as_subclass(Pinned)
        ours = bool(args) and isinstance(args[0], Gpu)
        if func is T.cuda:
            func, args = T.to, (args[0], META)
        elif ours and func is T.new_tensor:
            func, kwargs, args = torch.tensor, {"dtype": args[0].dtype, "device": META} | kwargs, args[1:]
        elif ours and func in (T.__getitem__, T.__setitem__):
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            at, value = tuple(torch.tensor(i) if isinstance(i, list) else i for i in at), args[2:]
            if value and not isinstance(value[0], T) and any(isinstance(i, T) for i in at):
                value = (torch.tensor(value[0], dtype=args[0].dtype),)
            args = (args[0], at, *value)
        elif func in LOW and self.depth:
            args = tuple(self.low(x) if isinstance(x, Gpu) and x.dtype == torch.float32 else x for x in args)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == META:
            return func(*args, **kwargs | {"device": "cpu"}).to(META)
        return func(*args, **kwargs)

    def low(self, x):
        if not (x.requires_grad and x.is_leaf):
            return x.to(torch.bfloat16)
        if id(x) not in self.kept:
            self.kept[id(x)] = x, x.to(torch.bfloat16)
        return self.kept[id(x)][1]

    @contextmanager
    def autocast(self, device_type, dtype=None, enabled=True, cache_enabled=True):
        if device_type == "cpu":
            with AUTOCAST("cpu", dtype, enabled):
                yield
            return
        self.depth += enabled
        yield
        self.depth -= enabled
        self.kept = self.kept if self.depth else {}  # as PyTorch forgets, on leaving the outermost


class Log(TorchDispatchMode):
    def __init__(self, code: str):
        super().__init__()
        self.code, self.step, self.events, self.launches = code, -1, [], Counter()  # launches by (step, op, line)

    def lines(self) -> tuple[str, ...]:
        found, frame = [], sys._getframe(2)
        while frame := frame.f_back:
            file = frame.f_code.co_filename
            if f"/{self.code}/" in file and "site-packages" not in file:
                found.append(f"{file.rpartition(f'/{self.code}/')[2]}:{frame.f_lineno} {frame.f_code.co_name}")
        return tuple(reversed(found))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, op, lines = kwargs or {}, func._schema.name.removeprefix("aten::"), self.lines()
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, T)]
        gpu, cpu = ([x for x in tensors if isinstance(x, Gpu) == there] for there in (True, False))
        there = kwargs["device"] == META if kwargs.get("device") is not None else bool(gpu)
        if any(x.is_meta for x in cpu):
            raise AssertionError(f"{func}: numbers were lost in C++, at {lines[-1:]}")

        def note(kind, x):
            self.events.append(Event(kind, op, x.numel() * x.element_size(), self.step, lines))

        at = [x for x in args[1] if x is not None] if op in ("index", "index_put", "index_put_") else []
        masked = any(x.dtype in (torch.bool, torch.uint8) for x in at) and not (cpu and not cpu[0].ndim)
        if op in ("_to_copy", "copy_"):
            source, there = (args[1], isinstance(args[0], Gpu)) if op == "copy_" else (args[0], there)
            if isinstance(source, Gpu) != there:
                host = args[0] if there or op == "copy_" else None
                free = isinstance(host, Pinned) and (kwargs.get("non_blocking") or args[2:] == (True,))
                note({(1, 1): "copy", (1, 0): "send", (0, 1): "fetch", (0, 0): "read"}[there, bool(free)], source)
        elif at and isinstance(args[0], Gpu):
            for x in [x for x in cpu if x.ndim or not any(y.dtype == torch.bool for y in at)]:
                note("send", x)
        elif gpu and (any(x.ndim for x in cpu) or (func._schema.is_mutable and not isinstance(args[0], Gpu | list))):
            raise RuntimeError(f"{func}: tensors on cuda:0 and cpu, at {lines[-1:]}")
        if gpu and (op in WAITS or masked):
            note("read", gpu[-1])
        if there and torch.Tag.nondeterministic_seeded in func.tags:
            note("random", (gpu or [torch.empty(0)])[0])
        if there and not (func.is_view or op in FREE):
            self.launches[self.step, op, (lines or ("?",))[-1]] += 1
        kwargs |= {"device": torch.device("cpu")} if kwargs.get("device") == META else {}
        known = {id(x.inner): x for x in gpu}
        with torch._C.DisableTorchFunction():
            out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if op == "_local_scalar_dense" or not there:
            return out
        return tree_map(lambda x: (known[id(x)] if id(x) in known else Gpu(x)) if isinstance(x, T) else x, out)


def tree_map(f, x):
    """What an operator takes or gives, in lists and dictionaries. PyTorch's own takes several times as long."""
    if isinstance(x, dict):
        return {name: tree_map(f, part) for name, part in x.items()}
    return type(x)([tree_map(f, part) for part in x]) if isinstance(x, list | tuple) else f(x)


def tree_leaves(x):
    found = []
    tree_map(found.append, x)
    return found


def _inner(x):
    return x.inner if isinstance(x, Gpu) else x


@contextmanager
def pretended(code: str = "emsiam"):
    """Inside, "cuda" is a device. Yields the log; its lines are those of files below a folder named `code`."""
    optimizer, names = sys.modules[torch.optim.Optimizer.__module__], Names()
    with ExitStack() as stack:
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, False)
        torch.__future__.set_swap_module_params_on_conversion(True)  # net.to("cuda") keeps its parameters, as on CUDA
        many = [*optimizer._foreach_supported_types, Gpu]  # foreach is the default there
        stack.enter_context(mock.patch.object(optimizer, "_foreach_supported_types", many))
        stack.enter_context(mock.patch("torch.autocast", names.autocast))
        stack.enter_context(mock.patch("torch.cuda.Event"))
        for name, value in {"get_device_name": "pretended", "is_available": True, "is_bf16_supported": True}.items():
            stack.enter_context(mock.patch(f"torch.cuda.{name}", lambda *_, value=value, **__: value))
        stack.enter_context(names)
        yield stack.enter_context(Log(code))


def steps(number: int = 3, device: str = "cuda", **options):
    """Losses and the log of `number` steps of the loop."""
    import emsiam

    small = {"batch_size": 64, "dim": 32, "hidden_dim": 32, "epochs": 1, "precision": "fp32"}
    with pretended() if device == "cuda" else nullcontext(SimpleNamespace()) as log:
        trained = emsiam.prepare(emsiam.Config(**small | {"device": device} | options)).alternation()
        losses = []
        for log.step in range(number):
            losses.append(_inner(next(trained).loss).item())
    return losses, log


def main(modes) -> int:
    from emsiam.methods import METHODS

    read = 0
    for mode in modes or METHODS:
        losses, log = steps(mode=mode)
        last = [e for e in log.events if e.step == 2]
        reads, sends = ([e for e in last if e.kind in kinds] for kinds in (("read",), ("send", "copy")))
        launches = sum(n for (step, *_), n in log.launches.items() if step == 2)
        same = losses == steps(mode=mode, device="cpu")[0]
        print(f"{mode:12} {launches:4} launches, {len(sends):2} sends of {sum(e.bytes for e in sends):7,} bytes, "
              f"{len(reads)} reads a step; losses {'as' if same else 'NOT as'} on the CPU")  # fmt: skip
        for e in reads:
            print("   read:", e.op, *e.lines[-2:])
        read += len(reads) + (not same)
    return int(read > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
