"""The claims: words, statistics against scipy and scikit-learn, what a run measures, rules that come before runs."""

import copy
import functools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _record import record
from scipy import stats
from torch import nn

import emsiam
from emsiam.config import parse
from emsiam.diagnostics.statistics import holm, mean, welch
from emsiam.evaluation.classifiers import knn_predict, leave_one_out
from emsiam.files import plain
from emsiam.networks import Siamese
from emsiam.objective import unit
from experiments._records import Record, Records
from experiments.claims import NAMES, _rules, claims, edge, predicts, rule_hash
from experiments.claims import __main__ as command
from experiments.claims import _beside as beside
from experiments.claims import _changes as changes
from experiments.claims import _measure as measure
from experiments.claims import _page as page
from experiments.claims import _runs as runs
from experiments.claims import _settings as settings

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "results" / "claims.runs.jsonl"
rng = np.random.default_rng(0)
A, B = rng.normal(0.9, 0.01, 10), rng.normal(0.8, 0.03, 5)


@pytest.fixture(scope="module", autouse=True)
def options_are_resolved_once():
    """A run's key is made of its options, resolved, and asked for again and again."""
    known, decisive = {}, runs.decisive

    def once(config):
        text = json.dumps(config.to_dict(), sort_keys=True)
        known[text] = known.get(text) or decisive(config)
        return known[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "decisive", once)
        yield


# Statistics


def test_differences_are_welch_s():
    ours = welch(A, B)
    theirs = stats.ttest_ind(A, B, equal_var=False)
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.p_above(0.0) == pytest.approx(stats.ttest_ind(A, B, equal_var=False, alternative="greater").pvalue)
    shifted = stats.ttest_ind(A - 0.05, B, equal_var=False, alternative="greater").pvalue
    assert ours.p_above(0.05) == pytest.approx(shifted)


@pytest.mark.parametrize(
    ("x", "margin", "fails", "said"),
    [
        ([0.2, 0.21, 0.22], 0.05, 0.01, "passes"),
        ([0.02, 0.03, 0.04], 0.05, 0.01, "undecided"),  # between the margins
        ([0.0, 0.002, 0.004], 0.05, 0.01, "fails"),
        ([-0.3, 0.1, 0.5], 0.05, 0.01, "undecided"),
    ],
)
def test_a_cell_passes_and_fails_where_its_interval_lies_wholly_beyond(x, margin, fails, said):
    assert _rules.above("", mean(x), margin, fails=fails).verdict == said
    turned = _rules.below("", mean([-y for y in x]), -margin, fails=-fails)
    assert turned.verdict == said
    assert turned.p == pytest.approx(_rules.above("", mean(x), margin).p)


def test_equivalence_is_two_one_sided_tests():
    x = [0.001, 0.004, -0.003, 0.002, 0.0]
    cell = _rules.within("", mean(x), -0.01, 0.01)
    above, below = (stats.ttest_1samp(x, m, alternative=a).pvalue for m, a in ((-0.01, "greater"), (0.01, "less")))
    assert cell.p == pytest.approx(max(above, below))
    assert cell.verdict == "passes"
    assert (cell.p < 0.05) == (cell.verdict == "passes")
    assert _rules.within("", mean([0.0, 0.03, -0.02]), -0.01, 0.01).verdict == "undecided"  # never "no difference"
    assert _rules.within("", mean([0.03, 0.031, 0.032]), -0.01, 0.01).verdict == "fails"


def test_counts_have_exact_intervals():
    cell = _rules.counted("", [True] * 9 + [False], passes=9, fails=7)
    assert (cell.low, cell.high) == pytest.approx((stats.beta.ppf(0.025, 9, 2), stats.beta.ppf(0.975, 10, 1)))
    assert cell.p == pytest.approx(11 / 1024)
    assert [_rules.counted("", [True] * n + [False] * (10 - n), passes=9, fails=7).verdict for n in (9, 8, 7)] == [
        "passes", "undecided", "fails",
    ]  # fmt: skip


