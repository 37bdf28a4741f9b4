"""A bank of η on the device, in host memory or in a file: the same numbers, rounded where they are stored."""

import os
import shutil
import weakref

import pytest
import torch
from golden import After

import emsiam
from emsiam import build, train
from emsiam.config import Config, ConfigError, preset, resolve
from emsiam.data.batches import Batch
from emsiam.data.sets import digits
from emsiam.eta import bank, moving_average

pytestmark = pytest.mark.usefixtures("plain_runs")


def fit(out, **options):
    small = {"mode": "ema_eta", "epochs": 3, "batch_size": 359, "dim": 16, "hidden_dim": 16, "log_every": 1}
    return emsiam.fit(emsiam.Config(**small | options, threads=1, quiet=True, save_every=1, out=str(out)))


def test_where_the_rows_are_changes_nothing(tmp_path):
    runs = [fit(tmp_path / f"{i}", bank=b) for i, b in enumerate(("device", "host", str(tmp_path)))]
    losses = [run.metrics.loss.tolist() for run in runs]
    assert losses[0] == losses[1] == losses[2]
    assert not list(tmp_path.glob("*.bin"))  # the file goes with the process
    saved = [torch.load(run.path / "checkpoints/last.pt", weights_only=True)["state"]["rows"] for run in runs]
    assert torch.equal(saved[0], saved[2])


@pytest.mark.parametrize("place", ["host", "file"])
def test_a_run_goes_on_with_its_bank(tmp_path, place, monkeypatch):
    options = {"bank": str(tmp_path) if place == "file" else place, "bank_dtype": "bf16"}
    whole, parted = fit(tmp_path / "whole", **options), tmp_path / "parted"

    config = emsiam.Config(**{**whole.config.to_dict(), "out": str(parted)})
    assert not emsiam.fit(config, stop=After(7)).finished
    loaded, restored = [], build.restored
    monkeypatch.setattr(
        build, "restored", lambda c, s, *f: (loaded.append(weakref.ref(s["rows"])), restored(c, s, *f))[1]
    )

    class Looks(list):
        def __len__(self):
            assert (loaded[0]() is None) == (place == "file")  # else there are rows in memory beside the file's
            return 0

    again = emsiam.fit(emsiam.Config(out=str(parted), resume=True), given=(), stop=Looks())
    assert again.metrics.loss.tolist() == whole.metrics.loss.tolist()
    saved = [torch.load(run.path / "checkpoints/last.pt", weights_only=True)["state"]["rows"] for run in (whole, again)]
    assert saved[0].dtype == torch.bfloat16
    assert torch.equal(*saved)


@pytest.mark.parametrize(("name", "dtype"), bank.DTYPES.items())
def test_the_average_is_formed_in_fp32_and_rounded_when_stored(batches, name, dtype):
    def F_t(views):
        return views.flatten(2)[..., :12].float() * 3

    state, rows, seen = {}, torch.zeros(1437, 12), set()
    for batch in batches(90):  # two epochs: second visits
        eta, state = moving_average(state, F_t, batch, m=0.9, bank_dtype=name)
        z = F_t(batch.others)
        known = torch.tensor([i in seen for i in batch.ids.tolist()])[:, None]
        expected = torch.where(known, 0.9 * rows[batch.ids] + (1 - 0.9) * z, z)
        torch.testing.assert_close(eta, expected, rtol=1e-6, atol=1e-6)
        assert eta.dtype == torch.float32
        rows[batch.ids] = eta.mean(0).to(dtype).float()
        seen |= set(batch.ids.tolist())
    assert state["rows"].dtype == dtype
    assert torch.equal(state["rows"].float(), rows)


def test_a_file_takes_its_space_at_once(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    rows = bank.zeros((50_000, 512), torch.float16, str(tmp_path), "cpu")
    assert rows.count_nonzero() == 0
    assert free - os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize > 40e6
    bank.write(rows, of(7, 49_999), torch.ones(2, 512))
    assert bank.read(rows, of(49_999, 0)).mean(1).tolist() == [1, 0]


def test_a_full_disk_is_said_with_its_directory(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for eta in ([], ["--eta", "moving_average"]):
        assert train.main(["--mode", "ema_eta", *eta, "--bank", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
        said = f"emsiam.train: {tmp_path}: no room for 735,744 bytes of η (No space left on device)\n"
        assert capsys.readouterr().err.endswith(said)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_processes_of_one_machine_need_room_for_each(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    options = {"mode": "ema_eta", "bank": str(tmp_path), "dim": 1024}
    images = free // (2 * 4 * 1024)  # half of it
    resolve(preset(Config(**options)), images, digits().shape)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # each with rows of its own, as by torchrun
    with pytest.raises(ConfigError, match="MiB there, and"):
        resolve(preset(Config(**options)), images, digits().shape)


def of(*ids):
    return Batch.of(0, torch.tensor(ids), torch.zeros(2, 1), draw=None, num_images=50_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bank": "devise"}, r"--bank devise: allowed is device, host, or a directory .* \(did you mean device\?\)"),
        ({"bank": ".", "dim": 65536, "dataset": "shapes"}, r"--bank \.: needs 25,000,000 MiB there, and .* are free"),
        ({"bank_dtype": "bf61"}, r"--bank-dtype bf61: allowed is fp32, bf16, fp16 \(did you mean bf16\?\)"),
    ],
)
def test_a_bank_that_cannot_be_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        resolve(preset(Config(mode="ema_eta", **options)), 10**8, digits().shape)


def test_methods_without_a_bank_say_so():
    config, notes = resolve(preset(Config(bank="host", bank_dtype="bf16")), 1437, (1, 8, 8))
    assert config.bank is None
    assert notes == [f"--{name} is not used by --mode onestep" for name in ("bank host", "bank-dtype bf16")]
