"""Run by _trains.py: SyncBatchNorm on two processes against plain BN on one, forward, backward and buffers."""

import torch
import torch.distributed as dist
from torch import nn

from emsiam import ranks

with ranks.together("cpu"):
    for plain, shape in (
        (nn.BatchNorm1d(5), (8, 5)),
        (nn.BatchNorm2d(5), (8, 5, 3, 4)),
        (nn.BatchNorm1d(5, affine=False), (8, 5)),
    ):
        torch.manual_seed(0)
        plain = plain.double()
        for p in plain.parameters():
            nn.init.normal_(p)
        sync = nn.Sequential(nn.Sequential(nn.ReLU(), type(plain)(5, affine=plain.affine).double()))
        sync[0][1].load_state_dict(plain.state_dict())
        ranks.convert(sync)
        sync = sync[0][1]
        assert type(sync) is ranks.SyncBatchNorm
        x, weight = torch.randn(shape, dtype=torch.float64) + 3, torch.randn(shape, dtype=torch.float64)
        whole, part = x.clone().requires_grad_(), ranks.shard(x).clone().requires_grad_()
        out, mine = plain(whole), sync(part)
        (out * weight).sum().backward()
        (mine * ranks.shard(weight)).sum().backward()
        close = {"rtol": 0, "atol": 1e-12}
        torch.testing.assert_close(mine, ranks.shard(out), **close)
        torch.testing.assert_close(part.grad, ranks.shard(whole.grad), **close)
        for p, q in zip(sync.parameters(), plain.parameters(), strict=True):
            dist.all_reduce(p.grad)
            torch.testing.assert_close(p.grad, q.grad, **close)
        for p, q in zip(sync.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(p, q, **close)
        torch.testing.assert_close(sync.eval()(part), ranks.shard(plain.eval()(whole)), **close)
        assert torch.equal(ranks.gather(ranks.shard(x)), x)
    fixed = nn.Sequential(nn.BatchNorm1d(5)).requires_grad_(False)
    ranks.convert(fixed)
    assert not any(p.requires_grad for p in fixed.parameters())
    print(f"rank {ranks.rank()} of {ranks.world_size()} agrees")