def test_holm():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    passes = [_rules.above("", mean([1, 1.01, 1.02]), 0.0)]
    assert _rules.verdict(passes, 0.04) == "supported"
    assert _rules.verdict(passes, 0.06) == "undecided"
    assert _rules.verdict([*passes, _rules.below("", mean([1, 1.01, 1.02]), 0.0)], 0.04) == "contradicted"


def test_the_bootstrap_knows_that_seeds_share_images():
    """With one seed per group the interval is that over images; where all images are alike, that over seeds."""
    images = 2000
    x, y = rng.random(images) < 0.9, rng.random(images) < 0.8
    low, high = _rules.bootstrap([x], [y])
    error = (x.astype(float) - y).std() / math.sqrt(images)
    assert (low + high) / 2 == pytest.approx(x.mean() - y.mean(), abs=0.2 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert _rules.bootstrap([x, x], [x]) == (0, 0)  # the same images are drawn for both


# What a run measures


def test_leave_one_out_is_scikit_learn_s():
    from sklearn.neighbors import KNeighborsClassifier

    x = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, [120], generator=torch.Generator().manual_seed(1))
    ours = leave_one_out(x, labels, k=7, t=0.1, num_classes=3)
    z = unit(x).numpy()
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        model = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp(-distance / 0.1))
        assert model.fit(z[others], labels[others]).predict(z[i : i + 1])[0] == ours[i]
    one = knn_predict(x[1:], labels[1:], x[:1], k=7, t=0.1, num_classes=3)
    assert one[0] == ours[0]
    with pytest.raises(ValueError, match="120 neighbours of 120"):
        leave_one_out(x, labels, k=120, t=0.1, num_classes=3)


