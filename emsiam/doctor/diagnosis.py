"""What does the doctor say? A verdict with its reason, the numbers beside it, what may be behind it, what to try."""

import html
import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..diagnostics.judgement import RULE, Judgement
from .causes import Cause

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 96
SHOWN = {  # number: how it is called, and what it is
    "z_std_ratio": ("std·√d", "the spread of unit vectors, 1 in health and 0 for a constant"),
    "participation_ratio": ("directions", "the participation ratio, how many directions carry the variance"),
    "effective_rank": ("effective rank", "RankMe of unit vectors, highest before training"),
    "view_auc": ("found again", "how often an image's other view is nearer to it than another image; 0.5 is chance"),
}


class Output(NamedTuple):
    """What was looked at: z, p, or features."""

    name: str
    images: int
    width: int
    views: int
    numbers: dict[str, float]  # of `diagnostics.collapse`, by name
    intervals: dict[str, tuple[float, float]]
    spectrum: tuple[float, ...]  # eigenvalues of the covariance of unit vectors, descending


class Shown(NamedTuple):
    """What pictures are drawn of."""

    z: Tensor  # [n, N, d], of the first output
    images: Tensor | None = None  # [N, C, H, W], uint8


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` says. `print` it, or take it as `to_dict()`; a notebook shows it."""

    judgement: Judgement
    outputs: tuple[Output, ...]  # the first is what the verdict is of
    causes: tuple[Cause, ...] = ()
    said: tuple[str, ...] = ()  # how what was handed over was read
    compared: tuple[Output, ...] = ()  # untrained weights and pixels, where they are known
    shown: Shown | None = field(default=None, compare=False, repr=False)  # for pictures

    @property
    def verdict(self) -> str:
        """One of `diagnostics.judgement.VERDICTS`."""
        return self.judgement.verdict

    @property
    def reason(self) -> str:
        return self.judgement.reason

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values; the numbers of the first output by name, those of others in `outputs`."""
        j = self.judgement
        first = self.outputs[0] if self.outputs else None
        return {
            "verdict": j.verdict,
            "reason": j.reason,
            "verdict_rule": RULE,
            "number": j.number,
            "value": j.value,
            "bound": j.bound,
            "bound_from": j.source,
            "would_decide": list(j.would_decide),
            **(first.numbers if first else {}),
            "outputs": {o.name: plain(o) for o in self.outputs},
            "causes": [c._asdict() for c in self.causes],
            "notes": list(self.said),
        }

    def __str__(self) -> str:
        rows = self.rows()
        lines = [*wrapped(f"{self.verdict}: {self.reason}.", ""), *[""] * bool(rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
        lines += ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [line for text in self.meanings() for line in wrapped(text, "  ")]
        if self.judgement.would_decide:
            lines += ["", *wrapped(f"What would decide: {'; '.join(self.judgement.would_decide)}", "")]
        if self.causes:
            lines += ["", "What usually looks like this, most likely first:"]
            for i, c in enumerate(self.causes, 1):
                lines += wrapped(f"{i}. {c.cause}. Try: {c.to_try}. [{c.source}]", "   ")
        lines += [""] * bool(self.said) + [line for note in self.said for line in wrapped(f"Note: {note}.", "  ")]
        return "\n".join(lines)

    def rows(self) -> list[list[str]]:
        """The four numbers, a column an output. Nothing where nothing could be looked at."""
        if not self.outputs:
            return []
        rows = [["", *(f"{o.name} ({o.images:,} × {o.width:,})" for o in self.outputs)]]
        for name, (called, _) in SHOWN.items():
            cells = [spelled(o, name) for o in self.outputs]
            if any(cells):
                rows.append([called, *cells])
        return rows

    def meanings(self) -> list[str]:
        """What each of them is."""
        known = {name for o in self.outputs for name in o.numbers}
        return [f"{called} is {meaning}." for name, (called, meaning) in SHOWN.items() if name in known]

    def plot(self) -> "Figure":
        """The spectrum beside that of untrained weights, and the cloud in the plane in which it varies most."""
        from .pictures import drawn

        return drawn(self)

    def html(self) -> str:
        """A page that stands alone: verdict, numbers, spectrum, cloud, nearest images, causes."""
        from .page import page

        return page(self)

    def _repr_html_(self) -> str:
        """In a notebook."""
        head, *body = self.rows() or [[]]
        table = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(x)}</{tag}>' for x in row)}</tr>"
            for tag, row in [("th", head), *(("td", row) for row in body)]
        )
        listed = "".join(
            f"<li>{html.escape(c.cause)}. Try: {html.escape(c.to_try)}. <small>{html.escape(c.source)}</small></li>"
            for c in self.causes
        )
        causes = f"<p>What usually looks like this, most likely first:</p><ol>{listed}</ol>" if listed else ""
        notes = "".join(f"<p><small>{html.escape(x)}</small></p>" for x in (*self.meanings(), *self.said))
        said = f"<p><b>{html.escape(self.verdict)}</b>: {html.escape(self.reason)}</p>"
        return f"{said}<table>{table}</table>{causes}{notes}"


def plain(o: Output) -> dict[str, Any]:
    """An output in plain values."""
    intervals = {name: list(interval) for name, interval in o.intervals.items()}
    return o._asdict() | {"intervals": intervals, "spectrum": list(o.spectrum)}


def spelled(o: Output, name: str) -> str:
    """A number and its interval; nothing where it is not there."""
    x = o.numbers.get(name)
    if x is None or not math.isfinite(x):
        return ""
    digits = 1 if abs(x) >= 2 else 2
    low, high = o.intervals.get(name, (math.nan, math.nan))
    return f"{x:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if math.isfinite(low) else "")


def wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
