"""How does a notebook show a figure? By itself, without a magic line."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows where it is a cell's last value."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()
