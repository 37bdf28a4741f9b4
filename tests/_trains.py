"""Run by each of two processes: trains one after another, as `python -m emsiam.train` does; PORT and options of each.

A line may name a file of this folder instead. No run draws its picture, which takes longer than its steps.
"""

import os
import runpy
import sys
from pathlib import Path

import _warm

import emsiam.plots
from emsiam.train import main

emsiam.plots.trajectory = _warm.no_picture
_warm.look_seldom(setattr)  # each look is passes with an exchange at every layer
for line in sys.argv[1:]:
    os.environ["MASTER_PORT"], *options = line.split()
    if options[0].endswith(".py"):
        runpy.run_path(str(Path(__file__).with_name(options[0])))
    elif status := main(options):
        sys.exit(status)