def test_re_estimated_statistics_are_those_of_all_images_and_leave_no_trace():
    parts = emsiam.prepare(runs.configured({"epochs": 1}, 0))
    net, images = parts.network, parts.images.images
    x = parts.images.normalise(images[torch.arange(len(images))])
    before = copy.deepcopy(net.state_dict())
    made = measure.re_estimated(net, x)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    first, bn = made.F.backbone.trunk[0], made.F.backbone.trunk[1]
    with torch.no_grad():
        seen = first(x)
    torch.testing.assert_close(bn.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(bn.running_var, seen.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        z = made.F(x)  # in eval mode: what a BN without running statistics gives
    torch.testing.assert_close(z.mean(0), torch.zeros(128), rtol=0, atol=1e-2)
    torch.testing.assert_close(z.var(0), torch.ones(128), rtol=1e-2, atol=0)


def test_the_rows_that_share_one_loss_take_all_of_its_descent():
    """g₁ = 1: their η is the best one there is. Without h the trained loss is (5), too."""
    for options in (settings.NO_H.options, settings.H_TARGET.options):
        parts = emsiam.prepare(runs.configured({"epochs": 2, **options}, 0))
        ledger = measure.Ledger(parts)
        ledger.look({})
        *_, step = parts.alternation()
        found = ledger.look(step.state)
        assert found["trained_solved"] == pytest.approx(found["trained_least"])
        assert found["trained_before"] > found["trained_least"]
        if options is settings.NO_H.options:
            assert found["f_solved"] == pytest.approx(found["trained_solved"])
            assert found["cosine"] == pytest.approx(1)


def test_the_best_eta_of_unit_vectors_is_their_mean_made_one():
    """argmin_η E‖ĝ − η̂‖² = m/‖m‖ with m = E ĝ, where it is 2(1 − ‖m‖); n views make it too good by about (1−‖m‖²)/n."""
    g = unit(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5)
    m = g.mean(0)

    def loss(eta):
        return (g - unit(eta)).square().sum(-1).mean()

    assert loss(m).item() == pytest.approx(2 * (1 - m.norm().item()))
    assert all(loss(m + 0.1 * torch.randn(16, dtype=torch.float64)) > loss(m) for _ in range(20))
    groups = g.view(500, 8, 16)
    own = (groups - unit(groups.mean(1, keepdim=True))).square().sum(-1).mean()
    other = (groups.roll(1, 0) - unit(groups.mean(1, keepdim=True))).square().sum(-1).mean()
    assert own < loss(m) < other


def test_a_target_through_h_is_no_h_with_a_deeper_projector():
    """h∘F as target with h in θ, and F′ = h∘F without h: the same losses and the same weights."""
    config = runs.configured({"epochs": 2, "precision": "fp64", "eta": "predicted"}, 0)
    parts = emsiam.prepare(config)
    bare = emsiam.prepare(replace(config, eta=None, predictor="none"))
    deeper = nn.Sequential(*copy.deepcopy(parts.network.F.projector), *copy.deepcopy(parts.network.h))
    net = Siamese(bare.network.F.backbone, deeper, nn.Identity())
    net.F.backbone.load_state_dict(parts.network.F.backbone.state_dict())
    bare = replace(bare, network=net, optimizer=emsiam.optim.SGD(
        net, lr=config.lr * 0.5 if config.lr else 0.05, momentum=0.9, wd=5e-4, steps=22, schedule="constant",
    ))  # fmt: skip
    losses = [[step.loss.item() for step in p.alternation()] for p in (parts, bare)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    mine = [*parts.network.F.parameters(), *parts.network.h.parameters()]
    for a, b in zip(mine, net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_solved_h_is_the_regression_of_the_other_view():
    parts = emsiam.prepare(runs.configured({"epochs": 1, "predictor": "linear", "precision": "fp64"}, 0))
    solved = changes.solved_h(parts, c=0.9)
    batch = next(iter(solved.batches))
    x, y = (measure.look(parts.network.F, view) for view in batch.views)
    both, other = torch.cat([x, y]), torch.cat([y, x])
    ridge = changes.RIDGE * both.square().sum(1).mean() / both.shape[1] * len(both)
    eye = ridge.sqrt() * torch.eye(both.shape[1], dtype=both.dtype)
    best = torch.linalg.lstsq(torch.cat([both, eye]), torch.cat([other, 0 * eye])).solution
    torch.testing.assert_close(
        parts.network.h.weight.detach(), 0.9 * best.T, rtol=0.05, atol=0.02
    )  # shares below 0 are 0
    assert not parts.network.h.weight.requires_grad


def test_bits_of_images_are_packed_and_unpacked():
    bits = torch.rand(1797, generator=torch.Generator().manual_seed(0)) < 0.9
    text = runs.packed(bits)
    assert len(text) < 460
    np.testing.assert_array_equal(runs.unpacked(text), bits.numpy())


def test_a_switch_goes_on_from_simsiam_s_weights():
    spec = runs.Spec({"epochs": 3, **settings.NO_H.options}, 0, switched_at=11)
    alone = emsiam.prepare(runs.configured({"epochs": 3}, 0))
    for step in alone.alternation():
        if step.step == 10:
            break
    parts = runs.switched(emsiam.prepare(runs.configured(spec.options, 0)), spec)
    for a, b in zip(alone.network.F.parameters(), parts.network.F.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert [step.step for step in parts.alternation()] == list(range(11, 33))
    own = runs.Spec({"epochs": 3, **settings.H_IN_ETA.options}, 0, switched_at=11)
    of_h = runs.switched(emsiam.prepare(runs.configured(own.options, 0)), own).state
    torch.testing.assert_close(of_h["h.0.weight"], alone.network.h[0].weight.detach())


def test_a_run_is_the_same_twice_and_its_looks_leave_no_trace():
    spec = runs.Spec({"epochs": 1}, 0, spread_every=5, right_every=5, ledger_every=5)
    often, seldom = (s.perform({"one_loss": "abc"}) for s in (spec, spec._replace(spread_every=11, ledger_every=0)))
    assert often.summary["linear"] == seldom.summary["linear"]
    assert often.summary["right"] == seldom.summary["right"]
    assert often.environment["rule_one_loss"] == "abc"
    assert often.curves["step"] == [0, 5, 10, 11]
    assert spec.key != spec._replace(spread_every=11).key


# Decisions


def ranks(values, every=20, s=1.0):
    return {"step": [every * i for i in range(len(values))], "pr_z": list(values), "std_z": [s] * len(values)}


def test_rank_falls_at_two_looks_in_a_row():
    assert settings.falls(record(ranks([7, 3, 7, 3, 3, 3])), 3.5) == 60
    assert settings.falls(record(ranks([7] * 6)), 3.5) is None
    assert settings.falls(record(ranks([7] * 6, s=0.4)), 3.5) == 0
    steps, pr = settings.mean_rank([record(ranks([8] * 3)), record(ranks([6] * 3))])
    assert (steps.tolist(), pr.tolist()) == ([0, 20, 40], [7, 7, 7])


def lag_found(times, censored=()):
    """Runs whose PR falls at times {(k, n): step}; those of `censored` never."""
    lag = claims()["lag"]
    found = {"SimSiam": [record(ranks([8] * 45, every=100))] * 2}
    for cell, step in times.items():
        runs_ = []
        for factor in (0.98, 1.0, 1.02):
            falls = 10**9 if cell in censored else step * factor
            runs_.append(record(ranks([8 if 20 * i < falls else 1 for i in range(400)]), steps=7980))
        found[lag.name(*cell)] = runs_
    return found


def test_lag_delays_and_averaging_does_not():
    lag = claims()["lag"]
    times = {(1, 1): 1200, (1, 9): 1200, (100, 1): 3000, (100, 9): 3000, (400, 1): 7000, (400, 9): 7000}
    assert {cell.verdict for cell in lag.judge(lag_found(times))} == {"passes"}
    helps = lag.judge(lag_found({**times, (1, 9): 2900}))
    assert Counter(cell.verdict for cell in helps) == {
        "passes": 5,
        "fails": 2,
    }  # over n at k = 1, and over lag at n = 9
    censored = {cell.name: cell for cell in lag.judge(lag_found(times, {(400, 1)}))}
    assert censored["n = 9 over n = 1, k = 400"].verdict == "undecided"
    assert censored["k = 400 over 100, n = 1"].verdict == "passes"  # a lower bound is beyond the margin
    assert "did not fall in 3" in censored["k = 400 over 100, n = 1"].note


def test_a_row_is_compared_with_the_same_output_of_simsiam():
    one_loss = claims()["one_loss"]

    def group(z, p, start=(0.73, 0.6)):
        bits = {n: runs.packed(torch.arange(100) < round(100 * x)) for n, x in (("z", z), ("p", p))}
        return [
            record(
                {"step": [0, 10], "knn_z": [start[0], z], "knn_p": [start[1], p]}, right=bits, knn_z=z + e, knn_p=p + e
            )
            for e in (-0.002, 0.0, 0.002)
        ]

    simsiam = group(0.78, 0.75)
    for row, kept, said in (
        (settings.NO_H, (0.74, 0.74), "passes"),  # four fifths of the gain of z are gone, though its z is as good as p
        (settings.NO_H, (0.758, 0.758), "undecided"),
        (settings.NO_H, (0.775, 0.775), "fails"),
        (settings.H_TARGET, (0.7, 0.62), "passes"),
        (settings.H_TARGET, (0.7, 0.74), "fails"),
    ):
        assert one_loss.cell("Fashion-MNIST: row", simsiam, group(*kept), row).verdict == said
    nothing = one_loss.cell("Fashion-MNIST: row", group(0.73, 0.6), group(0.5, 0.5), settings.NO_H)
    assert nothing.verdict == _rules.UNDECIDABLE  # SimSiam gains nothing there
    digits = one_loss.cell("digits, k = 1: row", group(0.98, 0.96), group(0.9, 0.9), settings.NO_H)
    assert digits.verdict == "passes"
    assert digits.mean == pytest.approx(0.08)


def test_a_cell_that_says_nothing_counts_for_nothing():
    passes = _rules.above("", mean([1, 1.01, 1.02]), 0.0)
    nothing = passes._replace(verdict=_rules.UNDECIDABLE, p=1.0)
    assert _rules.primary([passes, nothing]) == passes.p
    assert _rules.verdict([passes, nothing], passes.p) == "supported"
    assert _rules.verdict([nothing], 1.0) == "undecided"


def test_g_1_is_a_share_of_sums_without_the_eta_that_is_never_used():
    eta_step = claims()["eta_step"]
    steps = [100 * i for i in range(45)]
    after = [None] + [1.0] * 43 + [9.0]  # as at the last step, which does not count
    run = record({"step": steps, "trained_before": after, "trained_solved": [0.9] * 45, "trained_least": [0.5] * 45})
    assert len(eta_step.fell(run, "trained_solved")) == 43
    assert eta_step.taken([run]) == pytest.approx([0.1 / 0.5])


def test_controls_are_shown_also_where_runs_diverged():
    controls = claims()["controls"]
    numbers = {"knn_z": 0.9, "knn_p": 0.8, "std_z": 1.0, "pr_z": 8.0, "std_p": 0.9}
    found = {name: [record(**numbers)] * 2 for name in controls.wanted()}
    found["Adam: no h"] = []
    cells = {cell.name: cell for cell in controls.judge(found)}
    assert len(cells) == len(found)
    assert cells["Adam: no h"].note == "diverged"
    assert "A_z 0.900, A_p 0.800" in cells["Adam: SimSiam"].note


def test_order_counts_runs():
    order = claims()["order"]

    def run(z, hidden, backbone):
        """Steps at which outputs lose images; None: never."""

        def knn(at):
            return [0.9 if at is None or step < at else 0.8 for step in range(0, 500, 10)]

        columns = {"knn_z": knn(z), "knn_hidden": knn(hidden), "knn_backbone": knn(backbone)}
        return record({"step": list(range(0, 500, 10)), **columns})

    cells = order.judge({"moving average": [run(100, 200, None)] * 9 + [run(200, 100, None)]})
    assert [cell.verdict for cell in cells] == ["passes"] * 3
    cells = order.judge({"moving average": [run(100, 100, 200)] * 10})  # a tie is not first
    assert [cell.verdict for cell in cells] == ["fails", "passes", "passes"]
    cells = order.judge({"moving average": [run(100, None, 200)] * 10})
    assert [cell.verdict for cell in cells] == ["passes", "undecided", "undecided"]
    assert cells[2].p == 0  # a precondition


def test_steps_per_alternation_are_equivalent_or_not_decidable():
    many = claims()["many_steps"]

    def found(sd, better=0.0):
        noise = np.array([-1.5, -1, -0.5, -0.2, 0, 0, 0.2, 0.5, 1, 1.5]) * sd
        groups = {
            f"k = {k}": [record(linear=0.8 + x + better * (k > 1)) for x in noise] for k in (1, 10, 100, 160, 1000)
        }
        return {many.TRIAL: groups["k = 1"][:5], **groups}

    assert [cell.verdict for cell in many.judge(found(0.003))] == ["passes"] * 2
    assert [cell.verdict for cell in many.judge(found(0.003, -0.02))] == ["fails"] * 2
    assert [cell.verdict for cell in many.judge(found(0.003, 0.02))] == ["undecided"] * 2  # better contradicts nothing
    assert "not decidable" in many.judge(found(0.02))[0].note


def test_every_claim_says_its_rule_and_asks_for_runs_of_the_seeds_that_are_no_trials():
    known = claims()
    assert tuple(known) == NAMES
    files = {f.stem for f in (ROOT / "experiments" / "claims").glob("[a-z]*.py")}
    assert files == set(NAMES)
    for name, claim in known.items():
        for word in ("Setting:", "Outcome:", "Changes:"):
            assert word in claim.__doc__, name
        for group, tasks in claim.wanted().items():
            assert tasks, group
            assert {task.seed for task in tasks} <= set(_rules.SEEDS) or "trial" in group
            assert all(task.seconds > 0 for task in tasks)


def test_runs_are_shared_between_claims():
    known = claims()
    key = known["delay"].wanted()["SimSiam"][0].key
    assert key == known["one_loss"].wanted()["digits, k = 1: SimSiam"][0].key
    assert key == known["consistency"].wanted()["λ = 0"][0].key


# Rules before runs


@functools.cache  # many runs are of one commit
def at_commit(commit, path):
    done = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def refused(line, source=at_commit):
    """Claims whose rule a run names, though its commit does not contain it."""
    commit = line["environment"]["commit"]
    named = {n.removeprefix("rule_"): x for n, x in line["environment"].items() if n.startswith("rule_")}
    if commit.endswith("+") or not named:
        return ["commit"]
    return [name for name, said in named.items() if hashed_at(commit, name, source) != said]


@functools.cache
def hashed_at(commit, name, source):
    return rule_hash(name, functools.cache(lambda file: source(commit, f"experiments/claims/{file}")))


def test_a_run_whose_commit_does_not_contain_its_rule_is_refused():
    files = {
        "experiments/claims/_rules.py": "WORDS = 1",
        "experiments/claims/lag.py": "from ._rules import WORDS\nfrom .delay import BANK",
        "experiments/claims/delay.py": "BANK = 0.8",
    }

    def source(commit, path):
        return files.get(path) if commit == "abc1234" else None

    def hashed(**changed):
        texts = {file.rpartition("/")[2]: text for file, text in files.items()}
        return rule_hash("lag", (texts | {f"{name}.py": text for name, text in changed.items()}).get)

    good = {"environment": {"commit": "abc1234", "rule_lag": hashed()}}
    assert refused(good, source) == []
    for change in ({"commit": "abc1234+"}, {"commit": "def"}, {"commit": "None"}):
        assert refused({"environment": good["environment"] | change}, source)
    assert refused({"environment": {"commit": "abc1234"}}, source)
    for changed in ({"lag": "MARGIN = 2"}, {"_rules": "WORDS = 2"}, {"delay": "BANK = 0.9"}):  # of all it is made of
        assert refused({"environment": good["environment"] | {"rule_lag": hashed(**changed)}}, source)
    assert refused({"environment": good["environment"] | {"rule_order": hashed()}}, source) == ["order"]


@pytest.mark.skipif(not RUNS.exists(), reason="no run of a claim is committed yet")
def test_the_rule_of_each_committed_run_was_committed_before_it():
    if subprocess.run(["git", "rev-parse", "HEAD^"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("the history of commits is not here")
    lines = [json.loads(line) for line in RUNS.read_text().splitlines()]
    bad = {line["key"]: wrong for line in lines if (wrong := refused(line))}
    assert not bad


def test_a_claim_without_all_runs_is_not_finished_and_none_is_left_out(tmp_path):
    known = claims()
    table = {name: claim.wanted() for name, claim in known.items()}
    made = command.judgements(known, table, Records(tmp_path, "claims"))
    assert tuple(made) == NAMES
    assert all(entry["verdict"].startswith("not finished: 0 of") for entry in made.values() if entry["wanted"])


# Pages


def entry(verdict, *cells):
    """What claims.json says of a claim."""
    base = {"title": "T.", "runs": 1, "wanted": 1, "diverged": 0, "other_rules": 0, "p": 0.01, "holm": 0.02}
    return base | {"verdict": verdict, "cells": [cell._asdict() for cell in cells]}


def test_a_docstring_s_parts_are_found():
    claim = claims()["lag"]
    assert page.said(claim, "Reason").startswith("in trials s fell below")
    assert page.said(claim, "Setting").endswith("does not depend on n.")
    assert page.said(claim, "Cells").endswith("one over n is undecided.")
    assert page.said(claim, "Changes") == "none since the first run."
    assert page.said(claim, "Nothing") == ""


def test_the_page_says_what_a_verdict_means_as_it_was_written_before():
    passes = _rules.above("a", mean([1, 1.1, 1.2]), 0.0)
    near = _rules.above("near", mean([0.1, 0.2, 0.3]), 0.0)
    fails = _rules.below("b", mean([1, 1.1, 1.2]), 0.0)
    made = {
        "lag": entry("contradicted", passes, fails),
        "delay": entry("supported", passes, near),
        "order": entry("undecided", near),
        "edge": entry("not finished: 3 of 30 runs"),
    }
    text = page.hypothesis(made, {})
    assert f"- `lag` contradicted: {page.said(claims()['lag'], 'Contradicted means')}" in text
    assert f"- `delay` supported: {page.said(claims()['delay'], 'Supported means')}" in text
    assert "- `order` undecided" not in text
    assert "not finished: 3 of 30 runs" in text
    rows = [line for line in text.splitlines() if line.startswith("| T")]
    assert "b: +1.100" in rows[0]  # what contradicts decides
    assert "near: +0.200" in rows[1]  # else the worst
    assert page.MARK not in text


def test_the_readme_has_the_claims_and_their_numbers():
    passes, fails = (_rules.below("b", mean([1, 1.1, 1.2]), margin) for margin in (2.0, 0.0))
    made = {"lag": entry("contradicted", passes, fails), "edge": entry("not finished: 3 of 30 runs")}
    text = "<!-- claims -->\nold\n<!-- /claims -->\nb: <!-- lag -->0<!-- /lag -->, <!-- edge --><!-- /edge -->"
    readme = page.readme(text, made, {})
    rows = [line.split(" | ")[1] for line in readme.splitlines() if line.startswith("| [T](docs/claims.md#")]
    assert rows == ["contradicted |", "not finished: 3 of 30 runs |"]
    assert "old" not in readme
    assert "b: <!-- lag -->1.100 (" in readme
    assert "<!-- edge -->not finished: 3 of 30 runs<!-- /edge -->" in readme


def test_every_claim_says_what_either_answer_means():
    for name, claim in claims().items():
        assert predicts(claim) == (name != "controls")
        if predicts(claim):
            assert page.said(claim, "Supported means"), name
            assert page.said(claim, "Contradicted means"), name


def test_the_commands_of_the_page_are_runs(tmp_path):
    (block,) = re.findall(r"```sh\n(.*?)```", page.PROSE.read_text(), re.DOTALL)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho $*\n")
    program.chmod(0o755)
    done = subprocess.run(["/bin/sh", "-e"], input=block, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    *trainings, compared = done.stdout.splitlines()
    assert compared.startswith("-m emsiam.compare runs/larger/")
    assert len({parse(line.split()[2:])[0].out for line in trainings}) == 8


@pytest.mark.skipif(not RUNS.exists(), reason="no run of a claim is committed yet")
def test_the_pages_are_made_of_the_committed_runs():
    known = claims()
    table = {name: claim.wanted() for name, claim in known.items()}
    made = command.judgements(known, table, Records(ROOT / "results", "claims"))
    assert plain(made) == json.loads((ROOT / "results" / "claims.json").read_text())
    groups = command.grouped(table, Records(ROOT / "results", "claims"))
    found = beside.numbers(made, groups)
    assert (ROOT / "docs" / "hypothesis.md").read_text() == page.hypothesis(made, found)
    assert (ROOT / "docs" / "claims.md").read_text() == page.details(made, groups, found)
    readme = (ROOT / "README.md").read_text()
    assert readme == page.readme(readme, made, found)
    asked = set(re.findall(r"\[\[(\w+)\]\]", page.PROSE.read_text() + page.REMARKS.read_text()))
    assert set(re.findall(r"<!-- (\w+) -->", readme)) <= {*made, *found, "claims"}
    if all(entry["cells"] for entry in made.values()):
        assert asked == found.keys()


@pytest.mark.skipif(not RUNS.exists(), reason="no run of a claim is committed yet")
def test_what_the_page_says_beside_the_rules():
    own = Records(ROOT / "results", "claims").own
    known = claims()
    found = [own[task.key] for task in known["eta_step"].wanted()[known["eta_step"].ROW]]
    assert np.mean([known["eta_step"].fell(r, "trained_solved") for r in found], 0).max() < 0
    before, solved = (np.array([settings.curve(r, f"f_{end}")[1] for r in found]) for end in ("before", "solved"))
    eta, theta = before[:, :-1] - solved[:, 1:-1], solved[:, 1:-1] - before[:, 1:]
    assert ((eta >= 0) & (theta >= 0)).mean(0)[:5].min() > 0.5
    assert (eta + theta)[:, :5].sum() > 10 * abs((eta + theta)[:, 10:].sum())  # most of the descent
    assert theta.mean(0)[7:].max() < 0 < eta.mean(0).min()
    assert -theta[:, 7:12].sum() < 0.5 * eta[:, 7:12].sum()
    assert -theta[:, -5:].sum() == pytest.approx(eta[:, -5:].sum(), rel=0.15)
    mixed = {part: [own[task.key] for task in of] for part, of in known["consistency"].wanted().items()}
    rank = {part: np.mean([r.summary["pr_z"] for r in of]) for part, of in mixed.items()}
    assert rank["λ = 0.9"] / rank["λ = 0"] == pytest.approx(0.5, abs=0.1)
    assert known["consistency"].weight(mixed["λ = 0.9"], 0.9) == pytest.approx(0.7, abs=0.05)
    assert mean(known["eta_step"].taken(mixed["λ = 0"])).mean == pytest.approx(0.5, abs=0.05)


def test_what_the_page_says_of_lag_and_moving_averages():
    own, known = Records(ROOT / "results", "claims").own, claims()
    made = json.loads((ROOT / "results/claims.json").read_text())
    cells = {name: made[name]["cells"] for name in ("lag", "first_visits", "one_loss")}
    views = [cell for cell in cells["lag"] if cell["name"].startswith("n = 9 over")]
    assert all(cell["low"] < 1 < cell["high"] for cell in views)
    assert [cell["verdict"] for cell in views] == ["passes", "undecided", "undecided"]
    ratios, slopes = (
        [cell for cell in cells["first_visits"] if cell["name"].endswith(end)] for end in ("SimSiam's", "per lag")
    )
    assert len(ratios) == len(slopes) == 9
    assert max(cell["high"] for cell in ratios) < 0.4
    assert max(cell["high"] for cell in slopes) < 0
    groups = {name: [own[t.key] for t in of] for name, of in known["first_visits"].wanted().items()}
    simsiam, *averages = (
        np.mean(settings.last(groups[f"320 images, {row}"], "knn_backbone"))
        for row in ("SimSiam", *known["first_visits"].FIRST)
    )
    assert min(averages) > simsiam
    left = {cell["name"].partition(": ")[0] for cell in cells["one_loss"] if cell["verdict"] != "passes"}
    assert left == {"digits, from SimSiam", "shapes, all of T"}


def test_the_command_is_refused_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.claims", "lags", "--out", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("(did you mean lag?)\n")
    assert done.stderr.count("\n") == 1


def test_the_cell_that_decides_is_of_those_that_gave_the_verdict():
    def cell(verdict, p):
        return {"name": f"{verdict} {p}", "verdict": verdict, "p": p}

    passes, unsure, fails = cell("passes", 0.04), cell("undecided", 0.01), cell("fails", 0.9)
    nothing = cell(_rules.UNDECIDABLE, 1.0)
    for cells, decides in (
        ([passes, unsure, nothing], unsure),
        ([passes, nothing], passes),
        ([passes, unsure, fails], fails),
        ([nothing], None),
    ):
        assert page.worst({"cells": cells}) == decides


def test_runs_that_diverged_have_a_p_of_1_and_no_row(monkeypatch):
    """A p of the runs that are left would lower the correction of the others."""
    known = {"edge": edge}
    table = {"edge": {group: runs[:3] for group, runs in edge.wanted().items()}}
    rng = np.random.default_rng(0)

    def ended(task, grows):
        curves = {"step": [40, 165], "spread_z": [1.0, math.exp(grows + 0.1 * rng.normal())]}
        numbers = dict.fromkeys(("knn_z", "knn_p", "knn_backbone", "linear", "std_z", "std_p", "pr_z"), 1.0)
        config = {"spec": {"change": "", "options": {}}, "seed": task.seed}
        return Record(task.key, 1, config, {"verdict": "ended", "loss": 0.0, "steps": 0, **numbers}, {}, curves, {}, "")

    own = {t.key: ended(t, 1.0 if "0.9" in group else -1.0) for group, runs in table["edge"].items() for t in runs}
    records = SimpleNamespace(own=own)
    monkeypatch.setattr(edge, "growth", lambda runs: [math.log(r.curves["spread_z"][1]) for r in runs])
    assert command.judgements(known, table, records)["edge"]["verdict"] == "supported"
    one = next(iter(own))
    own[one] = own[one]._replace(summary={"verdict": "diverged", "loss": math.nan})
    made = command.judgements(known, table, records)
    assert (made["edge"]["verdict"], made["edge"]["p"]) == ("undecided: 1 runs diverged", 1.0)
    assert "| h = 0.9 H* | 2 |" in page.details(made, command.grouped(table, records), {})
