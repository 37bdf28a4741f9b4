"""What does T do to pixels? Colours and blur of images [N, C, H, W] in [0, 1], each image with its own numbers.

What ends in `_all` runs on all images and keeps what it changes, so that no shape depends on them: see `views.apply`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

BLURRED = 2**21  # pixel values that are blurred at once on a CPU; few images are slower to convolve
CONVOLVED = 13  # the longest kernel that oneDNN convolves each channel with in its fast way


def at_once(x: Tensor, values: int) -> int:
    """How many images [N, C, H, W] have about so many values."""
    return max(1, values // max(1, x.shape[1:].numel()))


def where(mask: Tensor, f: Callable[[Tensor], Tensor], x: Tensor, static: bool) -> Tensor:
    """f of the images that a mask [N] names."""
    if static:
        return torch.where(mask[:, None, None, None], f(x), x)
    return _changed(x, mask.nonzero()[:, 0], f)


def _changed(x: Tensor, chosen: Tensor, f: Callable[..., Tensor], *numbers: Tensor) -> Tensor:
    """Images [N, …] of which some, by position in order, become f(them, their numbers [N, …])."""
    if len(chosen) == len(x):
        return f(x, *numbers)
    return x.index_copy(0, chosen, f(x[chosen], *(n[chosen] for n in numbers))) if len(chosen) else x


def _changes(factors: Tensor) -> Tensor:
    """[N, J]: whether an operation of the jitter changes an image."""
    return torch.cat([factors[:, :3] != 1.0, factors[:, 3:] != 0.0], 1)


def jitter(x: Tensor, factors: Tensor, order: Tensor | None) -> Tensor:
    """Brightness, contrast, saturation and hue by factors [N, J], in each image's own order [N, J] if there is one."""
    operations = OPERATIONS[: factors.shape[1]]
    changes = _changes(factors)
    if order is None:
        for i, operation in enumerate(operations):
            x = operation(x, factors[:, i, None, None, None]) if changes[:, i].any() else x
        return x
    of_images = list(zip(order.tolist(), changes.tolist(), strict=True))
    for place in range(len(operations)):
        for i, operation in enumerate(operations):
            chosen = [n for n, (own, changed) in enumerate(of_images) if own[place] == i and changed[i]]
            x = _changed(
                x, torch.tensor(chosen, dtype=torch.long, device=x.device), operation, factors[:, i, None, None, None]
            )
    return x


def jitter_all(x: Tensor, factors: Tensor, order: Tensor | None) -> Tensor:
    """`jitter`, static. In an order of their own, the first three are one mixture with what an image shall be near."""
    changes = _changes(factors)
    if order is None:
        for i in range(factors.shape[1]):
            x = torch.where(changes[:, i].any(), OPERATIONS[i](x, factors[:, i, None, None, None]), x)
        return x
    factors, changes = factors.gather(1, order), changes.gather(1, order)
    # [J, N, 1, 1, 1], a row for each place
    table = factors, 1 - factors, changes, order == 0, order == 1, order == 3
    rows = (numbers.T[..., None, None, None] for numbers in table)
    for factor, rest, changed, is_brighten, is_contrast, is_hue in zip(*rows, strict=True):
        luma = grey(x)
        other = torch.where(is_contrast, _mean(luma), luma)
        new = (factor * x + rest * torch.where(is_brighten, 0.0, other)).clamp(0, 1)
        if factors.shape[1] > 3:
            new = torch.where(is_hue, _shift_hue_all(x, factor), new)
        x = torch.where(changed, new, x)
    return x


