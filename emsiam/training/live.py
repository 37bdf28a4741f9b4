"""How does a run move while it trains? In a notebook curves of loss, std and rank, drawn anew now and then."""

import sys
import time
from typing import Any

from ..metrics import METRICS

SHOWN = ("loss", "z_std_ratio", "participation_ratio")
SHARE = 0.02  # of the time, at most
EVERY = 1.0  # seconds, at least


class Live:
    """Draws lines as they come. Where there is no notebook nothing is imported and nothing shown."""

    def __init__(self, quiet: bool):
        self.lines: list[dict[str, float]] = []
        self.drawn, self.cost, self.handle = time.perf_counter(), 0.0, None
        if not quiet and in_notebook():
            from IPython.display import display

            self.handle = display(self.picture(), display_id=True)

    def after(self, line: dict[str, float]) -> None:
        """Where there is a new line, and drawing has not taken its share of the time yet."""
        if self.handle is None or not line or (self.lines and self.lines[-1] is line):
            return
        self.lines.append(line)
        if time.perf_counter() - self.drawn >= max(EVERY, self.cost / SHARE):
            self.draw()

    def draw(self) -> None:
        if self.handle is not None:
            began = time.perf_counter()
            self.handle.update(self.picture())
            self.drawn = time.perf_counter()
            self.cost = self.drawn - began

    def picture(self) -> Any:
        import seaborn as sns

        from ..figure import Picture

        with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.8):
            figure = Picture(figsize=(9, 2.4), layout="constrained")
            for axes, metric in zip(figure.subplots(1, len(SHOWN)), map(METRICS.__getitem__, SHOWN), strict=True):
                axes.plot([x["step"] for x in self.lines], [x[metric.name] for x in self.lines], linewidth=1.5)
                axes.set(title=metric.title, xlabel="step")
                if metric.zero and self.lines:
                    axes.set_ylim(0, 1.15 * max(x[metric.name] for x in self.lines))
        return figure


def in_notebook() -> bool:
    """Whether cells show pictures: a kernel, and not a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
