"""What a notebook shows: pictures by themselves, a run with its verdict, curves that move while it trains."""

import itertools
import time

import nbformat
import pytest
from nbclient import NotebookClient

import emsiam
from emsiam.training import live, run_training

SMALL = {"epochs": 2, "batch_size": 256, "dim": 32, "hidden_dim": 32, "threads": 1}
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return emsiam.fit(emsiam.Config(**SMALL, quiet=True, out=str(tmp_path_factory.mktemp("notebook") / "<b>run")))


def test_a_figure_shows_itself(run):
    for figure in (emsiam.plots.trajectory(run), emsiam.examine(run).plot()):
        assert figure._repr_png_().startswith(PNG)
    runs = [run, emsiam.fit(emsiam.Config(**SMALL, seed=1, quiet=True, out=f"{run.path}-2"))]
    assert emsiam.plots.comparison(runs, emsiam.compare.compare(runs))._repr_png_().startswith(PNG)


def test_a_run_shows_verdict_numbers_and_picture(run):
    shown = run._repr_html_()
    assert f"<b>{run.summary['verdict']}</b> after 10 steps: {run.summary['reason']}" in shown
    for metric in ("loss", "std·√d", "PR", "kNN"):
        assert f"<th>{metric}</th>" in shown
    assert f"<td>{run.summary['knn_acc1']:.3f}</td>" in shown
    assert "data:image/png;base64,iVBOR" in shown
    assert "&lt;b&gt;run" in shown
    assert "<b>run" not in shown


def test_a_stopped_run_shows_how_far_it_has_come(tmp_path):
    config = emsiam.Config(**SMALL, quiet=True, out=str(tmp_path / "run"))
    stopped = run_training.fit(config, stop=[1])
    assert not stopped.finished
    shown = stopped._repr_html_()
    assert "<b>unfinished</b> after 0 steps" in shown
    assert "data:image/png" in shown
    assert "has no lines yet" in emsiam.Run(tmp_path)._repr_html_()


def test_curves_move_in_a_kernel_and_not_elsewhere(tmp_path):
    code = f"import emsiam\nrun = emsiam.fit(emsiam.Config(**{SMALL}, log_every=1, out={str(tmp_path / 'run')!r}))\nrun"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    shown = [o for o in outputs if o.output_type == "display_data"]
    assert len(shown) == 1  # one figure, in its place
    assert "image/png" in shown[0].data
    result = next(o for o in outputs if o.output_type == "execute_result")
    assert "too early to say" in result.data["text/html"]
    assert not live.in_notebook()
    assert live.Live(quiet=False).handle is None


def test_drawing_takes_at_most_its_share(monkeypatch):
    """A picture that takes 0.1 s is drawn every 5 s: 2 %."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    curves = live.Live(quiet=True)

    drawn = []

    class Handle:
        def update(self, picture):
            drawn.append(clock[0])
            clock[0] += 0.1

    curves.handle, curves.picture = Handle(), lambda: None
    for step in range(600):
        clock[0] += 0.1
        curves.after({"step": step, "loss": 0.0})
    gaps = [b - a for a, b in itertools.pairwise(drawn)]
    assert len(gaps) > 8
    assert min(gaps) >= 0.1 / live.SHARE
