"""The bits of every mode, and in `make slow` of ten options, are those recorded on a processor of this type."""

import dataclasses
import json
from pathlib import Path

import golden
import pytest

RECORDED = json.loads(golden.RECORD.read_text())


@pytest.mark.parametrize("name", [*golden.MODES, *(pytest.param(name, marks=pytest.mark.slow) for name in golden.FEW)])
def test_the_same_bits(name, tmp_path):
    known = RECORDED.get(golden.processor(), {})
    if name not in known:
        pytest.skip(f"no digest of a {golden.processor()} yet; after make same-bits, python tests/golden.py record")
    golden.prepare(tmp_path)
    assert golden.run(name, tmp_path, resumed=False)["whole"] == known[name]


def test_another_number_gives_another_digest(tmp_path):
    """A changed bit is seen, in the lines of a case and in its weights."""
    import torch

    golden.run("onestep", tmp_path, resumed=False)
    out = tmp_path / "onestep" / "whole"
    before = golden.digests(out)
    file = out / "metrics.jsonl"
    lines = file.read_text().splitlines()
    line = json.loads(lines[-1])
    line["loss"] += 2**-50
    file.write_text("\n".join([*lines[:-1], json.dumps(line)]))
    saved = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
    next(iter(saved["net"].values())).view(torch.int32).flatten()[0] ^= 1
    torch.save(saved, out / "checkpoints" / "last.pt")
    after = golden.digests(out)
    assert before["lines"] != after["lines"]
    assert before["state"] != after["state"]


def test_every_option_that_changes_numbers_is_a_case():
    """But for the device: digests are of the CPU; how often a checkpoint is written, determinism on a CPU, and broken
    files where there are none, which change none; and the digest of images that are handed over, which is found.
    """
    from emsiam.config import Config, having

    known = {name for case in golden.CASES.values() for name in (golden.COMMON | case)}
    left = {f.name for f in dataclasses.fields(Config)} - known
    none = {"device", "save_every", "deterministic", "skip_broken"}
    assert left == {*having("no_number"), *none, "digest"} - {"data_dir"}


def test_every_case_splits_among_two_ranks():
    assert [name for name, case in golden.CASES.items() if (golden.COMMON | case)["batch_size"] % 2] == []


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_stopped_runs_end_with_the_same_bits_in_every_case(tmp_path, ranks):
    names = list(golden.CASES)
    found = golden.start(Path(golden.__file__).parents[1], names, tmp_path, ranks=ranks)
    assert [name for name in names if found[name]["resumed"] != found[name]["whole"]] == []