def _mixed(x: Tensor, factor: Tensor, other: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    """x [N, C, H, W] in [0, 1]; factor broadcasts to it, here and below."""
    return (factor * x).clamp(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Away from (or to) the mean grey of the image."""
    return _mixed(x, factor, _mean(grey(x)))


def saturate(x: Tensor, factor: Tensor) -> Tensor:
    """Away from (or to) the grey of each pixel."""
    return _mixed(x, factor, grey(x))


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of x [N, 3, H, W] in [0, 1] by `shift`, in turns of the colour circle; value and chroma are kept.

    With hue h in sixths of a turn, channel n (5, 3, 1 for r, g, b) is v − c·max(0, min(k, 4 − k, 1)),
    k = (n + h) mod 6.
    """
    r, g, b = x.split(1, 1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    # 1 or 0, for the first channel that has the value; on a CPU, products are many times as fast as torch.where
    red = (r == value).to(x.dtype)
    green = (g == value).to(x.dtype) * (1 - red)
    blue = 1 - red - green
    sector = red * (g - b) + green * (b - r) + blue * (r - g)
    hue = sector / chroma.clamp_min(1e-12) + (2 * green + 4 * blue) + 6 * shift
    k = torch.arange(5, 0, -2, dtype=x.dtype, device=x.device)[:, None, None] + hue
    k = k - 6 * (k / 6).floor()
    return value - chroma * (k.clamp(0, 1) * (4 - k).clamp(0, 1))  # one of the two is 1


def _shift_hue_all(x: Tensor, shift: Tensor) -> Tensor:
    """`shift_hue` in half as many operations, which count on a GPU; on a CPU each of these takes long."""
    value, first = x.max(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    r, g, b = x.split(1, 1)
    sector = torch.where(first == 0, g - b, torch.where(first == 1, b - r, r - g))
    hue = sector / chroma.clamp_min(1e-12) + 2 * first + 6 * shift
    k = (torch.arange(5, 0, -2, dtype=x.dtype, device=x.device)[:, None, None] + hue) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


OPERATIONS = (brighten, contrast, saturate, shift_hue)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, in place, of standard deviation sigma [N] pixels, 0: none.

    The kernel is a tenth of the image, odd, ≥ 3.
    """
    blurred = (sigma > 0).nonzero()[:, 0]
    if 2 * _radius(x) + 1 > CONVOLVED:
        for i, kernel in zip(blurred.tolist(), _kernels(x, sigma[blurred]).tolist(), strict=True):
            x[i] = _summed(x[i], kernel)
        return x
    for some in blurred.split(at_once(x, BLURRED)) if len(blurred) else ():
        x.index_copy_(0, some, _convolved(x[some], sigma[some]))
    return x


def blur_all(x: Tensor, sigma: Tensor) -> Tensor:
    """`blur`, static."""
    concerned = sigma > 0
    return torch.where(concerned[:, None, None, None], _convolved(x, torch.where(concerned, sigma, 1.0)), x)


def _radius(x: Tensor) -> int:
    return max(1, round(0.05 * min(x.shape[-2:])))


def _kernels(x: Tensor, sigma: Tensor) -> Tensor:
    """[N, 2·radius + 1] for images x [N, C, H, W] and sigma [N], above 0."""
    offsets = torch.arange(-_radius(x), _radius(x) + 1, device=x.device, dtype=x.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    return kernels / kernels.sum(1, keepdim=True)


def _convolved(x: Tensor, sigma: Tensor) -> Tensor:
    """sigma [N], above 0."""
    kernels = _kernels(x, sigma).repeat_interleave(x.shape[1], 0)[:, None]
    padded = functional.pad(x, [_radius(x)] * 4, mode="reflect").flatten(0, 1)[None]  # one group a channel
    padded = functional.conv2d(padded, kernels[:, :, :, None], groups=len(kernels))
    padded = functional.conv2d(padded, kernels[:, :, None, :], groups=len(kernels))
    return padded[0].unflatten(0, (len(x), x.shape[1]))


def _summed(x: Tensor, kernel: list[float]) -> Tensor:
    """`_convolved` of one image [C, H, W], to the bit, and for large kernels in half its time on a CPU."""
    radius = len(kernel) // 2
    x = functional.pad(x[None], [radius] * 4, mode="reflect")[0]
    for axis in (1, 2):
        size = x.shape[axis] - 2 * radius
        total = x.narrow(axis, 0, size) * kernel[0]
        for i, weight in enumerate(kernel[1:], 1):
            total.add_(x.narrow(axis, i, size), alpha=weight)
        x = total
    return x


def _mean(grey: Tensor) -> Tensor:
    """The mean of each image [N, 1, H, W]. A single one is taken twice: its sum would depend on the threads."""
    twice = grey.expand(2, *grey.shape[1:]) if len(grey) == 1 else grey
    return twice.mean((1, 2, 3), keepdim=True)[: len(grey)]


def grey(x: Tensor) -> Tensor:
    """Luma [N, 1, H, W] (ITU-R 601-2, as torchvision)."""
    if x.shape[1] != 3:
        return x
    r, g, b = x.split(1, 1)
    return 0.2989 * r + 0.587 * g + 0.114 * b
