"""Run by torchrun: a run is evaluated and embedded by all processes, in parts of 16 images. RUN OUT

The first process prints how many parts each computed.
"""

import sys

import torch
import torch.distributed as dist

from emsiam import embed, evaluate, load_run, ranks
from emsiam.evaluation import classifiers, embeddings, features, tasks

run, out = sys.argv[1:]
features.PART = embeddings.PART = tasks.PART = classifiers.QUERIES = 16
divided, seen = ranks.divided, []


def counted(parts, f):
    return divided(parts, lambda part: (seen.append(part), f(part))[1])


ranks.divided = tasks.divided = classifiers.divided = counted
with ranks.together("cpu"):
    assert not evaluate.main(["knn", run, "--knn-k", "5", "--json", f"{out}/knn.json"])
    given = ["--protocol", "sgd", "--epochs", "2"]
    assert not evaluate.main(["linear", run, *given, "--json", f"{out}/linear.json"])
    assert not embed.main([run, "--out", f"{out}/two.npz", "--quiet"])
    own = len(seen)
    assert evaluate.main(["knn", run, "--knn-k", str(3 + dist.get_rank())]) == 2  # told different things
    number = torch.tensor([own])
    all_of = [torch.zeros_like(number) for _ in range(2)]
    dist.all_gather(all_of, number)
    ranks.joined = False  # as in a process group of a user's, where a process may be alone
    if dist.get_rank() == 0:
        evaluate.evaluate("knn", run, knn_k=5)
        evaluate.evaluate("linear", run, protocol="sgd", epochs=1)
        load_run(run).embed(torch.zeros(40, 3, 8, 8, dtype=torch.uint8))
    dist.barrier()
if ranks.rank() == 0:
    print("parts seen", *(x.item() for x in all_of))
