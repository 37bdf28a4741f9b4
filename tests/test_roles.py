"""What an option is for is said at the option; from there follow the keys of finished runs."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import emsiam
import experiments
from emsiam import comparison
from emsiam.build import network
from emsiam.config import DATA_OPTIONS, HYPERPARAMETERS, Config, having, parser, resolution
from emsiam.config.declared import FLAGS, ROLES, option
from emsiam.config.options import of_role
from emsiam.config.rules import SWITCH
from emsiam.config.words import sentence, unset
from emsiam.data.sets import DATASETS
from emsiam.errors import flag
from emsiam.methods import METHODS
from emsiam.traits import hyperparameters
from experiments import _jobs, _table
from experiments._records import Records

ROOT = Path(__file__).parents[1]


def test_the_memberships_are_those_of_the_lists_of_before():
    start = {"seed", "dataset", "arch", "stem", "dim", "hidden_dim", "proj_layers", "bn", "output_affine"}
    assert set(having("starts_F")) == start | {"prototypes"}  # which the list lacked
    assert set(having("pairs")) == {"seed", "batch_size", "symmetry", "augment", "image_size", "digest"}
    apart = {"seed", "out", "device", "threads", "quiet", "resume", "overwrite", "data_dir", "download", "workers"}
    every = {"log_every", "eval_every", "save_every", "diagnose_every"}
    assert set(having("may_differ")) == apart | every | {"deterministic"}  # which came later
    assert set(having("no_number")) == {"out", "quiet", "resume", "overwrite", "data_dir", "download"}
    later = {"save_every"}
    assert set(having("resumable")) == {"out", "resume", "overwrite", "quiet", "data_dir", "download", "bank"} | later
    assert set(having("stays")) == {"data_dir", "bank"} | later
    assert DATA_OPTIONS == (
        "data_dir",
        "download",
        "num_images",
        "image_size",
        "workers",
        "labels",
        "skip_broken",
        "digest",
    )
    assert set(HYPERPARAMETERS) == {
        *("k", "m", "n", "bank", "bank_dtype", "tau", "tau_schedule", "queue", "shuffle_bn", "temperature")
    }


def test_what_is_said_of_an_option_is_true_of_the_code():
    read_by_solvers = {n for row in METHODS.values() for f in (row.solve, row.objective) for n in hyperparameters(f)}
    assert set(HYPERPARAMETERS) - {"k"} <= read_by_solvers
    assert {n for load in DATASETS.values() for n in hyperparameters(load)} == set(DATA_OPTIONS)
    for f in dataclasses.fields(Config):
        assert f.metadata["role"] in ROLES
        assert f.metadata["flags"] <= FLAGS.keys()
        assert f.metadata["help"]
        if f.default is None and f.metadata["rule"] is not SWITCH and f.name not in ("preset", "data_dir"):
            assert unset(f.name), f.name
    with pytest.raises(ValueError, match="is not a role or flag"):
        option(None, SWITCH, "a slip", "network", "start_F")


class Read:
    """Stands for a configuration and notes what is asked of it."""

    def __init__(self, config):
        self.config, self.names = config, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.config, name)


def test_what_shapes_the_network_is_a_network_option_the_seed_or_the_precision():
    allowed = {*of_role("network"), "seed", "precision"}
    seen = set()
    for options in ({}, {"mode": "swav"}, {"arch": "resnet18"}, {"predictor": "linear"}):
        config, _ = resolution.resolve(Config(**options), 1437, (1, 8, 8))
        reader = Read(config)
        network(reader, (1, 8, 8))
        seen |= reader.names
    assert seen <= allowed
    assert set(having("starts_F")) - {"dataset"} <= seen  # F's start is made from nothing else


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """SimSiam and SwAV, of one seed."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"epochs": 1, "batch_size": 479, "dim": 16, "hidden_dim": 16, "quiet": True, "threads": 1}
    return [emsiam.fit(Config(mode=mode, **small, out=str(folder / mode))) for mode in ("onestep", "swav")]


def test_prototypes_are_another_start(runs):
    """SwAV's F has parameters that SimSiam's lacks, so their ways through θ have no common beginning."""
    assert not comparison.pairing.same_start(*runs)
    (pair,) = comparison.compare.compare(runs)["pairs"]
    assert pair["angle_of_weights"] == {}
    assert pair["parts_at"] is None
    assert "prototypes: F begins elsewhere" in pair["note"]


def test_committed_tables_are_made_of_the_committed_runs():
    """On any machine, without a run's directory. A renamed option, a moved default or a None turned into a value would
    orphan runs: their keys would be others.
    """
    checked = 0
    for name, module in experiments.tables().items():
        committed = json.loads((ROOT / f"results/{name}.json").read_text())
        seeds = [len(row["runs"]) for row in committed["rows"]]
        records = Records(ROOT / "results", name)
        table = [_jobs.jobs(row.options, n, ROOT, row.evaluations) for row, n in zip(module.ROWS, seeds, strict=True)]
        assert all(job.key in records.own for line in table for job in line), name
        made = _table.tabulate(module.__doc__, module.ROWS, table, records, **getattr(module, "TABLE", {}))
        assert made == committed
        checked += sum(seeds)
    assert checked >= 365


def test_an_option_of_the_signature_is_one_of_the_configuration():
    """`bank` of moving_average is the option `--bank`: names agree, and defaults are legal values."""
    rules = {f.name: f.metadata["rule"] for f in dataclasses.fields(Config)}
    for row in METHODS.values():
        for f in (row.solve, row.objective):
            for name, default in hyperparameters(f).items():
                if name in HYPERPARAMETERS:
                    assert default is not inspect.Parameter.empty
                    assert rules[name].parse(default) == default


def test_help_of_config_and_of_the_command_have_each_option_with_meaning_and_default():
    doc, shown = " ".join(str(Config.__doc__).split()), " ".join(parser().format_help().split())
    for f in dataclasses.fields(Config):
        assert sentence(f) in doc, f.name
        assert f"{flag(f.name)}" in shown, f.name
        assert sentence(f).replace("- ", "-") in shown.replace("- ", "-"), f.name
    for title in ROLES.values():
        assert title in doc
    assert shown.startswith("usage: python -m emsiam.train [OPTION …]")
    assert "examples: SimSiam on digits" in shown
