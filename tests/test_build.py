"""The parts of a run in one's own hands are the parts that `fit` has."""

import dataclasses
import os

import pytest
import torch

import emsiam
from emsiam import build, processor
from emsiam.eta import SOLVERS, solver

SHORT = {"epochs": 2, "batch_size": 239, "dim": 16, "hidden_dim": 16, "threads": 1, "device": "cpu", "quiet": True}


def losses(parts):
    return [step.loss.item() for step in parts.alternation()]


def test_the_loop_in_one_s_own_hands_has_the_losses_of_fit(tmp_path, plain_runs):
    for i, options in enumerate(({}, {"mode": "multistep", "k": 5}, {"mode": "ema_eta", "m": 0.3}, {"mode": "moco"})):
        config = emsiam.Config(**SHORT, **options, log_every=1, out=str(tmp_path / str(i)))
        run = emsiam.fit(config)
        parts = emsiam.prepare(config)
        assert losses(parts) == run.metrics.loss.tolist()[1:]
        assert (parts.steps, parts.steps_per_epoch) == (12, 6)
        trained = run.model().state_dict()
        assert all(torch.equal(x, trained[name]) for name, x in parts.network.state_dict().items())


def test_parts_are_trained_once():
    parts = emsiam.prepare(emsiam.Config(**SHORT))
    next(parts.alternation())
    with pytest.raises(RuntimeError, match="prepare others"):
        parts.alternation()


def test_threads_are_those_of_fit():
    before = torch.get_num_threads()
    emsiam.prepare(emsiam.Config(**SHORT | {"threads": 2}))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_solver_of_one_s_own_is_a_function():
    """Its hyper-parameters are options, and what it remembers comes with each step."""

    @solver(per_image=())
    def mean_of_views(state, F_t, batch, *, n=2):
        eta = F_t(batch.draw(n)).mean(0)
        return eta.expand(len(batch.trained), *eta.shape), {"asked": state.get("asked", 0) + n}

    config = emsiam.Config(**SHORT, n=3)
    parts = emsiam.prepare(config, solver=mean_of_views)
    steps = [(step.loss.item(), step.state["asked"]) for step in parts.alternation()]
    assert [asked for _, asked in steps] == [3 * i for i in range(1, 13)]
    assert [loss for loss, _ in steps] == losses(emsiam.prepare(config, solver=SOLVERS["expectation"]))
    assert parts.config.n == 3
    assert parts.notes == []


def test_what_is_not_used_is_noted():
    assert emsiam.prepare(emsiam.Config(**SHORT, m=0.5)).notes == ["--m 0.5 is not used by --mode onestep"]


def test_what_parts_do_not_have_is_refused(tmp_path):
    for options, said in (
        ({"resume": True, "out": str(tmp_path)}, "^--resume: parts have no directory"),
        ({"overwrite": True}, "^--overwrite: parts have no directory"),
    ):
        with pytest.raises(emsiam.ConfigError, match=said):
            emsiam.prepare(emsiam.Config(**SHORT, **options))
    with pytest.raises(emsiam.ConfigError, match=r"^--eta expectation: a solver is given"):
        emsiam.prepare(emsiam.Config(**SHORT, eta="expectation"), solver=SOLVERS["other_view"])
    for mode in ("moco", "swav"):  # as where --eta names it
        with pytest.raises(emsiam.ConfigError, match=r"^--eta other_view: gives no target"):
            emsiam.prepare(emsiam.Config(**SHORT, mode=mode), solver=SOLVERS["other_view"])


def test_a_state_is_restored_to_where_its_own_solver_has_it():
    """Where a solver is handed over, its own traits count, not those of the configuration's solver."""

    @solver(per_image=("bank",), placed=("bank",))
    def mine(state, F_t, batch):
        return F_t(batch.others), state

    c = dataclasses.replace(emsiam.prepare(emsiam.Config(**SHORT)).config, bank="host")
    object.__setattr__(c, "device", "meta")  # which this machine may not have
    state = build.restored(c, {"bank": torch.ones(3), "else": torch.ones(3)}, mine)
    assert {name: x.device.type for name, x in state.items()} == {"bank": "cpu", "else": "meta"}


def test_determinism_and_tf32_are_set_on_purpose(monkeypatch):
    """Each training sets both, so none inherits what one before it, or a notebook, had chosen."""
    torch.backends.cuda.matmul.allow_tf32 = False
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    parts = emsiam.prepare(emsiam.Config(**SHORT, deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    plain = emsiam.prepare(emsiam.Config(**SHORT))
    assert not torch.are_deterministic_algorithms_enabled()
    assert "deterministic" not in plain.config.to_dict()
    processor.for_measuring()
    assert not torch.backends.cuda.matmul.allow_tf32
    first, second = (next(p.alternation()).loss for p in (parts, plain))
    assert torch.equal(first, second)
