"""How do runs move, step by step? The page of `emsiam.compare`: one HTML file that a browser opens offline.

page.html and page.js show what is gathered here.
"""

import base64
import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..data.contact import PICTURED, ROW
from ..diagnostics import trajectory as t
from ..metrics import Metric, shown_in
from ..plots import eigenvalues, palette
from ..runs.run import SHEET, Run
from .pairing import reached, same_images

HERE = Path(__file__).parent
IMAGES = 256  # of the probe set, in each cloud
STOPS = 40  # of the slider, at most
POINTS = 400  # of a curve, at most
DIRECTIONS = 128  # of a spectrum, at most
CURVES = shown_in("page")
# Labels that colours tell apart, from each other and from the first eight of `plots.palette`, in the three kinds of
# colour vision as well: a search for the largest least distance found them
LABELS = (
    *("#0033ff", "#99ff00", "#990000", "#55ddbb", "#6600bb"),
    *("#dddd88", "#bb1188", "#556644", "#8877ff", "#664455"),
)


def page(runs: Sequence[Run], result: dict[str, Any]) -> str:
    """The HTML of a comparison, see `compare.compare`; plotly is inside (5 MB)."""
    from plotly.offline import get_plotlyjs

    data = gathered(runs, result)
    verdicts = Counter(run["summary"]["verdict"] for run in result["runs"])
    groups = [group["name"] for group in result["groups"]]
    of = "one group" if len(groups) == 1 else f"{len(groups)} groups"
    count = f"{len(runs)} runs" + (f" in {of}" if len(groups) < len(runs) else "")
    reasons = "".join(
        f"<li>{r['name']} ({r['group']}): <b>{r['verdict']}</b>{'. ' if r['reason'] else ''}{r['reason']}</li>"
        for r in data["runs"]
    )
    return Template((HERE / "page.html").read_text()).substitute(
        title=html.escape(f"{len(runs)} runs: " + " · ".join(groups)),
        heading=count,
        verdicts=html.escape(", ".join(f"{verdict} {n}" for verdict, n in verdicts.items())) + ": why?",
        reasons=reasons,
        last=len(data["steps"]) - 1,
        images=IMAGES,
        plotly=get_plotlyjs(),
        data=json.dumps(data).replace("</", "<\\/"),
        script=(HERE / "page.js").read_text(),
    )


def stops(paths: Sequence[t.Path]) -> list[int]:
    """Steps at which the slider stops, of those at which any run has a snapshot."""
    steps = sorted(set().union(*paths))
    return [steps[i] for i in _spread(len(steps), STOPS)]


def _spread(count: int, most: int) -> np.ndarray:
    """Positions 0 … count − 1, at most so many of them, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def gathered(runs: Sequence[Run], result: dict[str, Any]) -> dict[str, Any]:
    """What page.js draws; text in it is HTML, but for that of images."""
    paths = [run.snapshots() for run in runs]
    at = stops(paths)
    # a run shows the last snapshot that it has by then
    shown = [[max((s for s in path if s <= stop), default=min(path)) for stop in at] for path in paths]
    colours = palette(run["group"] for run in result["runs"])
    clouds = _clouds(runs, paths, shown)
    of_images = [next(j for j, other in enumerate(runs) if same_images(run, other)) for run in runs]
    listed = []
    for i, (run, entry) in enumerate(zip(runs, result["runs"], strict=True)):
        steps = list(dict.fromkeys(shown[i]))
        labels = [f", label {label}" for label in run.probe["labels"] or ()] or [""] * len(run.probe["ids"])
        spectra = [_spectrum(paths[i][step]) for step in steps]
        listed.append(
            {
                "name": html.escape(entry["name"]),
                "group": html.escape(entry["group"]),
                "verdict": html.escape(_verdict(run, paths[i])),
                "reason": html.escape(entry["summary"].get("reason", "")),
                "colour": colours[entry["group"]],
                "images": str(of_images[i]),
                "texts": [f"image {n}{x}" for n, x in zip(run.probe["ids"], labels, strict=True)][:IMAGES],
                "of": [steps.index(step) for step in shown[i]],
                "clouds": [_packed(clouds[i][step]) for step in steps],
                "directions": (_spread(paths[i][steps[0]].shape[1], DIRECTIONS) + 1).tolist(),
                "spectra": spectra,
            }
        )
    shades, named = _shades(runs, clouds, shown, of_images)
    sheets = {str(j): sheet for j in set(of_images) if (sheet := _sheet(runs[j]))}
    return {"steps": at, "runs": listed, "shades": shades, "labels": named, "sheets": sheets, "panels": _panels(runs)}


def _panels(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Curves over steps, and the spectrum of a step."""
    panels = []
    for metric in CURVES:
        lines = []
        for i, run in enumerate(runs):
            if metric.name in run.metrics and not run.metrics[metric.name].isna().all():  # else never measured
                rows = run.metrics.dropna(subset=[metric.name])
                few = rows.iloc[_spread(len(rows), POINTS)]
                y = [float(f"{value:.5g}") for value in few[metric.name]]
                lines.append({"run": i, "x": few.step.astype(int).tolist(), "y": y})
        title = html.escape(metric.title.partition(" (")[0])  # its scale is the line below
        panels.append({"title": title, "scale": _scale(metric), "x": "step", "zero": metric.zero, "lines": lines})
    spectrum = {
        "title": "spectrum of ẑ",
        "scale": "variance in each direction, largest first; a cliff is a loss of rank",
    }
    axes: dict[str, Any] = {"x": "direction", "y": {"type": "log", "range": [-9, 0]}, "moving": True, "lines": []}
    return [*panels, spectrum | axes]


