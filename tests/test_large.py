"""Photographs like ImageNet's: ResNet-50 trains on them at 224×224, and memory stays where it is. `make slow`."""

import numpy as np
import pytest
from PIL import Image

import emsiam

IMAGES, BATCH, STEPS = 40, 8, 100  # twenty epochs


def resident():
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.slow
def test_resnet50_trains_twenty_epochs_in_bounded_memory(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(IMAGES * 5 // 4):  # every fifth is to test
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        rough = Image.fromarray(rng.integers(256, size=(30, 40, 3), dtype=np.uint8))
        rough.resize((500, 375)).save(tmp_path / "ab"[i % 2] / f"{i}.jpg", quality=92)
    options = {"preset": "simsiam-imagenet", "dataset": "folder", "data_dir": str(tmp_path), "image_size": 224}
    epochs = STEPS // (IMAGES // BATCH)
    parts = emsiam.prepare(emsiam.Config(**options, workers=2, batch_size=BATCH, epochs=epochs, warmup_epochs=0))
    assert parts.config.arch == "resnet50"
    seen = []
    for step in parts.alternation():
        assert step.loss.isfinite()
        seen.append(resident())
    assert len(seen) == STEPS
    print(f"resident after 20 steps {seen[19] / 2**20:,.0f} MiB, after 100 {seen[-1] / 2**20:,.0f} MiB")
    assert max(seen[20:]) < 1.1 * max(seen[:20])
