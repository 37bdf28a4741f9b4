"""Watching an alternation: it leaves no trace, and says what a slow account says."""

import itertools
import math

import pytest
import torch

import emsiam
from emsiam import data, networks
from emsiam.data.probe_set import probe_set
from emsiam.diagnostics import em
from emsiam.eta import SOLVERS
from emsiam.methods import METHODS
from emsiam.metrics import METRICS
from emsiam.objective import unit
from emsiam.training.monitors import HalfSteps
from emsiam.training.observe import NUMBERS, AlternationWatch, cut, passes, schedule

pytestmark = pytest.mark.usefixtures("plain_runs")

SMALL = {"epochs": 3, "batch_size": 359, "dim": 16, "hidden_dim": 16, "log_every": 3, "threads": 1, "quiet": True}


def fit(out, **options):
    return emsiam.fit(emsiam.Config(**SMALL | options, out=str(out)))


@pytest.mark.parametrize("options", [{}, {"mode": "multistep", "k": 2}, {"mode": "ema_eta"}], ids=str)
def test_training_with_and_without_it_gives_the_same_weights(tmp_path, options):
    watched = fit(tmp_path / "watched", diagnose_every=1, **options)
    alone = fit(tmp_path / "alone", diagnose_every=1000, **options)
    weights = [run.model().state_dict() for run in (watched, alone)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
    assert watched.metrics.loss.dropna().tolist()[-1] == alone.metrics.loss.dropna().tolist()[-1]
    names = set(watched.metrics) - set(alone.metrics)
    with_h = {name for name in NUMBERS if name.startswith(("em_h_", "r_"))}
    assert names == (set(NUMBERS) - with_h if options.get("mode") == "ema_eta" else set(NUMBERS))
    lines = watched.metrics.dropna(subset="em_before")
    assert lines.epoch.tolist() == [1, 2, 3]
    assert lines.notna().all(axis=None) or set(lines.columns[lines.isna().any()]) <= {
        m.name for m in METRICS.values() if m.seldom
    }


def test_a_run_goes_on_in_the_middle_of_an_alternation_that_is_watched(tmp_path):
    options = {"mode": "multistep", "k": 5, "diagnose_every": 3}
    whole = fit(tmp_path / "whole", **options)
    asked = itertools.count()

    class AfterFour(list):
        def __len__(self):
            return next(asked) >= 3

    config = emsiam.Config(**{**whole.config.to_dict(), "out": str(tmp_path / "parted")})
    assert not emsiam.fit(config, stop=AfterFour()).finished
    again = emsiam.fit(emsiam.Config(out=str(tmp_path / "parted"), resume=True), given=())
    columns = ["step", "loss", *(name for name in NUMBERS if name in whole.metrics)]
    assert whole.metrics.em_before.notna().sum() == 1
    assert again.metrics[columns].equals(whole.metrics[columns])


def test_the_schedule():
    assert schedule([0, 10], 1) == {8: ["begin"], 9: ["middle"], 10: ["end"]}
    assert schedule([11, 22], 10) == {0: ["begin"], 10: ["middle"], 20: ["end"]}  # at 11 there are not two yet
    assert schedule([2, 4], 1) == {0: ["begin"], 1: ["middle"], 2: ["end", "begin"], 3: ["middle"], 4: ["end"]}
    assert schedule([10, 12, 20], 5) == {0: ["begin"], 5: ["middle"], 10: ["end", "begin"], 15: ["middle"], 20: ["end"]}


@pytest.fixture
def watched(digits, siamese):
    """A net of the package, fp32, its probe set, and a step of SGD that moves it."""
    net = siamese(dtype=torch.float32)
    seen = probe_set(digits, "sym", torch.float32)

    def move():
        sgd = torch.optim.SGD(net.parameters(), lr=0.05)
        z, p = net(seen.views[:2], (0, 1))
        (-(unit(p) * unit(z.detach().flip(0))).sum(-1).mean()).backward()
        sgd.step()
        sgd.zero_grad()

    return net, seen, move


def test_the_numbers_are_those_of_a_slow_account(watched, digits):
    net, seen, move = watched
    watch = AlternationWatch(net, SOLVERS["other_view"], seen, len(digits.images), cosine=True, views=1.0)
    views = seen.views

    def look():
        with torch.no_grad():
            state = {name: x.clone() for name, x in net.state_dict().items()}
            z = torch.stack([net.F(x) for x in views])
            p = torch.stack([net.h(x) for x in z])
            net.load_state_dict(state)
        return z, p

    z0, _ = look()
    watch.begin({})
    move()
    z1, p1 = look()
    watch.middle({})
    move()
    z2, p2 = look()
    numbers = watch.end({})

    def loss(f, eta):
        return (f - eta).square().sum(-1).mean().item()

    expected = {}
    within = z2[2:].var(0).sum(-1).mean().item()  # the gap is of z as it is
    expected["eta_gap"] = (loss(z1[1], z2[2:].mean(0)) - within / 6) / within
    expected["eta_gap_lag"] = loss(z1[1], z2[1]) / within
    expected["eta_gap_sampling"] = (loss(z2[1], z2[2:].mean(0)) - within / 6) / within
    z0, z1, z2, p1, p2 = map(unit, (z0, z1, z2, p1, p2))

    flipped = [1, 0]
    expected |= {
        "em_before": loss(z1[:2], z0[flipped]),
        "em_solved": loss(z1[:2], z1[flipped]),
        "em_stepped": loss(z2[:2], z1[flipped]),
        "em_before_held": loss(z1[2:4], z0[flipped]),
        "em_solved_held": loss(z1[2:4], z1[flipped]),
        "em_stepped_held": loss(z2[2:4], z1[flipped]),
        "em_h_before": loss(p1[:2], z0[flipped]),
        "em_h_solved": loss(p1[:2], z1[flipped]),
        "em_h_stepped": loss(p2[:2], z1[flipped]),
    }
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    r = em.predictor_as_expectation(z2[:2], p2[:2], z2[2:])
    assert (numbers["r_h"], numbers["r_linear"]) == pytest.approx((r.h, r.linear), rel=1e-4)
    was, now = em.variance_table(z1), em.variance_table(z2)
    assert numbers["force_within"] == pytest.approx(now.within - was.within, rel=1e-3)
    assert numbers["trace_between"] == pytest.approx(now.between, rel=1e-4)
    assert numbers["share_median"] == pytest.approx(now.shares.median().item(), rel=1e-4)
    moved = now.shares.max() - was.shares.max()
    assert numbers["force_share_max"] == pytest.approx(moved.item(), abs=1e-5)


def test_it_leaves_no_trace(watched, digits):
    net, seen, _ = watched
    before = {name: x.clone() for name, x in net.state_dict().items()}
    state = {"rows": torch.randn(1437, 16), "visited": torch.ones(1437, dtype=torch.bool)}
    copy = {name: x.clone() for name, x in state.items()}
    watch = AlternationWatch(net, SOLVERS["moving_average"], seen, 1437, cosine=True, views=13.0)
    global_state = torch.get_rng_state()
    watch.begin(state)
    watch.middle(state)
    assert watch.end(state).keys() <= NUMBERS.keys()
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(before[name], x) for name, x in net.state_dict().items())
    assert all(torch.equal(copy[name], x) for name, x in state.items())
    assert net.training


