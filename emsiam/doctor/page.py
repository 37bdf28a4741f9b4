"""What does the doctor show? One HTML file that stands alone: nothing of it is fetched, and nothing in it runs."""

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..diagnostics.verdict import Judgement
from .causes import Cause
from .outputs import SHOWN, Output, Shown, meanings, rows
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
small, .source {{color: #666}} .scale {{height: .5em; max-width: 14em; margin: .2em 0 .3em; background: #eee; position: relative}}
.scale i {{position: absolute; height: 100%; background: #4a6f96; min-width: 3px}}
.near img {{margin: 1px; vertical-align: middle}} .near img:first-child {{margin-right: 14px}}
svg {{max-width: 100%; height: auto}}
</style></head><body>
<h1>{verdict}</h1><p>{reason}.</p>
{table}
{meanings}
{pictures}
{neighbours}
{decide}
{causes}
{notes}
</body></html>
"""
ENDS = {"residual_norm": (0.0, 1.0), "view_auc": (0.5, 1.0)}  # of a scale; others end at the width


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
        colour=COLOURS.get(j.verdict, ILL),
        table=table(outputs),
        meanings="".join(f"<small>{text(x)}</small><br>" for x in meanings(outputs)),
        pictures=svg(drawn(outputs, compared, shown)) if outputs else "",
        neighbours=near(shown.z, shown.images) if shown and shown.images is not None else "",
        decide=decide,
        causes=f"<h2>What usually looks like this, most likely first</h2><ol>{listed}</ol>" if listed else "",
        notes="".join(f"<p><small>{text(x)}.</small></p>" for x in said),
    )


def table(outputs: Sequence[Output]) -> str:
    """The numbers, each on a scale."""
    head, *body = rows(outputs) or [[]]
    lines = "".join(f"<th>{html.escape(x)}</th>" for x in head)
    names = {called: name for name, (called, _) in SHOWN.items()}
    for called, *cells in body:
        shown = "".join(
            f"<td>{html.escape(x)}{scale(o, names[called])}</td>" for o, x in zip(outputs, cells, strict=True)
        )
        lines += f"</tr><tr><td>{html.escape(called)}</td>{shown}"
    return f"<table><tr>{lines}</tr></table>"


def scale(o: Output, name: str) -> str:
    """Where a number lies between its ends."""
    if name not in o.numbers:
        return ""
    low, high = ENDS.get(name, (1.0, float(min(o.images, o.width))))
    share = min(max((o.numbers[name] - low) / max(high - low, 1e-9), 0), 1)
    return f'<div class=scale><i style="width: {share:.1%}"></i></div>'


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
