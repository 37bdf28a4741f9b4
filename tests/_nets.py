"""Networks that several tests train: small, in double precision."""

import torch
from torch import nn

from emsiam import networks


class Plain(nn.Module):
    """F and h without batch normalisation, in double precision: what the theorems are about."""

    def __init__(self, inputs: int, dim: int = 6, predictor: bool = False, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.F = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, dim)).double()
        self.h = (
            nn.Sequential(nn.Linear(dim, 8), nn.Tanh(), nn.Linear(8, dim)) if predictor else nn.Identity()
        ).double()

    def forward(self, views, trained):
        z = torch.stack([self.F(x) for x in views])
        return z, torch.stack([self.h(z[v]) for v in trained])


def siamese(predictor="mlp", seed=0, dim=16, bn="default", dtype=torch.float64, output_affine=True):
    """The package's own network for 8×8 images, small heads."""
    torch.manual_seed(seed)
    backbone, width = networks.build_backbone("tiny", None, (1, 8, 8))
    projector = networks.build_projector(width, hidden_dim=24, dim=dim, layers=3, bn=bn, output_affine=output_affine)
    h = networks.build_predictor(predictor, dim=dim, pred_dim=8, bn=bn)
    return networks.Siamese(backbone, projector, h).to(dtype)
