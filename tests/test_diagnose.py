"""The command `emsiam.diagnose`: statuses, files, and mistakes in one line."""

import json

import numpy as np
import pytest
import torch

import emsiam
from emsiam import diagnose

IMAGES = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
VIEWS = IMAGES + 0.3 * torch.randn(2, 300, 64, generator=torch.Generator().manual_seed(1))
MADE = {
    "healthy": (VIEWS, 0),
    "complete collapse": (torch.ones(2, 300, 64), 10),
    "dimensional collapse": (VIEWS[:, :, :2].repeat(1, 1, 32), 10),
    "not converging": (torch.randn(2, 300, 64), 10),
    "diverged": (VIEWS * torch.nan, 10),
    "undecided": (VIEWS[:, :20], 11),
}


@pytest.mark.parametrize("verdict", MADE)
def test_the_status_says_it(tmp_path, verdict, capsys):
    z, status = MADE[verdict]
    np.save(tmp_path / "z.npy", z.numpy())
    assert (
        diagnose.main(
            [str(tmp_path / "z.npy"), "--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html")]
        )
        == status
    )
    assert f"<h1>{verdict}</h1>" in (tmp_path / "out.html").read_text()
    assert capsys.readouterr().out.startswith(f"{verdict}: ")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["verdict"] == verdict
    assert content["reason"]
    if verdict != "diverged":
        assert {"z_std_ratio", "effective_rank", "participation_ratio"} <= content.keys()


def test_a_young_run_is_undecided(tmp_path, no_pictures, capsys):
    run = emsiam.fit(emsiam.Config(epochs=1, batch_size=200, threads=1, quiet=True, out=str(tmp_path / "run")))
    assert diagnose.main([str(run.path)]) == 11
    assert capsys.readouterr().out.startswith("too early to say: after 7 steps")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.npy"], "nothing.npy: there is no such file"),
        (["nothing"], "nothing: there is no such file or run"),
        (["z.npy", "--json", "nowhere/a.json"], "--json nowhere/a.json: there is no folder nowhere"),
        (["z.npy", "--html", "z.npy"], "two of these files are one"),
        (["z.npy", "--html", "a", "--json", "a"], "two of these files are one"),
        (["z.npy", "--layout", "rows"], "--layout: invalid choice: 'rows'"),
        ([], "allowed"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, arguments, said, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("z.npy", VIEWS.numpy())
    assert diagnose.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err or not arguments
    assert err.count("\n") == 1
