"""How is a command ended by a signal? At once, with 130 or 143, without a traceback."""

import os
import signal
import threading
from typing import Any

NUMBERS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> dict[int, Any]:
    """From now on a signal ends the process; the handlers that were there. Off the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, _end) for number in NUMBERS}


def _end(number: int, _: Any) -> None:
    """Now, whatever is being imported: a KeyboardInterrupt there may be swallowed, and something else fail later."""
    os._exit(128 + number)


def put_back(handlers: dict[int, Any]) -> None:
    """Restore the signal handlers that `end_at_once` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
