"""What are F_θ and h? F = projector ∘ backbone maps a view to z; the predictor h maps z to p.

Source: Chen & He 2021, §4 "Baseline settings", Table 3 (batch normalisation), Appendix D (CIFAR).
"""

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .ranks import gather

STEMS = ("cifar", "imagenet")
PREDICTORS = ("mlp", "none", "fixed", "linear", "directpred", "directcopy")
BN = ("default", "none", "hidden", "all")
TINY_WIDTHS = (32, 64, 128)


def archs() -> list[str]:
    """`tiny`, and torchvision's classifiers by name."""
    from torchvision import models

    return ["tiny", *models.list_models(module=models)]


def is_resnet(arch: str) -> bool:
    """Whether a network has the stem of a ResNet: wide and ResNeXt variants included."""
    return "resnet" in arch or "resnext" in arch


class Backbone(nn.Module):
    """A classifier without its last layer: views [B, C, H, W] to features [B, f].

    A grey image is repeated to `channels`, 3 in torchvision's networks.
    """

    def __init__(self, trunk: nn.Module, channels: int):
        super().__init__()
        self.trunk = trunk
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x.expand(-1, self.channels, -1, -1))


class Siamese(nn.Module):
    """F and h, the two parts that the paper names. `autocast`: bf16 inside, z and p in fp32 or wider.

    Where F ends in prototypes, h stands before them: z and p are scores of F's embedding and of what h makes of it.
    """

    def __init__(
        self,
        backbone: Backbone,
        projector: nn.Module,
        predictor: nn.Module,
        autocast: bool = False,
        prototypes: nn.Module | None = None,
    ):
        super().__init__()
        self.F = Encoder(backbone, projector, autocast, prototypes)
        self.h = predictor
        self.autocast = autocast

    def forward(self, views: Tensor, trained: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """views [V, B, C, H, W] -> z [V, B, d] of every view and p [S, B, d] of the trained ones.

        Each view has its own forward pass, hence its own batch statistics.
        """
        with counted(self.F, len(views)), counted(self.h, len(trained)):
            e = [self.F.embed(x) for x in views]  # not one tensor yet: no backward pass through what nothing trains on
            z = [self.F.score(x) for x in e]
            return torch.stack(z), torch.stack([self.F.score(self.predict(e[v])) for v in trained])

    def predict(self, e: Tensor) -> Tensor:
        """h, [B, d] -> [B, d]."""
        with torch.autocast(e.device.type, torch.bfloat16, enabled=self.autocast):
            return wide(self.h(e))


@contextmanager
def counted(net: nn.Module, passes: int) -> Iterator[None]:
    """BN layers count their passes in train mode, a launch each; inside they do not, and afterwards all are counted."""
    batch_norms = (m for m in net.modules() if isinstance(m, _BatchNorm) and m.training and m.momentum is not None)
    counters = [(m._buffers, m.num_batches_tracked) for m in batch_norms if m.num_batches_tracked is not None]
    for buffers, _ in counters:
        buffers["num_batches_tracked"] = None
    try:
        yield
    finally:
        for buffers, counter in counters:
            buffers["num_batches_tracked"] = counter
    if counters:
        torch._foreach_add_([counter for _, counter in counters], passes)


class Encoder(nn.Module):
    """F_θ: views [B, C, H, W] -> z [B, d], or scores of prototypes, where it has them."""

    def __init__(self, backbone: Backbone, projector: nn.Module, autocast: bool, prototypes: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.prototypes = prototypes or nn.Identity()
        self.autocast = autocast

    def embed(self, x: Tensor) -> Tensor:
        """Views [B, C, H, W] -> [B, d]."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            return wide(self.projector(self.backbone(x)))

    def score(self, e: Tensor) -> Tensor:
        """Embeddings [B, d] -> cosines to prototypes [B, K]; the same where there are none."""
        return self.prototypes(e)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.embed(x))


def wide(x: Tensor) -> Tensor:
    """fp32 at least: losses, targets and diagnostics are never formed in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def tiny(channels: int) -> nn.Sequential:
    """Three convolutions for images of 8×8 to 32×32 on a laptop; features of width 128, global average."""
    layers: list[nn.Module] = []
    for i, width in enumerate(TINY_WIDTHS):
        layers += [
            nn.Conv2d(TINY_WIDTHS[i - 1] if i else channels, width, 3, 2 if i else 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def build_backbone(
    arch: str, stem: str | None, shape: tuple[int, int, int], *, try_it: bool = True
) -> tuple["Backbone", int]:
    """A backbone for images of `shape` [C, H, W], and the width of its features, found by a pass (try_it; else 0).

    stem: `cifar` (3×3 stride 1, no max-pool) or `imagenet`, for torchvision's ResNets. In residual blocks the
    last BN scale starts at 0 (§4). Dropout and stochastic depth are switched off: the only randomness of a view is T.
    Raises ValueError where the network has no such stem or does not take such images.
    """
    if arch == "tiny":
        return Backbone(tiny(shape[0]), shape[0]), TINY_WIDTHS[-1]
    from torchvision import models, ops

    plain = {"aux_logits": False, "init_weights": True} if arch in ("googlenet", "inception_v3") else {}
    trunk = models.get_model(arch, weights=None, **plain)
    for layer in trunk.modules():
        if isinstance(layer, _DropoutNd | ops.StochasticDepth):
            layer.p = 0.0
    # in a SqueezeNet a convolution gives the scores of classes
    *_, last = (
        n for n, m in trunk.named_modules() if isinstance(m, nn.Linear) or getattr(m, "out_channels", 0) == 1000
    )
    parent, _, leaf = last.rpartition(".")
    setattr(trunk.get_submodule(parent), leaf, nn.Identity())
    if isinstance(trunk, models.ResNet):
        if stem == "cifar":
            trunk.conv1 = nn.Conv2d(3, trunk.conv1.out_channels, 3, 1, 1, bias=False)
            nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
            trunk.maxpool = nn.Identity()
        for block in trunk.modules():
            if isinstance(block, models.resnet.BasicBlock):
                nn.init.zeros_(block.bn2.weight)
            elif isinstance(block, models.resnet.Bottleneck):
                nn.init.zeros_(block.bn3.weight)
    elif stem == "cifar":
        raise ValueError("the cifar stem is defined for ResNets")
    backbone = Backbone(trunk, 3)
    if not try_it:
        return backbone, 0
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, *shape))
        width = features.flatten(1).shape[1] if features.ndim == 2 else 0
    except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
        raise ValueError(f"does not take images of {shape[1]}×{shape[2]} ({str(error).splitlines()[0]})") from error
    if not width:
        raise ValueError("this network does not return one feature vector an image")
    return backbone.train(), width


@functools.cache
def strides_over_one_pixel(arch: str, stem: str | None, shape: tuple[int, int, int]) -> bool:
    """Whether a strided 3×3 convolution, or a wider one, sees maps of one pixel, for images of `shape`.

    PyTorch 2.14 leaves the gradient of its weights partly unwritten in bf16 on processors with AVX512-BF16: memory of
    something else, at times NaN. It is right in fp32.
    """
    if max(shape[1:]) > 64:
        return False
    seen: list[bool] = []

    def look(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        seen.append(tuple(inputs[0].shape[2:]) == (1, 1) and max(layer.stride) > 1 and max(layer.kernel_size) > 1)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            backbone, _ = build_backbone(arch, stem, shape, try_it=False)
            for layer in backbone.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_pre_hook(look)
            backbone.eval()(torch.zeros(1, *shape))
        except (RuntimeError, AssertionError, ValueError, AttributeError):
            return False  # it does not take such images, and is refused for that
    return any(seen)


def mlp(widths: list[int], *, hidden_bn: bool, output_bn: bool, output_affine: bool = True) -> nn.Sequential:
    """fc → BN → ReLU for each hidden width, then fc (→ BN), no ReLU at the end; fc has a bias where no BN follows."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        hidden = i < len(widths) - 2
        bn = hidden_bn if hidden else output_bn
        layers.append(nn.Linear(fan_in, fan_out, bias=not bn))
        if bn:
            layers.append(nn.BatchNorm1d(fan_out, affine=hidden or output_affine))
        if hidden:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def build_projector(
    features: int, *, hidden_dim: int, dim: int, layers: int, bn: str, output_affine: bool
) -> nn.Sequential:
    """features → hidden_dim → … → dim, `layers` fc in all (paper: 3; CIFAR: 2).

    bn, Table 3: `none`; `hidden` layers only; `default`, also on the output; `all`, on h's output too.
    """
    return mlp(
        [features, *[hidden_dim] * (layers - 1), dim],
        hidden_bn=bn != "none",
        output_bn=bn in ("default", "all"),
        output_affine=output_affine,
    )


class Prototypes(nn.Linear):
    """Scores of unit vectors against K unit prototypes: [B, d] -> cosines [B, K].

    SwAV as Chen & He 2021 reproduce it: the weights are normalised, and have their full gradient from the start.
    """

    def __init__(self, dim: int, prototypes: int):
        super().__init__(dim, prototypes, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(nn.functional.normalize(z, dim=1), nn.functional.normalize(self.weight, dim=1))


def build_predictor(kind: str, *, dim: int, pred_dim: int, bn: str) -> nn.Module:
    """h: `mlp` dim → pred_dim → dim, BN and ReLU after the hidden layer and nothing after the output (Table 3: `all`
    adds a BN there); `linear` a matrix; `fixed` an mlp that stays as initialised (Table 1); `none` the identity;
    `directpred` and `directcopy` a matrix that follows from z, see `Direct`.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(dim, dim, bias=False)
    if kind in ("directpred", "directcopy"):
        return Direct(dim, eigen=kind == "directpred")
    h = mlp([dim, pred_dim, dim], hidden_bn=bn != "none", output_bn=bn == "all")
    return h.requires_grad_(kind != "fixed")


class Direct(nn.Module):
    """A linear h set from C, a moving average of E[z zᵀ], instead of trained.

    DirectPred: the eigenvectors of C, with eigenvalues √λ + ε·max √λ, which is their ε·max λ where C is scaled to a
    largest eigenvalue of 1, for any length of z. DirectCopy: C/‖C‖ + ε·identity. A scale would not matter to a
    cosine. C moves at each pass in train mode. With a symmetric loss a step has two passes, one a view, and the two
    together keep 0.3 of the old C.
    Source: Tian et al. 2021, §4 (ρ = 0.3, ε = 0.1); Wang et al. 2021 for DirectCopy.
    """

    def __init__(self, dim: int, *, eigen: bool, rho: float = 0.3, epsilon: float = 0.1):
        super().__init__()
        self.eigen, self.keep, self.epsilon = eigen, rho**0.5, epsilon
        self.correlation: Tensor
        self.register_buffer("correlation", torch.eye(dim) / dim)

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):  # C is never of half precision
            if self.training:
                whole = gather(wide(z))
                self.correlation.lerp_((whole.mT @ whole / len(whole)).to(self.correlation), 1 - self.keep)
            c = self.correlation
            if self.eigen:
                w = raised_root(c, self.epsilon)
            else:
                largest = torch.linalg.eigh(finite(c)).eigenvalues.abs().max()
                w = c / largest + self.epsilon * torch.eye(len(c), dtype=c.dtype, device=c.device)
        return z @ w.to(z)


def raised_root(c: Tensor, epsilon: float) -> Tensor:
    """C [d, d], symmetric, to √C + ε·max √λ in all directions; NaN where C is not finite."""
    values, vectors = torch.linalg.eigh(finite(c))
    roots = values.clamp(min=0).sqrt()
    return torch.where(c.isfinite().all(), vectors * (roots + epsilon * roots.max()) @ vectors.mT, torch.nan)


def finite(c: Tensor) -> Tensor:
    """C, or zeros where it is not finite: there eigh would raise, and a training that diverges is to say so."""
    return torch.where(c.isfinite().all(), c, 0.0)


@contextmanager
def initialised(generator: Generator) -> Iterator[None]:
    """PyTorch's default initialisers draw from a global generator: inside, it starts from this one's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        yield
