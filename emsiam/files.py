"""How is a result written? JSON that any reader takes, whole or not at all."""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """JSON knows no NaN, no infinity, and only text as keys."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Where to write what then replaces a file at once: a reader sees the old content or the new. Raises OSError.

    A link stays, and what it leads to is replaced; a device or a pipe is written to.
    """
    file = Path(os.path.realpath(file))
    if file.exists() and not file.is_file():
        yield file
        return
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one process work; others wait for it here. lock: a file, made where it is not there. Raises OSError."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(file: Path, content: Any, indent: int = 2) -> None:
    """Replace a file at once. Raises OSError."""
    with replacing(file) as new:
        new.write_text(json.dumps(plain(content), indent=indent) + "\n")