def test_a_bank_s_target_is_made_from_the_rows_of_the_probe_s_images(watched, digits):
    net, seen, _ = watched
    rows = torch.randn(1437, 16)
    state = {"rows": rows, "visited": torch.ones(1437, dtype=torch.bool)}
    ids = data.probe_set.probe_ids(digits)
    eta, _ = SOLVERS["moving_average"](cut(SOLVERS["moving_average"], state, ids, 1437), passes(net), seen.batch, m=1.0)
    assert torch.equal(eta, rows[ids].expand(2, -1, -1))


def test_what_is_not_finite_gives_no_numbers(watched, digits):
    net, seen, _ = watched
    watch = AlternationWatch(net, SOLVERS["other_view"], seen, 1437, cosine=True, views=1.0)
    watch.begin({})
    watch.middle({})
    with torch.no_grad():
        next(net.parameters()).fill_(math.nan)
    assert watch.end({}) == {}


def test_every_solver_and_symmetry_can_be_watched(digits):
    net = networks.Siamese(
        networks.tiny(1),
        networks.build_projector(128, hidden_dim=8, dim=8, layers=2, bn="default", output_affine=True),
        torch.nn.Identity(),
    )
    few = digits._replace(images=digits.images[:64], labels=digits.labels[:64])
    for symmetry, method in itertools.product(data.batches.SYMMETRY, METHODS.values()):
        seen = probe_set(few, symmetry, torch.float32)
        watch = AlternationWatch(net, method.solve, seen, 64, cosine=False, views=1.0)
        watch.begin({})
        watch.middle({})
        assert all(map(math.isfinite, watch.end({}).values()))


def test_a_solver_is_told_the_step_that_it_is_looked_at(tmp_path):
    """What follows a schedule over the training, and what is of so many steps ago."""
    asked = []

    def solve(state, F_t, batch):
        asked.append((len(batch.ids), batch.step, batch.total))
        return F_t(batch.others), state | {"seen": torch.ones(())}

    parts = emsiam.prepare(emsiam.Config(epochs=4, batch_size=400, diagnose_every=1), solver=solve)
    watch = HalfSteps(parts, probe_set(parts.images, "sym", torch.float32))
    asked.clear()
    for step in parts.alternation():
        watch.look(step.step + 1, step.state)
    assert {total for _, _, total in asked} == {12}
    looks = [step for images, step, _ in asked if images != 400]
    assert looks == [step for step, names in sorted(watch.calls.items()) if step for name in names if name != "end"]
