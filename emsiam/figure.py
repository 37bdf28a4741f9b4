"""How does a notebook show a figure? By itself, without a magic line."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows where it is a cell's last value."""

    def png(self, dpi: int = 100) -> bytes:
        """The file that `savefig` would write."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=dpi)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()
