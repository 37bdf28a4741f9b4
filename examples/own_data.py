"""Images of your own, in folders, one for each class: python examples/own_data.py [DIR]

Without DIR it draws a few hundred images of two kinds first. The same from the terminal:
python -m emsiam.train --dataset folder --data-dir DIR --epochs 10 --batch-size 60
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import emsiam


def draw(folder: Path) -> None:
    """300 noisy images of 24×24 pixels in two folders: stripes that lie, and stripes that stand."""
    rng = np.random.default_rng(0)
    for i in range(300):
        kind, wave = ("lying", "standing")[i % 2], np.sin(np.arange(24) * rng.uniform(0.4, 1.2) + rng.uniform(0, 6))
        stripes = np.repeat(wave[:, None], 24, axis=1) if kind == "lying" else np.repeat(wave[None], 24, axis=0)
        pixels = 128 + 80 * stripes[..., None] * rng.uniform(0.4, 1, 3) + rng.normal(0, 20, (24, 24, 3))
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{i:03}.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        if len(sys.argv) < 2:
            draw(Path(made))
        config = emsiam.Config(dataset="folder", data_dir=(sys.argv[1:] or [made])[0], epochs=10, batch_size=60)
        run = emsiam.fit(config)
    print(run.summary["verdict"], f"kNN {run.summary['knn_acc1']:.3f} (untrained {run.summary['knn_acc1_init']:.3f})")
    print("The picture:", run.path / "trajectory.png")
