"""What does a representation look like? Its spectrum, its cloud, and which images are neighbours."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..objective import unit
from .healthy import healthy
from .outputs import Output, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 400  # images of a cloud, at most
QUERIES, NEIGHBOURS = 8, 6
SIDE = 48  # of a thumbnail, pixels


def spectra(axes: "Axes", outputs: Sequence[Output], compared: Sequence[Output]) -> None:
    """Eigenvalues of the covariance of unit vectors, by their number, beside those of untrained weights."""
    for o, style in [*((o, "-") for o in outputs), *((o, "--") for o in compared)]:
        values = [x for x in o.spectrum if x > 1e-12 * o.spectrum[0]]
        axes.plot(
            range(1, len(values) + 1), values, style, label=o.name if values else f"{o.name}: none", linewidth=1.5
        )
    first = outputs[0]
    if (like := healthy(first.name, first.width)) and abs(like.width - first.width) <= first.width / 4:
        axes.plot(*zip(*like.spectrum.items(), strict=True), ":", color="0.35", label=f"{first.name}, healthy runs")
    if any(o.spectrum[0] > 0 for o in (*outputs, *compared)):
        axes.set(xscale="log", yscale="log")
    axes.set(xlabel="direction", ylabel="its variance", title="Spectrum")
    axes.legend()


def cloud(axes: "Axes", z: Tensor) -> None:
    """Unit vectors in the plane in which they vary most, by the first view; a line leads to the second view."""
    x = unit(z[:, :DOTS].double())
    x = x - x[0].mean(0)
    _, _, directions = torch.linalg.svd(x[0], full_matrices=False)
    flat = x @ directions[:2].T
    if flat.shape[-1] < 2:
        flat = torch.cat([flat, torch.zeros_like(flat)], -1)
    if len(flat) > 1:
        for a, b in zip(flat[0].tolist(), flat[1].tolist(), strict=True):
            axes.plot([a[0], b[0]], [a[1], b[1]], color="0.8", linewidth=0.6, zorder=1)
    across, up = flat[0].T.tolist()
    axes.scatter(across, up, s=9, zorder=2)
    axes.set(title="Cloud", aspect="equal", xlabel="first direction", ylabel="second direction")


def neighbours(z: Tensor) -> Tensor:
    """[QUERIES, 1 + NEIGHBOURS] images and those that are nearest to them, by the cosine of centred unit vectors."""
    x = unit(z[0].double())
    x = unit(x - x.mean(0))
    queries = torch.linspace(0, len(x) - 1, min(QUERIES, len(x))).long()
    near = (x[queries] @ x.T).scatter(1, queries[:, None], -2.0)
    return torch.cat([queries[:, None], near.topk(min(NEIGHBOURS, len(x) - 1), dim=1).indices], 1)


def thumbnail(image: Tensor) -> str:
    """An image [C, H, W] as the address of a PNG."""
    from PIL import Image

    x = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
    picture = picture.resize(
        (SIDE, SIDE), Image.Resampling.NEAREST if max(picture.size) < SIDE else Image.Resampling.BOX
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def drawn(outputs: Sequence[Output], compared: Sequence[Output], shown: Shown | None) -> "Figure":
    """A figure of spectrum and cloud."""
    import seaborn as sns

    from ..figure import Picture

    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9):
        figure = Picture(figsize=(9.5, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        if outputs:
            spectra(left, outputs, compared)
        if shown:
            cloud(right, shown.z)
    return figure
