"""Run by torchrun: several runs one after the other, as `python -m emsiam.train` does them; PORT and options a line."""

import os
import sys

from emsiam.train import main

for line in sys.argv[1:]:
    port, *options = line.split()
    # a store of its own for each: in torchrun's the addresses of the run before are still to be found
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": port}
    status = main(options)
    if status:
        sys.exit(status)
