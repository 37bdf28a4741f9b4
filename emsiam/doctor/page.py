"""What does the doctor show? One HTML file that stands alone: nothing of it is fetched, and nothing in it runs."""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..diagnostics.verdict import Judgement
from .causes import Cause
from .healthy import healthy, span
from .outputs import SHOWN, Output, Shown, decided, meanings, rows
from .pictures import drawn, neighbours, thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"healthy": "#2a7f4f", "undecided": "#8a6d1d", "too early to say": "#8a6d1d"}
ILL = "#a33327"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{verdict}</title>
<style>
body {{font: 15px/1.45 sans-serif; margin: 1.5em auto; max-width: 62em; padding: 0 1em; color: #222}}
h1 {{font-size: 1.5em; margin: 0; color: {colour}}} h2 {{font-size: 1.1em; margin: 1.4em 0 .4em}}
table {{border-collapse: collapse}}
td {{white-space: nowrap}} td, th {{padding: .25em .9em .25em 0; text-align: left; border-bottom: 1px solid #ddd}}
small, .source {{color: #666}} table {{margin: .6em 0}}
.scale {{height: .6em; width: 14em; background: #eee; position: relative}}
.scale b {{position: absolute; height: 100%; background: #b9d9c4; min-width: 2px}}
.scale i {{position: absolute; top: -.2em; height: 1em; width: 3px; margin-left: -1px; background: #222}}
@media (max-width: 40em) {{.scale {{width: 5em}} td {{white-space: normal}}}}
.near img {{margin: 1px; vertical-align: middle}} .near img:first-child {{margin-right: 14px}}
svg {{max-width: 100%; height: auto}}
</style></head><body>
<h1>{verdict}</h1><p>{reason}.<br><small>{decided}</small></p>
{table}
{meanings}
{pictures}
{neighbours}
{decide}
{causes}
{notes}
</body></html>
"""
ENDS = {"residual_norm": (0.0, 1.0), "view_auc": (0.5, 1.0)}  # of a scale; others grow by factors, from 1 to the width


def page(
    j: Judgement,
    outputs: Sequence[Output],
    compared: Sequence[Output],
    causes: Sequence[Cause],
    said: Sequence[str],
    shown: Shown | None,
) -> str:
    """The HTML of a diagnosis, see its fields."""
    text = html.escape
    decide = f"<p>What would decide: {text('; '.join(j.would_decide))}.</p>" if j.would_decide else ""
    listed = "".join(
        f"<li>{text(c.cause)}. Try: {text(c.to_try)}. <span class=source>{text(c.source)}</span></li>" for c in causes
    )
    return PAGE.format(
        verdict=text(j.verdict),
        reason=text(j.reason),
        decided=text(decided(j)),
        colour=COLOURS.get(j.verdict, ILL),
        table=tables(outputs),
        meanings="".join(f"<small>{text(x)}</small><br>" for x in meanings(outputs)),
        pictures=svg(drawn(outputs, compared, shown)) if outputs else "",
        neighbours=near(shown.z, shown.images) if shown and shown.images is not None else "",
        decide=decide,
        causes=f"<h2>What usually looks like this, most likely first</h2><ol>{listed}</ol>" if listed else "",
        notes="".join(f"<p><small>{text(x)}.</small></p>" for x in said),
    )


def tables(outputs: Sequence[Output]) -> str:
    """The numbers of each, on scales with the range of healthy runs."""
    return "".join(f"<table>{''.join(lines(o))}</table>" for o in outputs)


def lines(o: Output) -> Iterator[str]:
    """The rows of a table."""
    names = {called: name for name, (called, _) in SHOWN.items()}
    (head, _, like), *body = rows(o)
    yield f"<tr><th colspan=3>{html.escape(head)}</th><th>{like}</th></tr>"
    for called, number, ends in body:
        cells = "".join(f"<td>{html.escape(x)}</td>" for x in (called, number))
        yield f"<tr>{cells}<td>{scale(o, names[called])}</td><td>{html.escape(ends)}</td></tr>"


def scale(o: Output, name: str) -> str:
    """Where a number lies between its ends, and where those of healthy runs do."""

    def at(x: float) -> float:
        if name in ENDS:
            low, high = ENDS[name]
            share = (x - low) / (high - low)
        else:
            share = math.log(max(x, 1)) / math.log(max(o.width, 2))
        return min(max(share, 0), 1)

    band, ends = "", span(healthy(o.name, o.width), name, o.images)
    if ends:
        left, right = map(at, ends)
        band = f'<b style="left: {left:.1%}; width: {right - left:.1%}"></b>'
    return f'<div class=scale>{band}<i style="left: {at(o.numbers[name]):.1%}"></i></div>'


def svg(figure: "Figure") -> str:
    """A figure, drawn into the page."""
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)


def near(z: Tensor, images: Tensor) -> str:
    """Images and their nearest."""
    lines = [
        "<div class=near>" + "".join(f'<img src="{thumbnail(images[i])}" alt="">' for i in row) + "</div>"
        for row in neighbours(z).tolist()
    ]
    return f"<h2>Some images, and those that are nearest to each</h2>{''.join(lines)}"
