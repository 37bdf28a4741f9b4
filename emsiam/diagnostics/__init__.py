"""Numbers from representations. Everything here takes tensors and knows nothing of training."""
