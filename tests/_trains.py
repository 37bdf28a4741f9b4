"""Run by torchrun: several runs one after the other, as `python -m emsiam.train` does them; PORT and options a line.

A line may name _sync_bn.py instead. No run draws its picture, which takes longer than its steps.
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
    port, *options = line.split()
    # a store of its own for each: in torchrun's the addresses of the run before are still to be found
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": port}
    if options == ["sync_bn"]:
        runpy.run_path(str(Path(__file__).with_name("_sync_bn.py")))
    elif status := main(options):
        sys.exit(status)
