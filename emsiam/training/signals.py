"""How is a training interrupted? Between two steps: the one that is under way is finished, and all of it is saved."""

import signal
import threading
from collections.abc import Callable
from typing import Any

from ..ending import NUMBERS, put_back
from ..runs.run import Run


class Interrupted(KeyboardInterrupt):
    """Training was ended by a signal between two steps; the run is saved, unfinished."""

    def __init__(self, number: int, run: Run):
        code = f", eta={run.config.eta!r}" if ":" in (run.config.eta or "") else ""
        options = f"out={str(run.path)!r}, resume=True{code}"
        given = ", images=…, labels=…" if run.config.dataset == "given" else ""
        super().__init__(f"stopped and saved; emsiam.fit(emsiam.Config({options}){given}) goes on")
        self.number, self.run = number, run


class Signals:
    """SIGINT and SIGTERM, kept in `caught` from `catch` to `release`, where Python code answers them otherwise.

    That is Ctrl-C, a notebook's stop button, and what a program has set itself. A second one is answered as before.
    Off the main thread none is touched.
    """

    def __init__(self) -> None:
        self.caught: list[int] = []
        self.before: dict[int, Callable[..., Any]] = {}

    def catch(self) -> None:
        """From now on; a second call changes nothing."""
        if self.before or self.caught or threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                self.before[number] = handler
                signal.signal(number, self._keep)

    def _keep(self, number: int, _: Any) -> None:
        self.caught.append(number)
        signal.signal(number, self.before.pop(number))

    def release(self) -> None:
        put_back(self.before)
        self.before = {}
