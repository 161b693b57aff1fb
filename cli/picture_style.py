"""The house style of all pictures.

Drawn without pyplot, so that no global state is touched and no display is needed.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Shown 900 pixels wide, a picture has two pixels for each: sharp on dense screens.
PIXELS_PER_INCH = 200
INK, QUIET, FAINT, LINE = "#1f2933", "#6b7785", "#e4e8ec", "#1c5fa8"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def house_style() -> AbstractContextManager[None]:
    """The context in which a picture is drawn, whatever the user's own style."""
    import matplotlib.style

    context: AbstractContextManager[None] = matplotlib.style.context(["default", STYLE])
    return context


def blank_figure(inches: tuple[float, float]) -> Figure:
    """A figure of this width and height."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_panel(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at (left, bottom, width, height), in shares of the figure."""
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    return axes


def write_title(figure: Figure, title: str, subtitle: str) -> None:
    """Write both lines into the upper left corner."""
    height = figure.get_figheight()
    figure.text(0.03, 1 - 0.24 / height, title, fontsize=15, fontweight="bold", va="top", parse_math=False)
    figure.text(0.03, 1 - 0.6 / height, subtitle, fontsize=11, color=QUIET, va="top")


def as_png(figure: Figure) -> bytes:
    """The picture as the bytes of a PNG file."""
    png = io.BytesIO()
    # Without matplotlib's version in it, equal figures are equal files.
    figure.savefig(png, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    return png.getvalue()
