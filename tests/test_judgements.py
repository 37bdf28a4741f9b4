"""What each claim makes of runs whose answer is known."""

import numpy as np
import pytest
import torch
from _record import record

from experiments.claims import claims
from experiments.claims._runs import packed

NOISE = (-0.002, -0.001, 0.0, 0.001, 0.002)


def verdicts(cells):
    return [cell.verdict for cell in cells]


def test_both_half_steps_are_counted_by_alternation():
    both = claims()["both_halves"]

    def run(theta_falls):
        """Five alternations; the η-step always lowers L by 1, the θ-step in as many as asked."""
        before, solved, level = [None], [10.0], 10.0  # the first η has none before it
        for i in range(5):
            level += -0.5 if i < theta_falls else 0.5
            before.append(level)
            level -= 1
            solved.append(level)
        columns = {f"{of}_{end}": x for of in ("f", "other") for end, x in (("before", before), ("solved", solved))}
        return record({"step": list(range(6)), "cosine": [None] * 5 + [0.5], **columns})

    # Of five η-steps four are followed by a θ-step that ends in a look.
    assert both.descents(run(5), "f") == 1
    assert both.descents(run(1), "f") == 0  # the first θ-step comes before the first η-step that is compared
    assert both.descents(run(3), "f") == 0.5
    assert [x.tolist() for x in both.half(run(3), "f")] == [[True] * 4, [True, True, False, False]]
    assert verdicts(both.judge({both.ROW: [run(5)] * 3})) == ["passes"]
    assert verdicts(both.judge({both.ROW: [run(3)] * 3})) == ["fails"]


def test_delay_is_a_change_of_a_change():
    delay = claims()["delay"]

    def group(early, late):
        return [record({"step": [0, 1100, 4400], "knn_z": [0.9, early + e, late - e]}) for e in NOISE]

    def judged(late, simsiam=0.99):
        return delay.judge({delay.BANK: group(0.95, late), "SimSiam": group(0.98, simsiam)})[0]

    assert judged(0.88).mean == pytest.approx(-0.08)  # −0.07, where SimSiam gains 0.01
    assert judged(0.88).verdict == "passes"
    assert judged(0.97).verdict == "fails"
    assert judged(0.94).verdict == "undecided"
    assert judged(0.94, simsiam=1.03).verdict == "passes"  # SimSiam gains where it does not


def test_a_mixed_target_is_compared_with_simsiam():
    consistency = claims()["consistency"]

    def group(z, p_length):
        falls = {"step": [100, 200], "trained_before": [None, 1.0], "trained_solved": [0.5, 0.5]}
        right = {"z": packed(torch.arange(100) < round(100 * z))}
        return [
            record({**falls, "trained_least": [0.5, 0.0]}, knn_z=z + e, right=right, square_z=1.0, square_p=p_length)
            for e in NOISE
        ]

    def judged(half, most):
        kept = {0.5: half, 0.9: most}
        return consistency.judge({consistency.name(x): group(kept.get(x, 0.98), 4.0) for x in consistency.LAMBDAS})

    assert verdicts(judged(0.98, 0.7)) == ["passes", "passes"]
    assert verdicts(judged(0.9, 0.98)) == ["fails", "fails"]
    assert verdicts(judged(0.98, 0.95)) == ["passes", "undecided"]
    assert consistency.weight(group(0.9, 4.0), 0.5) == pytest.approx(2 / 3)  # p is twice as long as z
    assert "g₁ by λ 0: 0.50" in judged(0.9, 0.9)[0].note


def test_first_visits_read_rank_relative_to_simsiam_and_its_slope():
    visits = claims()["first_visits"]

    def run(start, end, noise=0.0, std=1.0):
        """PR falls straight in logarithms from `start` at epoch 0 to `end` at epoch 100."""
        steps = np.arange(0, 501, 10)
        pr = np.exp(np.linspace(np.log(start), np.log(end), len(steps)) + noise)
        return record({"step": steps.tolist(), "pr_z": pr.tolist(), "std_z": [std] * len(steps)})

    def judged(end, **more):
        ours = [run(8, end, e, **more) for e in NOISE]
        found = {f"{n} images, {first}": ours for n in visits.IMAGES for first in visits.FIRST}
        simsiam = {f"{n} images, SimSiam": [run(8, 8, e) for e in NOISE] for n in visits.IMAGES}
        return visits.judge(found | simsiam)

    ratio, slope = judged(2)[:2]
    assert ratio.mean == pytest.approx(0.25, rel=1e-3)
    assert slope.mean == pytest.approx(np.log(0.25) / 25, rel=1e-3)  # per lag of four epochs
    assert verdicts(judged(2)) == ["passes"] * 18
    assert slope.note == "PR had fallen by 15 lags"
    assert verdicts(judged(7)[:2]) == ["fails", "passes"]  # it falls, but not below 0.6
    assert verdicts(judged(9)[:2]) == ["fails", "fails"]
    assert judged(8, std=0.1)[0].mean == pytest.approx(1 / 8, rel=1e-3)  # of noise around a constant PR is not read


def test_half_lives_are_log_linear_between_alternations():
    modes = claims()["linear_modes"]
    rho = np.array([0.8, 0.5, 0.95])
    amplitudes = rho ** np.arange(5)[:, None]
    found = modes.half_lives(amplitudes)
    assert found == pytest.approx(np.log(0.5) / np.log(rho))  # the last of the last slope: it is not reached

    def run(factor, reverse=False):
        closed = [1.0, 2.0, 3.0, 4.0]
        measured = closed[::-1] if reverse else closed
        return record(half_lives=[factor * x for x in measured], closed=measured, rho=[0.1, 0.2, 0.3, 0.4])

    def judged(*runs):
        return verdicts(modes.judge({"k = 160": list(runs), "k = 1": [run(1.0), run(1.0, True)]}))

    assert judged(run(1.01), run(1.05), run(0.97)) == ["passes", "passes"]
    assert judged(run(1.4), run(1.41), run(0.7)) == ["fails", "passes"]
    assert judged(run(1.01, True), run(1.05, True), run(0.97, True)) == ["passes", "fails"]


def test_an_edge_is_judged_by_growth_from_the_step_at_which_averages_hold():
    edge = claims()["edge"]

    def group(factor):
        curves = {"step": [0, edge.FROM, edge.TO]}
        return [record({**curves, "square_z": [50.0, 1.0, factor * (1 + e)]}, knn_z=0.9, pr_z=5.0) for e in NOISE]

    def judged(small, large):
        factors = {"0.9": small, "1": 1.0, "1.1": large}
        powers = {f"h = H*^{a}": group(1.0) for a in edge.POWERS}
        return verdicts(edge.judge({f"h = {c} H*": group(x) for c, x in factors.items()} | powers))

    assert judged(2.0, 0.5) == ["passes", "passes"]
    assert judged(0.5, 2.0) == ["fails", "fails"]
    assert edge.growth(group(np.e))[2] == pytest.approx(1.0)
