"""How good are the features? Backbones of anybody, reference classifiers, tasks."""
