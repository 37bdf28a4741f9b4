"""A run with a bank goes on for so many steps, by itself or as one of several processes. OPTIONS, in JSON, and STEPS.

The first process prints how many rows it sent to others at most, at a step, and how many it keeps.
"""

import json
import sys

import _warm
import torch.distributed as dist
from golden import After

import emsiam
import emsiam.plots
from emsiam.eta import bank


def go_on(options, steps):
    return emsiam.fit(emsiam.Config(**options, resume=True), stop=After(steps))


if __name__ == "__main__":
    emsiam.plots.trajectory = _warm.no_picture
    sent, kept, exchange, write = [], set(), bank.ranks.exchange, bank.write

    def counted(x, sizes, received):
        sent.append(sum(sizes) - sizes[dist.get_rank()])
        return exchange(x, sizes, received)

    def seen(rows, batch, values):
        if batch.ranks > 1:
            kept.add(len(rows))
        write(rows, batch, values)

    bank.ranks.exchange, bank.write = counted, seen
    go_on(json.loads(sys.argv[1]), int(sys.argv[2]))
    if bank.ranks.rank() == 0:
        print(max(sent), *kept)
