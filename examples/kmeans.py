"""k-means as the loop min over θ and η of L(θ, η), the paper's own analogy (§5.1): python examples/kmeans.py

θ: centres [K, f]. η_x: a one-hot vector, the cluster of x. L(θ, η) = E_x ‖η_xᵀ θ − x‖². notebooks/05 draws it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def loss(theta: Tensor, eta: Tensor, x: Tensor) -> float:
    """L(θ, η), of x [N, f]."""
    return (eta @ theta - x).square().sum(1).mean().item()


def solve_eta(theta: Tensor, x: Tensor) -> Tensor:
    """Sub-problem (8): each η_x on its own, one-hot [N, K] at the nearest centre."""
    return one_hot(torch.cdist(x, theta).argmin(1), len(theta)).to(x)


def solve_theta(theta: Tensor, eta: Tensor, x: Tensor) -> Tensor:
    """Sub-problem (7), solved: each centre is the mean of its images; one without images stays."""
    size = eta.sum(0)[:, None]
    return torch.where(size > 0, eta.T @ x / size.clamp(min=1), theta)


def move_theta(theta: Tensor, eta: Tensor, x: Tensor, k: int, rate: float = 2.0) -> Tensor:
    """Sub-problem (7) by k gradient steps, as the paper's multi-step variant has it: η is a constant of them."""
    for _ in range(k):
        theta = theta - rate * 2 * eta.T @ (eta @ theta - x) / len(x)
    return theta


def alternation(theta: Tensor, x: Tensor, steps: int, k: int | None = None) -> Iterator[tuple[Tensor, float, float]]:
    """θ after each alternation, and L after its η-step and after its θ-step; k: gradient steps, None: solved."""
    for _ in range(steps):
        eta = solve_eta(theta, x)
        solved = loss(theta, eta, x)
        theta = solve_theta(theta, eta, x) if k is None else move_theta(theta, eta, x, k)
        yield theta, solved, loss(theta, eta, x)


if __name__ == "__main__":
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().data)
    start = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:10]]
    for step, (_, solved, moved) in enumerate(alternation(start, x, 10), 1):
        print(f"alternation {step:2}   L after the η-step {solved:7.2f}   after the θ-step {moved:7.2f}")
