"""Numbers from representations. Everything here takes tensors and knows nothing of training."""

from . import collapse, em, statistics, trajectory, verdict

__all__ = ["collapse", "em", "statistics", "trajectory", "verdict"]
