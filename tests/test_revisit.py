"""What a checkpoint still tells: other methods' updates against a gradient by hand, a bank's views made again."""

import dataclasses
import math
from functools import partial

import pytest
import torch

import emsiam
from emsiam import data, objective, revisit
from emsiam.build import solver_of
from emsiam.diagnostics import em
from emsiam.diagnostics.trajectory import angle

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {"epochs": 3, "batch_size": 300, "dim": 16, "hidden_dim": 16, "threads": 1, "precision": "fp64", "quiet": True}


def trained(path, **options):
    return emsiam.fit(emsiam.Config(**SMALL | options, out=str(path)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "onestep")


def as_if(run, **options):
    return dataclasses.replace(run.config, **options)


def test_an_update_is_the_gradient_at_the_checkpoint(run, digits):
    c, steps = run.config, run.summary["steps"]
    net = run.model().train()
    batch = next(
        data.batches.batches(
            digits, seed=0, batch_size=300, start=steps, stop=steps + 1, symmetry="sym", dtype=torch.float64
        )
    )
    z, p = net(batch.views, (0, 1))
    loss = -(
        objective.unit(p[0]) * objective.unit(z[1].detach()) + objective.unit(p[1]) * objective.unit(z[0].detach())
    )
    (loss.sum(-1).mean() / 2).backward()
    gradient = torch.cat([w.grad.flatten() for w in net.F.parameters()])
    assert revisit.update(run) == pytest.approx(-c.lr * c.batch_size / 256 * gradient, abs=1e-12)


def test_methods_that_are_one_go_the_same_way(run):
    own = revisit.update(run, steps=3)
    held = revisit.update(run, as_if(run, mode="multistep", k=1), steps=3)
    assert angle(own, held) == 0
    stale = revisit.update(run, as_if(run, mode="multistep", k=3), steps=3)
    assert 0 < angle(own, stale) < 30
    alone = revisit.update(run, as_if(run, predictor="none"))
    bank = as_if(run, mode="ema_eta", m=0.0, bank="device", bank_dtype="fp32", predictor="none")
    assert angle(alone, revisit.update(run, bank)) < 1e-4
    assert angle(revisit.update(run), alone) > 1


def test_rows_of_a_bank_that_is_filled_are_stored_at_once(run, monkeypatch):
    """No θ-step follows, after which rows on their way to host memory would be stored."""
    seen = []

    def recorded(state, F_t, batch):
        seen.append(batch.later is None)
        z = F_t(batch.others)
        return z, {"rows": torch.zeros(batch.num_images, z.shape[-1])}

    monkeypatch.setattr(revisit, "solver_of", lambda c: partial(recorded))
    per_epoch = 1437 // 300
    revisit.update(run, as_if(run, mode="ema_eta", m=0.5, bank="host", bank_dtype="fp32", predictor="none"))
    assert seen == [True] * (revisit.FILL * per_epoch) + [False]  # and then by the loop, which does store


def test_a_method_that_needs_h_is_refused_where_there_is_none(run, tmp_path):
    bare = trained(tmp_path / "bare", predictor="none", epochs=1)
    with pytest.raises(emsiam.ConfigError, match="has no predictor, and onestep --predictor mlp needs one"):
        revisit.update(bare, run.config)
    unsaved = tmp_path / "unsaved"
    unsaved.mkdir()
    (unsaved / "config.json").write_text((bare.path / "config.json").read_text())
    for function in (revisit.update, revisit.gap):
        with pytest.raises(emsiam.ConfigError, match="has no checkpoint yet"):
            function(emsiam.load_run(unsaved))


@pytest.mark.parametrize("symmetry", ["sym", "asym2x"])
def test_visits_are_what_the_run_has_shown(run, digits, symmetry):
    c, ids = as_if(run, symmetry=symmetry), data.probe_set.probe_ids(digits)
    order = {"seed": 0, "batch_size": 300, "symmetry": symmetry, "dtype": torch.float64}
    shown = {}
    for batch in data.batches.batches(digits, start=0, stop=6, **order):
        further = batch.draw(2)
        for i, image in enumerate(batch.ids.tolist()):
            shown[batch.step // 4, image] = batch.views[:, i], further[:, i]
    again = list(revisit.visits(digits, ids, c, 6))
    assert len(again) == 2
    assert sum(len(b.ids) for b in again) == len({k for k in shown if k[1] in set(ids.tolist())})
    for epoch, batch in enumerate(again):
        further = batch.draw(2)
        assert torch.equal(batch.others, batch.views[list(batch.partners)])
        for i, place in enumerate(batch.ids.tolist()):
            views, more = shown[epoch, int(ids[place])]
            assert torch.allclose(batch.views[:, i], views)
            assert torch.allclose(further[:, i], more)


def test_a_bank_replayed_under_one_theta_has_no_lag_and_its_number_of_views(tmp_path):
    """θ stands still, but for batch statistics: what is left is the sampling of so many views."""
    still = trained(
        tmp_path / "still", mode="ema_eta", m=0.6, lr=1e-9, epochs=9, batch_size=1437, wd=0, precision="fp32"
    )
    found = revisit.gap(still)
    views = em.response(solver_of(still.config), steps_per_epoch=1, epochs=9).views
    assert found.sampling == pytest.approx(1 / views, rel=0.15)
    assert found.lag < 0.05 * found.sampling
    assert found.total == pytest.approx(found.sampling, rel=0.15)
    assert math.isfinite(found.bn)


def test_lag_is_of_the_moving_theta(tmp_path):
    moving = revisit.gap(trained(tmp_path / "moving", mode="ema_eta", m=0.95, epochs=6, precision="fp32"))
    assert moving.lag > 0.1
    assert moving.total == pytest.approx(moving.lag + moving.sampling + moving.cross)


def test_a_fresh_eta_has_no_lag(run):
    found = revisit.gap(run)
    assert found.lag == 0
    assert found.total == pytest.approx(found.sampling)
    held = revisit.gap(trained(run.path.parent / "held", mode="multistep", k=3, lr=1.0))
    assert held.lag > 0
