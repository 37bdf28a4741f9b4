"""The doctor's truth: what is trained, and what is read of it."""

import pytest

from emsiam.data import idx
from experiments.doctor.cases import DATA, cases
from experiments.doctor.runs import Run


def test_each_case_is_another_training():
    known = [case for case in cases() if case.data != "Fashion-MNIST" or idx.FASHION_MNIST.is_dir()]
    runs = [Run(case, seed, DATA[case.data].looks) for case in known for seed in case.seeds]
    assert len({run.key for run in runs}) == len(runs) <= 200


@pytest.mark.parametrize("name", ["SimSiam", "no predictor", "supervised"])
def test_a_run_has_its_looks(name):
    case = next(case for case in cases() if case.name == name and case.data == "digits")
    record = Run(case, 0, (0, 2)).perform()
    looks = [(step, way) for step, way in zip(record.curves["step"], record.curves["as"], strict=True)]
    ways = ("", "64 images", "every image twice", "bfloat16", "running statistics")
    assert looks == [(0, ""), *((2, way) for way in ways)]
    for column in ("z_view_auc", "z_participation_ratio_low", "knn_z", "linear_p"):
        assert record.curves[column][0] is not None
    assert record.curves["x_view_auc"][0] > 0.5  # pixels are there before training alone
    assert record.curves["x_view_auc"][1] is None