def _scale(metric: Metric) -> str:
    """What is healthy and what is not, as far as it is known."""
    ends = (("healthy", metric.healthy), ("collapsed", metric.collapsed))
    return html.escape("; ".join(f"{word}: {value}" for word, value in ends if value))


def _verdict(run: Run, path: t.Path) -> str:
    """The verdict, and of a run that is not finished how far it came."""
    return run.so_far["verdict"] + ("" if run.finished else f", at step {reached(run, path):,}")


def _clouds(runs: Sequence[Run], paths: Sequence[t.Path], shown: Sequence[list[int]]) -> list[dict[int, np.ndarray]]:
    """For each run {step: [IMAGES, 3]} in the unit ball; those with the first run's images are turned towards it."""
    clouds: list[dict[int, np.ndarray]] = []
    for run, path, steps in zip(runs, paths, shown, strict=True):
        like = clouds[0][shown[0][-1]] if clouds and same_images(run, runs[0]) else None
        clouds.append(t.cloud({s: path[s][:IMAGES] for s in steps}, list(dict.fromkeys(steps)), like))
    return clouds


def _packed(points: np.ndarray) -> str:
    """Shares of 1 as 16-bit integers, little-endian, in base64."""
    return base64.b64encode((points * 32000).round().clip(-32767, 32767).astype("<i2").tobytes()).decode()


def _spectrum(z: np.ndarray) -> list[float]:
    values = eigenvalues(z)
    return [float(f"{x:.4g}") for x in values[_spread(len(values), DIRECTIONS)].clip(1e-30)]


def _shades(
    runs: Sequence[Run], clouds: Sequence[dict[int, np.ndarray]], shown: Sequence[list[int]], of_images: Sequence[int]
) -> tuple[dict[str, list[list[str]]], list[tuple[str, str]]]:
    """How dots can be coloured: {by what: for each run a colour a dot}; and the colour of each label."""
    import seaborn as sns

    # a dot keeps the colour of its place from left to right in the first run with its images, at the end
    places = [clouds[j][shown[j][-1]][:, 0].argsort().argsort() for j in of_images]
    scale = [_css(c) for c in sns.color_palette("viridis", 64)]
    ways = {"image": [[scale[int(63 * n / max(len(x) - 1, 1))] for n in x] for x in places]}
    if not all(run.probe["labels"] for run in runs):
        return ways, []
    labels = sorted({label for run in runs for label in run.probe["labels"]})
    few = LABELS if len(labels) <= len(LABELS) else [_css(c) for c in sns.color_palette("viridis", len(labels))]
    colour = dict(zip(labels, few, strict=False))
    by_label = {"label": [[colour[label] for label in run.probe["labels"][:IMAGES]] for run in runs]}
    return by_label | ways, [(html.escape(str(label)), c) for label, c in colour.items()]


def _css(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in colour[:3])


def _sheet(run: Run) -> dict[str, Any] | None:
    """The small pictures of a run's images; None of an older run, which has none, or of a file that is damaged."""
    from PIL import Image, UnidentifiedImageError

    file = run.path / SHEET
    try:
        width, height = Image.open(file).size
    except (OSError, UnidentifiedImageError):
        return None
    rows = -(-min(len(run.probe["ids"]), PICTURED) // ROW)
    png = base64.b64encode(file.read_bytes()).decode()
    return {"png": f"data:image/png;base64,{png}", "wide": width / ROW, "high": height / rows, "row": ROW}
