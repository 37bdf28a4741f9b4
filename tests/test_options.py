"""Any combination of options trains, or ends with one line that names a flag. With hypothesis."""

import math
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emsiam
from emsiam.config import ConfigError, parse, preset, resolve
from emsiam.eta import SOLVERS
from emsiam.methods import METHODS
from emsiam.networks import PREDICTORS

WHOLE = st.sampled_from(["0", "1", "2", "7", "-3", "2.5", "x", "", "1e3", "99999999999999999999"])
REAL = st.sampled_from(["0", "0.5", "1", "-0.1", "1.5", "nan", "inf", "x", "1e-12"])
OPTIONS = {
    "--mode": st.sampled_from([*METHODS, "simsiam"]),
    "--eta": st.sampled_from([*SOLVERS, "nothing", "nowhere.py:f"]),
    "--k": WHOLE | st.just("epoch"),
    "--m": REAL,
    "--n": WHOLE,
    "--bank": st.sampled_from(["device", "host", ".", "nowhere"]),
    "--bank-dtype": st.sampled_from(["fp32", "bf16", "fp16", "fp8"]),
    "--tau": REAL,
    "--tau-schedule": st.sampled_from(["cosine", "constant", "step"]),
    "--queue": WHOLE,
    "--shuffle-bn": WHOLE,
    "--temperature": REAL,
    "--prototypes": st.sampled_from(["0", "1", "30", "x"]),
    "--num-images": st.sampled_from(["2000", "64", "63", "x"]),
    "--image-size": st.sampled_from(["8", "7", "0", "-1"]),
    "--workers": st.sampled_from(["0", "2", "-1"]),
    "--diagnose-every": WHOLE,
    "--augment": st.sampled_from(["noise=0", "redraw=3", "scale=0.2:1,flip=1", "hue=0.1", "scale=2", "x=1"]),
    "--arch": st.sampled_from(["tiny", "resnet18", "resnet81", "vit_b_16", "squeezenet1_1"]),
    "--stem": st.sampled_from(["cifar", "imagenet", "none"]),
    "--batch-size": st.sampled_from(["700", "1437", "1438", "1", "x"]),
    "--lr": REAL,
    "--wd": REAL,
    "--momentum": REAL,
    "--warmup-epochs": WHOLE,
    "--schedule": st.sampled_from(["cosine", "constant", "step"]),
    "--dim": WHOLE,
    "--hidden-dim": WHOLE,
    "--pred-dim": WHOLE,
    "--proj-layers": st.sampled_from(["0", "1", "2", "3", "101"]),
    "--predictor": st.sampled_from([*PREDICTORS, "cubic"]),
    "--symmetry": st.sampled_from(["sym", "asym", "asym2x", "both"]),
    "--similarity": st.sampled_from(["cosine", "cross_entropy", "mse", "dot"]),
    "--bn": st.sampled_from(["default", "none", "hidden", "all", "some"]),
    "--precision": st.sampled_from(["auto", "fp32", "bf16", "fp64", "fp8"]),
    "--device": st.sampled_from(["auto", "cpu", "cuda", "tpu"]),
    "--seed": WHOLE,
    "--knn-k": WHOLE,
    "--knn-t": REAL,
}
SWITCHES = [
    "--fix-pred-lr",
    "--no-fix-pred-lr",
    "--stop-grad",
    "--no-stop-grad",
    "--output-affine",
    "--no-output-affine",
]
COMMANDS = st.tuples(
    st.lists(st.sampled_from(sorted(OPTIONS)), max_size=4, unique=True).flatmap(
        lambda names: st.tuples(*(st.tuples(st.just(name), OPTIONS[name]) for name in names))
    ),
    st.lists(st.sampled_from(SWITCHES), max_size=2, unique=True),
).map(lambda parts: [word for pair in parts[0] for word in pair] + parts[1])


def refused(error, command):
    message = str(error)
    assert "\n" not in message
    assert any(flag in message for flag in (*command, "--dim", "--batch-size", "--warmup-epochs")), (message, command)


@settings(max_examples=500, deadline=None)
@given(COMMANDS)
def test_options_are_resolved_or_refused(command):
    try:
        config, _ = resolve(preset(parse(command)[0]), 1437, (1, 8, 8))
    except ConfigError as error:
        refused(error, command)
    else:
        assert resolve(config, 1437, (1, 8, 8)) == (config, [])


def trains_or_is_refused(command):
    with tempfile.TemporaryDirectory() as folder:
        common = ["--epochs", "1", "--batch-size", "700", "--threads", "1", "--quiet", "--out", f"{folder}/run"]
        try:
            run = emsiam.fit(*parse([*common, *command]))
        except ConfigError as error:
            refused(error, command)
        else:
            assert run.summary["steps"] >= 1
            assert run.summary["verdict"] == "diverged" or math.isfinite(run.summary["loss"])


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(COMMANDS)
def test_any_combination_trains_or_is_refused(command):
    trains_or_is_refused(command)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(COMMANDS)
def test_many_combinations_train_or_are_refused(command):
    trains_or_is_refused(command)
