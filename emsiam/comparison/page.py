"""How do runs move, step by step? The page of `emsiam.compare`: one HTML file that a browser opens offline."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diagnostics import trajectory as t
from ..metrics import shown_in
from ..plots import eigenvalues, palette
from ..runs.run import Run
from .pairing import same_images

if TYPE_CHECKING:
    import plotly.graph_objects as go

IMAGES = 256  # of the probe set, in each cloud
STOPS = 40  # of the slider, at most
POINTS = 400  # of a curve, at most
DIRECTIONS = 128  # of a spectrum, at most
CURVES = shown_in("page")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{font: 15px/1.4 sans-serif; margin: 1em 2em}} h1 {{font-size: 1.3em}} p {{max-width: 65em}}</style></head>
<body><h1>{title}</h1>
<p>The slider moves the clouds, the spectra and the marks on the curves, of all runs at once. A cloud is ẑ of {images}
images in the three directions in which it varies most over its run, all at one scale; runs that show the same images
are turned towards the first. Drag turns, the wheel comes nearer; a click in the legend hides a run, a double click
leaves it alone. By image, a dot has the colour of its place from left to right in the first run at the end.</p>
{figure}</body></html>
"""
States = list[dict[str, Any]]  # what a trace shows at each stop


def page(runs: Sequence[Run], result: dict[str, Any]) -> str:
    """The HTML of a comparison, see `compare.compare`; plotly is inside (5 MB)."""
    figure = _figure(runs, result)
    options = {"displaylogo": False, "responsive": True}
    inner = figure.to_html(full_html=False, include_plotlyjs=True, auto_play=False, config=options)
    title = html.escape(f"{len(runs)} runs: " + " · ".join(group["name"] for group in result["groups"]))
    return PAGE.format(title=title, images=IMAGES, figure=inner)


def stops(paths: Sequence[t.Path]) -> list[int]:
    """Steps at which the slider stops, of those at which any run has a snapshot."""
    steps = sorted(set().union(*paths))
    return [steps[i] for i in _spread(len(steps), STOPS)]


