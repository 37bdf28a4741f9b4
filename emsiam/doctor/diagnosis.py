"""What does the doctor say? A verdict with its reason, the numbers beside it, what may be behind it, what to try."""

import html
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..diagnostics.verdict import RULE, Judgement
from .causes import Cause
from .outputs import Output, Shown, decided, meanings, plain, rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 79


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` says. `print` it, or take it as `to_dict()`; a notebook shows it."""

    judgement: Judgement
    outputs: tuple[Output, ...]  # the first is what the verdict is of
    causes: tuple[Cause, ...] = ()
    said: tuple[str, ...] = ()  # how what was handed over was read
    compared: tuple[Output, ...] = ()  # untrained weights, where they are known
    shown: Shown | None = field(default=None, compare=False, repr=False)  # for pictures

    @property
    def verdict(self) -> str:
        """One of `diagnostics.verdict.VERDICTS`."""
        return self.judgement.verdict

    @property
    def reason(self) -> str:
        """Why, in a sentence with the numbers that decided."""
        return self.judgement.reason

    @property
    def decided(self) -> str:
        """Which number decided, its value, the bound, and where that is from: a sentence, or nothing."""
        return decided(self.judgement)

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
            **(plain(first)["numbers"] if first else {}),
            "outputs": {o.name: plain(o) for o in self.outputs},
            "causes": [c._asdict() for c in self.causes],
            "notes": list(self.said),
        }

    def __str__(self) -> str:
        lines = wrapped(f"{self.verdict}: {self.reason}.", "")
        lines += wrapped(self.decided, "") if self.decided else []
        tables = [rows(o) for o in self.outputs]
        widths = [max((len(row[i]) for table in tables for row in table[1:]), default=0) for i in range(2)]
        for (head, _, like), *body in tables:
            lines += ["", head.ljust(sum(widths) + 6) + like]
            lines += [f"  {x.ljust(widths[0])}  {y.ljust(widths[1])}  {z}".rstrip() for x, y, z in body]
        lines += [""] * bool(tables)
        lines += [line for text in meanings(self.outputs) for line in wrapped(text, "  ")]
        if self.judgement.would_decide:
            lines += ["", *wrapped(f"What would decide: {'; '.join(self.judgement.would_decide)}", "")]
        if self.causes:
            lines += ["", "What usually looks like this, most likely first:"]
            for i, c in enumerate(self.causes, 1):
                lines += wrapped(f"{i}. {c.cause}. Try: {c.to_try}. [{c.source}]", "   ")
        lines += [""] * bool(self.said) + [line for note in self.said for line in wrapped(f"Note: {note}.", "  ")]
        return "\n".join(lines)

    def plot(self) -> "Figure":
        """The spectrum beside that of untrained weights, and the cloud in the plane in which it varies most."""
        from .pictures import drawn

        return drawn(self.outputs, self.compared, self.shown)

    def html(self) -> str:
        """A page that stands alone: verdict, numbers, spectrum, cloud, nearest images, causes."""
        from .page import page

        return page(self.judgement, self.outputs, self.compared, self.causes, self.said, self.shown)

    def _repr_html_(self) -> str:
        """In a notebook."""
        table = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(x)}</{tag}>' for x in row)}</tr>"
            for o in self.outputs
            for tag, row in zip(("th", *["td"] * len(rows(o))), rows(o), strict=False)
        )
        listed = "".join(
            f"<li>{html.escape(c.cause)}. Try: {html.escape(c.to_try)}. <small>{html.escape(c.source)}</small></li>"
            for c in self.causes
        )
        causes = f"<p>What usually looks like this, most likely first:</p><ol>{listed}</ol>" if listed else ""
        notes = "".join(f"<p><small>{html.escape(x)}</small></p>" for x in (*meanings(self.outputs), *self.said))
        said = f"<p><b>{html.escape(self.verdict)}</b>: {html.escape(self.reason)}</p>"
        said += f"<p><small>{html.escape(self.decided)}</small></p>" if self.decided else ""
        return f"{said}<table>{table}</table>{causes}{notes}"


def wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
