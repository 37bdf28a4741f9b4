"""Which random numbers are drawn for which purpose, and at which step? Streams do not overlap, nor do steps."""

import numpy as np
import torch
from torch import Generator

IDS, VIEWS, ETA, BACKBONE, PROJECTOR, PREDICTOR = range(6)  # purposes; a number once given stays


def generator(seed: int, stream: int, step: int = 0) -> Generator:
    """Random numbers of one purpose at one step (numpy's SeedSequence)."""
    state = int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
