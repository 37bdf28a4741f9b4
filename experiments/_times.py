"""How long is a step? Measured alone on the machine, one after the other in a process, so that ratios mean something.

Runs of a sweep share the machine: their times say little.
"""

import itertools
import time
from collections.abc import Mapping
from typing import Any

import emsiam
from emsiam.config import Config

WARM, STEPS = 5, 30


def step_ms(options: Mapping[str, Any]) -> float:
    """Milliseconds per step of a training with these options, one thread. Raises ConfigError."""
    parts = emsiam.prepare(Config(**{"threads": 1, "precision": "fp32", "device": "cpu", **options}))
    taken = parts.alternation()
    for _ in itertools.islice(taken, WARM):
        pass
    began = time.perf_counter()
    steps = sum(1 for _ in itertools.islice(taken, STEPS))
    return (time.perf_counter() - began) / steps * 1000
