"""How long does it take? On a GPU, until it has done what it was asked for."""

import time

import torch


def wait():
    """Until a GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(function, *given):
    """The seconds that a call takes, and what it returns."""
    wait()
    began = time.perf_counter()
    made = function(*given)
    wait()
    return time.perf_counter() - began, made