def _spread(count: int, most: int) -> np.ndarray:
    """Positions 0 … count − 1, at most so many of them, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


SPACING = {"row_heights": [0.6, 0.4], "vertical_spacing": 0.15, "horizontal_spacing": 0.04}


def _figure(runs: Sequence[Run], result: dict[str, Any]) -> "go.Figure":
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = [html.escape(entry["name"]) for entry in result["runs"]]
    colours = [palette(run["group"] for run in result["runs"])[entry["group"]] for entry in result["runs"]]
    paths = [run.snapshots() for run in runs]
    at = stops(paths)
    # a run shows the last snapshot that it has by then
    shown = [[max((s for s in path if s <= stop), default=min(path)) for stop in at] for path in paths]
    wide = len(CURVES)
    figure = make_subplots(
        2,
        wide,
        specs=[[{"type": "scene", "colspan": wide - 1}, *[None] * (wide - 2), {}], [{}] * wide],
        subplot_titles=("", "spectrum of ẑ", *(metric.title for metric in CURVES)),
        **SPACING,
    )
    moving: dict[int, States] = {}  # by position of the trace

    def add(trace: Any, row: int, column: int, states: States | None = None) -> None:
        if states:
            moving[len(figure.data)] = states
            trace.update(states[0])
        figure.add_trace(trace, row, column)

    clouds = _clouds(runs, paths, shown)
    for i, (run, name, colour) in enumerate(zip(runs, names, colours, strict=True)):
        of_run = {"name": name, "legendgroup": name, "showlegend": False}
        line = {"color": colour, "width": 1.5}
        labels = [f", label {label}" for label in run.probe["labels"] or ()] or [""] * len(run.probe["ids"])
        text = [f"image {image}{label}" for image, label in zip(run.probe["ids"], labels, strict=True)][:IMAGES]
        dots = go.Scatter3d(mode="markers", text=text, hoverinfo="text+name", marker={"size": 2.5}, **of_run)
        add(dots, 1, 1, [dict(zip("xyz", clouds[i][s].T, strict=True)) for s in shown[i]])
        spectra = {s: _spectrum(paths[i][s]) for s in set(shown[i])}
        add(go.Scatter(line=line, **of_run), 1, wide, [spectra[s] for s in shown[i]])
        for column, metric in enumerate(CURVES, start=1):
            if metric.name not in run.metrics or run.metrics[metric.name].isna().all():  # nothing finite was measured
                continue
            rows = run.metrics.dropna(subset=[metric.name])
            x, y = rows.step.to_numpy(), rows[metric.name].to_numpy()
            few = _spread(len(rows), POINTS)
            curve = go.Scatter(x=x[few], y=y[few].astype("f4"), mode="lines", line=line, **of_run)
            add(curve.update(showlegend=column == 1), 2, column)
            mark = {"color": colour, "size": 10, "line": {"color": "black", "width": 1}}
            last = [max(0, int(np.searchsorted(x, stop, side="right")) - 1) for stop in at]
            states = [{"x": [int(x[j])], "y": [float(y[j])]} for j in last]
            marks = go.Scatter(mode="markers", marker=mark, hoverinfo="skip", cliponaxis=False, **of_run)
            add(marks, 2, column, states)
    figure.frames = [
        go.Frame(
            name=str(stop),
            traces=list(moving),
            data=[type(figure.data[i])(**states[n]) for i, states in moving.items()],
        )
        for n, stop in enumerate(at)
    ]
    _axes(figure, names)
    _controls(figure, at, _shades(runs, clouds, shown))
    return figure


def _clouds(runs: Sequence[Run], paths: Sequence[t.Path], shown: Sequence[list[int]]) -> list[dict[int, np.ndarray]]:
    """Clouds side by side in rows, of size 1 at most: for each run {step: [IMAGES, 3]}, x to the right, z up."""
    clouds: list[dict[int, np.ndarray]] = []
    for run, path, steps in zip(runs, paths, shown, strict=True):
        like = clouds[0][shown[0][-1]] if clouds and same_images(run, runs[0]) else None
        clouds.append(t.cloud({s: path[s][:IMAGES] for s in steps}, list(dict.fromkeys(steps)), like))
    size = max(np.abs(points).max() for one in clouds for points in one.values()) or 1.0
    centres = [_centre(i, _row(len(clouds))) for i in range(len(clouds))]
    return [
        {step: (points / size + centre).astype("f4") for step, points in one.items()}
        for one, centre in zip(clouds, centres, strict=True)
    ]


def _row(count: int) -> int:
    """How many of so many clouds stand side by side."""
    return min(count, max(5, math.ceil(math.sqrt(2.6 * count))))


def _centre(i: int, row: int) -> np.ndarray:
    """Where the i-th cloud has its centre."""
    return np.array([2.0 * (i % row), 0.0, -2.3 * (i // row)])


def _spectrum(z: np.ndarray) -> dict[str, Any]:
    values = eigenvalues(z)
    directions = _spread(len(values), DIRECTIONS)
    return {"x": directions + 1, "y": values[directions].clip(1e-30).astype("f4")}


def _shades(
    runs: Sequence[Run], clouds: Sequence[dict[int, np.ndarray]], shown: Sequence[list[int]]
) -> dict[str, list[np.ndarray]]:
    """How dots can be coloured: {by what: for each run a number in [0, 1] a dot}."""
    # a dot keeps the colour of its place from left to right in the first run, at the end
    like = [0 if same_images(run, runs[0]) else i for i, run in enumerate(runs)]
    ways = {"image": [clouds[j][shown[j][-1]][:, 0].argsort().argsort() for j in like]}
    if all(run.probe["labels"] for run in runs):
        ways = {"label": [np.array(run.probe["labels"])[:IMAGES] for run in runs]} | ways
    return {way: [(x / max(x.max(), 1)).astype("f4") for x in shades] for way, shades in ways.items()}


def _axes(figure: "go.Figure", names: Sequence[str]) -> None:
    row = _row(len(names))
    wide, high = 2.0 * row + 0.4, 2.3 * math.ceil(len(names) / row) + 0.2
    scale = min(6.0 / wide, 2.2 / high)  # fills the scene
    hidden = {"visible": False, "showspikes": False}
    titles = [
        {"text": name, "showarrow": False, "font": {"size": 13 if row <= 5 else 10}}
        | dict(zip("xyz", _centre(i, row) + np.array([0, 0, 1.15]), strict=True))
        for i, name in enumerate(names)
    ]
    figure.update_scenes(
        xaxis=hidden | {"range": [-1.2, wide - 1.2]},
        yaxis=hidden | {"range": [-1.2, 1.2]},
        zaxis=hidden | {"range": [1.3 - high, 1.3]},
        aspectmode="manual",
        aspectratio={"x": wide * scale, "y": 2.4 * scale, "z": high * scale},
        camera={"projection": {"type": "orthographic"}, "eye": {"x": 0, "y": -2, "z": 0.2}},
        annotations=titles,
    )
    figure.update_xaxes(title_text="step", row=2)
    for column, metric in enumerate(CURVES, start=1):
        if metric.zero:
            figure.update_yaxes(rangemode="tozero", row=2, col=column)
    figure.update_xaxes(title_text="direction", row=1, col=len(CURVES))
    figure.update_yaxes(type="log", range=[-9, 0], exponentformat="power", row=1, col=len(CURVES))
    for title in figure.layout.annotations:
        title.font.size = 13
    figure.update_layout(
        height=780,
        template="plotly_white",
        margin={"l": 50, "r": 20, "t": 110, "b": 50},
        legend={"orientation": "h", "y": -0.1, "yanchor": "top"},
    )


def _controls(figure: "go.Figure", at: list[int], ways: dict[str, list[np.ndarray]]) -> None:
    """The slider, and what colours the dots."""
    clouds = [i for i, trace in enumerate(figure.data) if trace.type == "scatter3d"]
    first = next(iter(ways))
    for i, shade in zip(clouds, ways[first], strict=True):
        figure.data[i].marker.update(color=shade, colorscale="Turbo", cmin=0, cmax=1)
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        sliders=[
            {
                "steps": [{"label": f"{s:,}", "method": "animate", "args": [[str(s)], now]} for s in at],
                "currentvalue": {"prefix": "step "},
                "y": 1.16,
                "yanchor": "top",
                "x": 0,
                "len": 0.72,
                "pad": {"t": 0, "b": 0},
            }
        ],
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "x": 0.74,
                "y": 1.14,
                "xanchor": "left",
                "yanchor": "top",
                "buttons": [
                    {"label": f"colour by {way}", "method": "restyle", "args": [{"marker.color": shades}, clouds]}
                    for way, shades in ways.items()
                ],
            }
        ],
    )
