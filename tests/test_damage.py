"""Whatever happens to a run's files: the same bits, or a warning and the checkpoint before, or one line, status 2."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from golden import After

import emsiam
from emsiam import compare, evaluate, export, train
from emsiam.checkpoint import load_checkpoint
from emsiam.runs.writer import Writer

pytestmark = pytest.mark.usefixtures("no_comparisons")
SMALL = {"epochs": 4, "batch_size": 359, "dim": 16, "hidden_dim": 16, "save_every": 1, "threads": 1, "quiet": True}
SMALL |= {"mode": "ema_eta", "log_every": 3, "eval_every": 9, "diagnose_every": 9}


@pytest.fixture(scope="module")
def runs(once):
    """The same run, whole, and stopped after 14 of its 16 steps; and another, to compare with."""

    def make(folder):
        emsiam.fit(emsiam.Config(**SMALL, out=str(folder / "whole")))
        emsiam.fit(emsiam.Config(**SMALL, out=str(folder / "stopped")), stop=After(14))
        emsiam.fit(emsiam.Config(**SMALL, seed=1, out=str(folder / "other")))

    return once("damage", make)


@pytest.fixture
def copy(runs, tmp_path):
    def copied(name):
        return shutil.copytree(runs / name, tmp_path / name)

    return copied


def left_behind(run):
    saved = torch.load(run / "checkpoints/last.pt", weights_only=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    numbers = [{n: x for n, x in line.items() if n not in ("seconds", "images_per_second")} for line in lines]
    return numbers, {**saved["net"], **saved["state"]}


def same(a, b):
    return a[0] == b[0] and a[1].keys() == b[1].keys() and all(torch.equal(a[1][n], b[1][n]) for n in a[1])


def flipped(content, place, bit=3):
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def changed(file, change):
    """A checkpoint with something of it changed, and whole as a file."""
    saved = torch.load(file, weights_only=True)
    torch.save(change(saved), file)


def without(name):
    return lambda saved: {n: x for n, x in saved.items() if n != name}


def with_nan(saved):
    next(x for x in saved["net"].values() if x.is_floating_point()).view(-1)[0] = torch.nan
    return saved


BYTES = {  # of any file
    "half": lambda b: b[: len(b) // 2],
    "a byte less": lambda b: b[:-1],
    "empty": lambda b: b"",
    "zeros": lambda b: bytes(len(b)),
    "noise": lambda b: np.random.default_rng(0).bytes(len(b)),
    "text": lambda b: b"something else\n",
    "a bit at the start": lambda b: flipped(b, 1),
    **{f"a bit at {i}/7": lambda b, i=i: flipped(b, i * len(b) // 7) for i in range(1, 7)},
    "a bit at the end": lambda b: flipped(b, len(b) - 3),
}
SOME = ("half", "empty", "noise", "text", "a bit at the start", "a bit at 3/7", "a bit at the end")
CONTENT = {  # of a checkpoint
    "a list": lambda saved: [1, 2],
    "a state dict": lambda saved: saved["net"],
    "no step": without("step"),
    "no net": without("net"),
    "a later version": lambda saved: without("last_line")(saved) | {"version": 9},
    "another type": lambda saved: saved | {"step": "14"},
    "NaN": with_nan,
}


def accepted(resume, run, whole, capsys):
    """Which of the three ends it is."""
    capsys.readouterr()
    refused = None
    try:
        resume()
    except emsiam.ConfigError as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
        assert str(run) in refused
        return "one line"
    assert same(left_behind(run), whole)
    return "warning" if "is damaged" in capsys.readouterr().err else "same"


@pytest.mark.parametrize("damage", [*BYTES, *CONTENT])
def test_a_damaged_checkpoint(runs, copy, capsys, damage):
    """Resuming takes the one before, which leads to the same bits; so does everything else that reads one."""
    run = copy("stopped")
    file = run / "checkpoints/last.pt"
    if damage in BYTES:
        file.write_bytes(BYTES[damage](file.read_bytes()))
    else:
        changed(file, CONTENT[damage])
    if load_checkpoint(run).step == 14:  # as it was
        assert same(left_behind(run), left_behind(runs / "stopped"))
    else:
        assert "last.pt is damaged" in capsys.readouterr().err
    again = {"out": str(run), "resume": True, "quiet": True}
    if damage in ("half", "NaN", "a bit at 3/7", "a later version"):
        assert (
            accepted(lambda: emsiam.fit(emsiam.Config(**again)), run, left_behind(runs / "whole"), capsys) == "warning"
        )


@pytest.mark.parametrize("damage", ["half", "empty", "noise", "a bit at 3/7", "NaN", "no step"])
def test_where_no_checkpoint_is_good(copy, capsys, damage):
    """One line from each command that reads one."""
    run = copy("whole")
    for name in ("last.pt", "previous.pt"):
        file = run / "checkpoints" / name
        if damage in BYTES:
            file.write_bytes(BYTES[damage](file.read_bytes()))
        else:
            changed(file, CONTENT[damage])
    for command, arguments in (
        (evaluate, ["knn", str(run)]),
        (evaluate, ["knn", str(run / "checkpoints/last.pt")]),
        (export, [str(run), "--out", str(run / "x.pt")]),
    ):
        status = command.main(arguments)
        said = capsys.readouterr().err
        assert status == 2
        assert said.count("\n") == 1
        assert "last.pt" in said
    with pytest.raises(emsiam.ConfigError, match=r"last\.pt is damaged"):
        emsiam.load_run(run).model()
    (run / "summary.json").unlink()
    with pytest.raises(emsiam.ConfigError, match=r"last\.pt is damaged"):
        emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))


def test_every_bit_of_a_checkpoint_counts(copy):
    """Each of 60 flips is seen, or leaves what is read as it was."""
    run = copy("stopped")
    (run / "checkpoints/previous.pt").unlink()
    file, rng = run / "checkpoints/last.pt", np.random.default_rng(0)
    good = torch.load(file, weights_only=True)["net"]
    content = file.read_bytes()
    seen = 0
    for place, bit in zip(rng.integers(len(content), size=60), rng.integers(8, size=60), strict=True):
        file.write_bytes(flipped(content, int(place), int(bit)))
        try:
            net = load_checkpoint(run).net
        except emsiam.ConfigError:
            seen += 1
        else:
            assert all(torch.equal(net[name], x) for name, x in good.items())
    assert seen > 50


FILES = (
    "config.json",
    "metrics.jsonl",
    "summary.json",
    "probe.json",
    "SHA256SUMS",
    "snapshots/0.npy",
    "weights/16.npy",
)


@pytest.mark.parametrize("name", FILES)
def test_another_damaged_file(runs, copy, capsys, name):
    """`compare` refuses it in one line that names it, or it says what it said."""
    run, known = copy("whole"), {}
    content = (run / name).read_bytes()
    for damaged, damage in {"none": lambda b: b, **{name: BYTES[name] for name in SOME}}.items():
        (run / name).write_bytes(damage(content))
        status = compare.main([str(run), str(runs / "other"), "--out", str(run.parent / "comparison")])
        said = capsys.readouterr()
        if status == 0:
            known.setdefault("said", said.out)
            assert said.out == known["said"], damaged
        else:
            assert (status, said.err.count("\n")) == (2, 1), damaged
            assert name.split("/")[0] in said.err, damaged


@pytest.mark.parametrize("damage", SOME)
def test_a_run_goes_on_beside_damaged_lines(runs, copy, capsys, damage):
    """metrics.jsonl may be shorter than the checkpoint says, as after a power cut."""
    run = copy("stopped")
    file = run / "metrics.jsonl"
    file.write_bytes(BYTES[damage](file.read_bytes()))
    again = {"out": str(run), "resume": True, "quiet": True}
    assert accepted(lambda: emsiam.fit(emsiam.Config(**again)), run, left_behind(runs / "whole"), capsys) != "same"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 8}, "says epochs 8, but"),
        ({"dim": 32}, "says dim 32, but"),
        ({"lr": 0.2}, "says lr 0.2, but"),
        ({"mode": "onestep"}, "says mode onestep, but"),
    ],
)
def test_options_are_the_checkpoint_s(copy, change, said):
    run = copy("stopped")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(emsiam.ConfigError, match=r"config\.json: is damaged or was changed"):
        emsiam.load_run(run)
    (run / "SHA256SUMS").unlink()
    with pytest.raises(emsiam.ConfigError, match=said):
        emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))


def test_a_configuration_that_is_none_is_one_line(copy):
    run = copy("stopped")
    (run / "SHA256SUMS").unlink()
    for text in ("", "[]", "3", "{}", '{"lr": "x"}', "[" * 100_000, '{"what": 1}'):
        (run / "config.json").write_text(text)
        with pytest.raises(emsiam.ConfigError, match=r"config\.json|--lr") as error:
            emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))
        assert "\n" not in str(error.value)


def test_files_of_before_sums_that_are_no_run_s_are_one_line(copy, capsys):
    """Also where training is over, and `--resume` has nothing to do but to print the summary."""
    run = copy("whole")
    (run / "SHA256SUMS").unlink()
    for text in ("", "{", "{}", "[]", "null", '{"verdict": 1}'):
        (run / "summary.json").write_text(text)
        assert train.main(["--resume", "--out", str(run), "--quiet"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"emsiam.train: {run}/summary.json: is not a run's (")
        assert said.count("\n") == 1
    for name, read in (("probe.json", "probe"), ("metrics.jsonl", "metrics")):
        (run / name).write_text("{\n")
        with pytest.raises(emsiam.ConfigError, match=rf"{name}: is not a run's \("):
            getattr(emsiam.load_run(run), read)


def test_a_monitor_s_state_that_is_not_there_is_one_line(copy):
    run = copy("stopped")
    changed(run / "checkpoints/last.pt", without("losses"))
    with pytest.raises(emsiam.ConfigError, match="its checkpoint has no losses"):
        emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))


def test_weights_of_another_network_are_one_line(copy, capsys):
    run = copy("whole")
    net = torch.load(run / "checkpoints/last.pt", weights_only=True)["net"]
    narrow = {name: x[..., :1] if x.ndim > 1 else x for name, x in net.items()}
    changed(run / "checkpoints/last.pt", lambda saved: saved | {"net": narrow})
    with pytest.raises(emsiam.ConfigError, match=rf"^{run}: its checkpoint holds weights of another network"):
        emsiam.load_run(run).model()
    assert evaluate.main(["knn", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_foreign_files_beside_a_run_s_own_do_not_matter(runs, copy):
    run = copy("stopped")
    for name in ("._0.npy", ".DS_Store", "0 (copy).npy", "notes.txt", "٣.npy"):  # as file managers leave them
        for folder in ("snapshots", "weights", "checkpoints"):
            (run / folder / name).write_bytes(b"\0\5\26\7")
    emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))
    assert same(left_behind(run), left_behind(runs / "whole"))
    assert (run / "snapshots" / "._0.npy").exists()


def test_sums_are_those_of_sha256sum(runs):
    import subprocess

    for name in ("whole", "stopped"):
        done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=runs / name, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        listed = {line.split(": ")[0] for line in done.stdout.splitlines()}
        assert {"metrics.jsonl", "probe.json", "snapshots/0.npy", "weights/0.npy"} <= listed
        assert ("summary.json" in listed) == (name == "whole")


def test_runs_of_before_are_read_as_they_are(runs, copy):
    """Without sums, and with a checkpoint that has none of the lines."""
    run = copy("stopped")
    (run / "SHA256SUMS").unlink()
    changed(run / "checkpoints/last.pt", without("metrics_sha256"))
    emsiam.fit(emsiam.Config(out=str(run), resume=True, quiet=True))
    assert same(left_behind(run), left_behind(runs / "whole"))


def test_an_array_of_another_size_than_its_header_says(copy, capsys):
    """A header may ask for terabytes."""
    run = copy("whole")
    (run / "SHA256SUMS").unlink()
    file = run / "snapshots/0.npy"
    shape = str(np.load(file).shape).encode()
    file.write_bytes(file.read_bytes().replace(shape, shape.replace(b"1", b"9")))
    with pytest.raises(ValueError, match="than its header says"):
        emsiam.load_run(run).snapshots()


def test_lines_are_on_the_disk_before_the_checkpoint_that_counts_them(runs, copy, monkeypatch):
    order = []
    fsync = os.fsync

    def noted(number):
        order.append(os.readlink(f"/proc/self/fd/{number}").rpartition("/")[2])
        fsync(number)

    monkeypatch.setattr(os, "fsync", noted)
    emsiam.fit(emsiam.Config(out=str(copy("stopped")), resume=True, quiet=True))
    assert order == ["metrics.jsonl", "new.pt"]


def test_a_checkpoint_is_a_zip_with_sums(runs):
    with zipfile.ZipFile(runs / "whole/checkpoints/last.pt") as file:
        assert file.testzip() is None
        assert all(part.CRC or not part.file_size for part in file.infolist())


def test_a_run_that_was_opened_before_it_went_on_is_not_taken_for_damaged(copy):
    run = emsiam.load_run(copy("stopped"))
    emsiam.fit(emsiam.Config(out=str(run.path), resume=True, quiet=True))
    assert run.metrics.step.iloc[-1] == run.summary["steps"] == 16


def test_a_run_that_was_killed_while_its_checkpoint_became_the_last_goes_on_from_it(copy):
    """Between two renames: the one before has moved already."""
    folder = copy("stopped") / "checkpoints"
    step = load_checkpoint(folder.parent).step
    (folder / "last.pt").rename(folder / "new.pt")
    assert load_checkpoint(folder.parent, resume=True).step == step


def test_a_disk_that_is_full_at_the_end_leaves_the_directory_free(copy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = copy("stopped")
    options = {"config": emsiam.Config(**SMALL, out=str(path)), "start": load_checkpoint(path, resume=True)}
    with monkeypatch.context() as disk:
        written = Writer(**options)
        disk.setattr(written.sums, "add", full)
        with pytest.raises(emsiam.ConfigError, match="cannot be written"):
            written.close()
        disk.setattr(Writer, "_went_on", full)
        with pytest.raises(emsiam.ConfigError, match="cannot be written") as kept:
            Writer(**options)
    Writer(**options).close()
    assert kept  # whose traceback holds the writer, as a notebook does
