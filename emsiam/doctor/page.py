"""What does the doctor show? One HTML file that stands alone: nothing of it is fetched, and nothing in it runs."""

import html
import io
import re
from typing import TYPE_CHECKING

from .pictures import drawn, neighbours, thumbnail

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

COLOURS = {"healthy": "#2a7f4f", "undecided": "#8a6d1d", "too early to say": "#8a6d1d"}
ILL = "#a33327"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{verdict}</title>
<style>
body {{font: 15px/1.45 sans-serif; margin: 1.5em auto; max-width: 62em; padding: 0 1em; color: #222}}
h1 {{font-size: 1.5em; margin: 0; color: {colour}}} h2 {{font-size: 1.1em; margin: 1.4em 0 .4em}}
table {{border-collapse: collapse}}
td, th {{padding: .25em .9em .25em 0; text-align: left; border-bottom: 1px solid #ddd}}
small, .source {{color: #666}} .scale {{height: .7em; width: 14em; background: #eee; position: relative}}
.scale i {{position: absolute; top: -.15em; height: 1em; background: #4a6f96; min-width: 3px}}
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
ENDS = {"z_std_ratio": (0.0, 1.0), "view_auc": (0.5, 1.0)}  # of a scale; others end at the width


def page(d: "Diagnosis") -> str:
    """The HTML of a diagnosis."""
    j, text = d.judgement, html.escape
    decide = f"<p>What would decide: {text('; '.join(j.would_decide))}.</p>" if j.would_decide else ""
    listed = "".join(
        f"<li>{text(c.cause)}. Try: {text(c.to_try)}. <span class=source>{text(c.source)}</span></li>" for c in d.causes
    )
    return PAGE.format(
        verdict=text(d.verdict),
        reason=text(d.reason),
        colour=COLOURS.get(d.verdict, ILL),
        table=table(d),
        meanings="".join(f"<small>{text(x)}</small><br>" for x in d.meanings()),
        pictures=svg(d) if d.outputs else "",
        neighbours=near(d),
        decide=decide,
        causes=f"<h2>What usually looks like this, most likely first</h2><ol>{listed}</ol>" if listed else "",
        notes="".join(f"<p><small>{text(x)}.</small></p>" for x in d.said),
    )


def table(d: "Diagnosis") -> str:
    """The numbers, each on a scale."""
    from .diagnosis import SHOWN, spelled

    if not d.outputs:
        return ""
    head = "".join(f"<th>{html.escape(o.name)} ({o.images:,} × {o.width:,})</th><th></th>" for o in d.outputs)
    rows = ""
    for name, (called, _) in SHOWN.items():
        cells = ""
        for o in d.outputs:
            low, high = ENDS.get(name, (1.0, float(min(o.images, o.width))))
            x = o.numbers.get(name)
            share = 0.0 if x is None else min(max((x - low) / max(high - low, 1e-9), 0), 1)
            bar = f'<div class=scale><i style="width: {share:.1%}"></i></div>' if x is not None else ""
            cells += f"<td>{html.escape(spelled(o, name))}</td><td>{bar}</td>"
        rows += f"<tr><td>{html.escape(called)}</td>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def svg(d: "Diagnosis") -> str:
    """Spectrum and cloud, drawn into the page."""
    file = io.StringIO()
    drawn(d).savefig(file, format="svg")
    return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)


def near(d: "Diagnosis") -> str:
    """Images and their nearest, where images are at hand."""
    if not d.shown or d.shown.images is None or not d.outputs:
        return ""
    rows = [
        "<div class=near>" + "".join(f'<img src="{thumbnail(d.shown.images[i])}" alt="">' for i in row) + "</div>"
        for row in neighbours(d.shown.z).tolist()
    ]
    return f"<h2>Some images, and those that are nearest to each</h2>{''.join(rows)}"
