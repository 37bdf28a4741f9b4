"""What is known of a solver is said at the solver: nothing is guessed from names, and nothing fails in silence."""

import itertools
from functools import partial

import pytest
import torch

import emsiam
from emsiam import objective, traits
from emsiam.build import restored
from emsiam.eta import SOLVERS, solver
from emsiam.methods import METHODS
from emsiam.metrics import METRICS
from emsiam.training.observe import cut

ROWS = torch.arange(12.0).view(6, 2)
IDS = torch.tensor([4, 1])


def test_a_bank_of_any_name_is_cut_to_the_images_looked_at():
    @solver(per_image=("mine",))
    def remember(state, F_t, batch):
        return state["mine"], state

    state = {"mine": ROWS, "as_long_by_chance": ROWS, "steps": 3}
    for solve in (remember, partial(remember)):
        own = cut(solve, state, IDS, 6)
        assert torch.equal(own["mine"], ROWS[IDS])
        assert torch.equal(own["as_long_by_chance"], ROWS)
        assert own["steps"] == 3


def test_a_queue_as_long_as_the_data_set_is_not_cut():
    """Under any name: only what the solver names is a row for each image."""

    @solver(per_image=(), keeps=("negatives",))
    def queue(state, F_t, batch):
        return state["negatives"], state

    assert torch.equal(cut(queue, {"negatives": ROWS}, IDS, 6)["negatives"], ROWS)
    encoder = {"encoder.weight": ROWS, "queue": ROWS, "last": ROWS}
    own = cut(SOLVERS["momentum_queue"], encoder, IDS, 6)
    assert all(torch.equal(own[name], ROWS) for name in encoder)


def test_a_solver_that_says_nothing_is_judged_by_length():
    def plain(state, F_t, batch):
        return F_t(batch.others), state

    own = cut(plain, {"bank": ROWS, "layer.weight": ROWS, "other": ROWS[:5]}, IDS, 6)
    assert torch.equal(own["bank"], ROWS[IDS])
    assert torch.equal(own["layer.weight"], ROWS)
    assert torch.equal(own["other"], ROWS[:5])


def on(device, **options):
    """A configuration of a device that this machine may not have."""
    c = emsiam.Config(**options)
    object.__setattr__(c, "device", device)
    return c


def test_the_rows_of_a_user_s_solver_go_on_on_the_device(tmp_path):
    (tmp_path / "mine.py").write_text("def solve(state, F_t, batch):\n    return F_t(batch.others), state\n")
    c = on("meta", eta=f"{tmp_path}/mine.py:solve")
    state = restored(c, {"rows": ROWS, "visited": ROWS[:, 0] > 3, "steps": 3})
    assert {name: x.device.type for name, x in state.items() if name != "steps"} == {"rows": "meta", "visited": "meta"}
    assert state["steps"] == 3


@pytest.mark.parametrize(("bank", "device"), [("device", "meta"), ("host", "cpu")])
def test_a_bank_goes_on_where_it_was(bank, device):
    state = restored(on("meta", mode="ema_eta", bank=bank), {"rows": ROWS, "visited": ROWS[:, 0] > 3})
    assert (state["rows"].device.type, state["visited"].device.type) == (device, "meta")


def test_an_error_of_a_user_s_solver_is_told_where_it_would_be_a_nan(tmp_path, capsys):
    """It works on the batch on which it is tried, and fails on what its views are counted with."""
    text = "def solve(state, F_t, batch):\n    z = F_t(batch.others)\n    assert z.shape[-1] == 128, 'width'\n"
    said = "from emsiam.eta import solver\n\n@solver(measurable=False)\n"
    for name, start in (("silent", ""), ("said", said)):
        (tmp_path / f"{name}.py").write_text(f"{start}{text}    return z, state\n")
        config = emsiam.Config(eta=f"{tmp_path}/{name}.py:solve", quiet=True, out=str(tmp_path / name))
        emsiam.fit(config, stop=[1])
        lines = capsys.readouterr().err.splitlines()
        if name == "silent":
            why = "note: the solver fails on vectors in place of images (AssertionError in silent.py:3: width)"
            assert [line.partition(";")[0] for line in lines] == [why]
        else:
            assert lines == []


def test_which_solvers_go_with_which_objective():
    """An objective that reads a queue or codes goes with the solver that gives them; any other with all."""
    own = {objective.info_nce: SOLVERS["momentum_queue"], objective.swapped_prediction: SOLVERS["sinkhorn_codes"]}
    for method, solve in itertools.product(METHODS.values(), SOLVERS.values()):
        expected = own.get(method.objective, solve) is solve
        assert traits.fit_together(partial(solve), method.objective) == expected


def test_every_solver_of_the_package_is_found_and_says_what_it_keeps():
    assert {method.solve for method in METHODS.values()} <= set(SOLVERS.values())
    assert all(traits.of_solver(solve).per_image is not None for solve in SOLVERS.values())
    for name, solve in SOLVERS.items():
        assert getattr(emsiam.eta, name) is solve
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(emsiam.eta, "nothing")  # noqa: B009  # what a typing error does


def test_a_name_that_is_there_twice_is_refused():
    one, two = object(), object()
    assert traits.by_name([("a", one), ("b", two), ("a", one)]) == {"a": one, "b": two}
    with pytest.raises(ValueError, match="a is there twice"):
        traits.by_name([("a", one), ("a", two)])


@pytest.mark.parametrize(("row", "said"), [({"places": ("pictur",)}, "PLACES"), ({"places": ("end",)}, "needs `said`")])
def test_a_metric_that_would_be_shown_nowhere_is_refused(row, said):
    with pytest.raises(ValueError, match=said):
        METRICS["loss"]._replace(said="", **row).checked()
