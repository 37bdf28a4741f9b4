"""The monitor in somebody's loop: what it keeps, when it warns, and with several processes."""

import math
import warnings

import _warm
import pytest
import torch

import emsiam
from emsiam.diagnostics import collapse
from emsiam.errors import ConfigError


def batch(rank=16, update=0):
    """[2, 200, 32], of so many directions."""
    rng = torch.Generator().manual_seed(update)
    x = torch.randn(200, rank, generator=rng) @ torch.randn(rank, 32, generator=torch.Generator().manual_seed(7))
    return x + 0.1 * torch.randn(2, 200, 32, generator=rng)


def test_a_look_is_at_the_batch_of_that_update_and_its_numbers_are_those_of_collapse():
    monitor = emsiam.Monitor(every=10)
    for i in range(1, 41):
        monitor.update(batch(update=i), batch(update=i)[0])
    assert [look.update for look in monitor.looks] == [1, 10, 20, 30, 40]
    numbers = collapse.measure(batch(update=40))
    last = monitor.looks[-1]
    assert last.participation_ratio == pytest.approx(numbers["participation_ratio"])
    assert last.view_auc == pytest.approx(numbers["view_auc"])
    assert last.z_std_ratio == pytest.approx(numbers["z_std_ratio"])
    assert last.p_residual_norm == last.residual_norm == pytest.approx(numbers["residual_norm"])
    assert monitor.to_dict()["update"] == [1, 10, 20, 30, 40]
    report = monitor.report()
    assert report.to_dict()["participation_ratio"] == pytest.approx(numbers["participation_ratio"])
    assert "the rank of z was" in report.said[-1]


def test_memory_is_bounded():
    monitor = emsiam.Monitor(every=1, images=50)
    for i in range(1, 1500):
        monitor.update(batch()[0, :60] + i * 1e-9)
    assert len(monitor.looks) <= 256
    updates = [look.update for look in monitor.looks]
    assert updates == sorted(updates)
    assert updates[0] == 1
    assert updates[-1] == 1499
    assert monitor.last["z"].shape == (50, 32)
    assert not monitor.last["z"].requires_grad


def run(ranks, **more):
    """A training whose z has so many directions at its looks; what is warned of, and at which update."""
    monitor, said = emsiam.Monitor(), []
    for i, rank in enumerate(ranks):
        monitor.updates = 100 * i + 99
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monitor.update(batch(rank, i), **more)
        said += [(monitor.updates, str(w.message)) for w in caught]
    return monitor, said


def test_a_rank_that_falls_is_warned_of_once():
    _, said = run([16, 14, 12, 11, 10, 9, 8, 7, 6, 6, 5, 5, 4, 4])
    falling = [update for update, text in said if "falling" in text]
    assert len(falling) == 1
    assert falling[0] < 1000  # 6 directions are left
    assert run([16, 6, 6, 6, 7, 7, 7, 8, 8, 8])[1] == []  # as healthy runs do


def test_a_rank_that_is_lost_and_a_constant_are_warned_of():
    _, said = run([16, 2, 2, 2, 2])
    assert [update for update, text in said if "directions carry z" in text] == [300]
    _, said = run([16, 16], p=torch.ones(200, 32))
    assert "z or p is nearly a constant" in said[0][1]
    monitor, _ = run([16, 16], p=torch.ones(200, 32))
    assert monitor.report().verdict == "complete collapse"


def test_nan_is_diverged():
    monitor = emsiam.Monitor()
    with pytest.warns(RuntimeWarning, match="not finite"):
        monitor.update(batch() * math.nan)
    assert monitor.report().verdict == "diverged"
    late = emsiam.Monitor(every=300)
    for _ in range(299):
        late.update(batch())
    with pytest.warns(RuntimeWarning) as said:
        late.update(batch() * math.nan)
    assert [str(warning.message).split(": ")[1].split(";")[0] for warning in said] == [
        "z or p holds values that are not finite"  # and nothing of its rank
    ]


def test_a_report_is_of_the_update_that_was_looked_at():
    monitor = emsiam.Monitor()
    for _ in range(99):
        monitor.update(batch())
    assert monitor.report().verdict == "too early to say"


def test_wrong_use_is_one_line():
    with pytest.raises(ConfigError, match="monitor: has seen no batch yet"):
        emsiam.Monitor().report()
    with pytest.raises(ConfigError, match="every: is 0; allowed is a whole number, 1 or more"):
        emsiam.Monitor(every=0)
    for x in (torch.zeros(8), torch.zeros(2, 8, 4, 4), torch.zeros(0, 8), torch.zeros(8, 8, dtype=torch.long)):
        with pytest.raises(ConfigError, match=r"p: is \[.*; pass numbers \[B, d\] or \[views, B, d\]"):
            emsiam.Monitor().update(batch(), x)
    with pytest.raises(ConfigError, match="p: is of 7 images and z of"):
        emsiam.Monitor().update(batch(), batch()[:, :7])
    with pytest.raises(ConfigError, match="z: is a list"):
        emsiam.Monitor().update([1.0])


def test_numpy_is_taken_and_a_batch_of_one_image_is_passed_over():
    monitor = emsiam.Monitor(every=2)
    monitor.update(batch()[:, :1].numpy())
    assert monitor.looks == []
    monitor.update(batch().numpy())
    monitor.update(batch())
    assert [look.update for look in monitor.looks] == [2]


def test_too_few_images_are_said_once():
    monitor = emsiam.Monitor(every=1)
    with pytest.warns(RuntimeWarning, match="of 20 images nothing can be said; give it 32 or more at once"):
        monitor.update(batch()[:, :20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(400):
            monitor.update(batch()[:, :20])
    assert monitor.report().verdict == "undecided"


SHARED = """
import torch, torch.distributed as dist, emsiam
dist.init_process_group("gloo")
monitor = emsiam.Monitor(images=400)
rng = torch.Generator().manual_seed(0)
whole = torch.randn(2, 200, 16, generator=rng)
monitor.update(whole.chunk(2, 1)[dist.get_rank()])
if dist.get_rank() == 0:
    print(monitor.looks[0].participation_ratio, emsiam.diagnostics.collapse.participation_ratio(whole[0]).item())
dist.destroy_process_group()
"""


def test_it_sees_the_rows_of_all_processes(tmp_path):
    (tmp_path / "shared.py").write_text(SHARED)
    ours, whole = map(float, _warm.ranks(2, "shared", cwd=tmp_path).split())
    assert ours == pytest.approx(whole)
