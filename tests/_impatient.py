"""Run by torchrun: `python -m emsiam.train`, where none waits long for another. SECONDS, options."""

import sys
from datetime import timedelta

import _warm

import emsiam.plots
from emsiam import ranks, train

emsiam.plots.trajectory = _warm.no_picture
ranks.PATIENCE = timedelta(seconds=int(sys.argv[1]))
sys.exit(train.main(sys.argv[2:]))
