"""Every system of the paper trains, and a run that was stopped and resumed is the run that was never stopped."""

import math

import pytest
import torch

import emsiam
from emsiam.methods import METHODS

pytestmark = pytest.mark.usefixtures("plain_runs")
SYSTEMS = [mode for mode in METHODS if mode not in ("onestep", "multistep", "ema_eta", "expectation")]


@pytest.mark.parametrize(
    "options",
    [
        *({"mode": mode} for mode in SYSTEMS),
        {"mode": "simclr", "predictor": "mlp", "stop_grad": True, "symmetry": "asym"},
        {"mode": "byol", "predictor": "none", "tau": 0.0, "k": 3},
        {"mode": "moco", "shuffle_bn": 4},
        {"mode": "swav", "predictor": "mlp", "prototypes": 30, "stop_grad": False},
        {"predictor": "directpred"},
        {"predictor": "directcopy"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_each_trains_and_resumes_to_the_same_bits(options, tmp_path, few_files):
    small = few_files | {"batch_size": 40, "dim": 16, "hidden_dim": 16, "threads": 1, "quiet": True} | options
    whole = emsiam.fit(emsiam.Config(**small, out=str(tmp_path / "whole")))
    assert math.isfinite(whole.summary["loss"])
    out = str(tmp_path / "parts")
    assert not emsiam.fit(emsiam.Config(**small, out=out), stop=[1]).finished
    parts = emsiam.fit(emsiam.Config(out=out, resume=True, quiet=True))
    assert parts.summary["steps"] == whole.summary["steps"] == 8
    assert parts.metrics.loss.tolist()[-1] == whole.metrics.loss.tolist()[-1]
    a, b = whole.model().state_dict(), parts.model().state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
