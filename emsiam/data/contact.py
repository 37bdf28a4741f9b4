"""What do images look like? A sheet of small ones, as a PNG."""

import io

import torch
from torch import Tensor

PICTURED = 256  # images of a sheet
ROW = 16  # images side by side
SIDE = 48  # pixels of an image, at most


def contact(images: Tensor) -> bytes:
    """A PNG of images [N, C, H, W] uint8, in rows of ROW; C is 1 or 3, of others the first channel is shown."""
    from PIL import Image

    x = images.cpu()
    x = x if x.shape[1] in (1, 3) else x[:, :1]
    if max(x.shape[2:]) > SIDE:
        scale = SIDE / max(x.shape[2:])
        size = [max(1, round(scale * n)) for n in x.shape[2:]]
        x = torch.nn.functional.interpolate(x.float(), size, mode="area").round().to(torch.uint8)
    count, channels, height, width = x.shape
    rows = -(-count // ROW)
    # torchvision has make_grid, but loading it takes as long as PyTorch itself, and tiny networks do without
    sheet = torch.zeros(rows * ROW, channels, height, width, dtype=torch.uint8)
    sheet[:count] = x
    whole = sheet.unflatten(0, (rows, ROW)).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, ROW * width)
    pixels = whole[0].numpy() if channels == 1 else whole.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
