"""The two pictures of a run, as PNG bytes: accuracy by phase, and what became of each phase's classes.

Drawn without pyplot, so that no global state is touched and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from acil.cli import metrics
from acil.cli.metrics import PhaseRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Shown 900 pixels wide, a picture has two pixels for each: sharp on dense screens.
PIXELS_PER_INCH = 200
ACCURACY_INCHES = (9.0, 5.0)
FORGETTING_INCHES = (9.0, 7.4)

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

MOST_MARKERS = 30
MOST_NUMBERED_PHASES = 12


def accuracy_picture(records: Sequence[PhaseRecord], data: str) -> bytes:
    """Accuracy on all classes seen, after each phase.

    Args:
        records: all phases of the run, in order.
        data: name of the data set.

    Returns:
        a PNG.
    """
    with style():
        figure, axes = _canvas(ACCURACY_INCHES, (0.145, 0.155, 0.715, 0.635))
        values = [100 * value for value in metrics.accuracies(records)]
        average = 100 * metrics.average_incremental_accuracy(records)
        write_title(figure, f"{short_name(data)}: average accuracy {average:.2f} %", _course(records))
        _percent_axis(axes, values)
        _phase_axis(axes, metrics.classes_seen(records))
        if len(values) > 1:
            _draw_average(axes, average)
        _draw_course(axes, values, average)
        return as_png(figure)


def forgetting_picture(records: Sequence[PhaseRecord], data: str) -> bytes:
    """Accuracy on the classes of each phase, after each phase: a lower triangle, one row per moment in time.

    Args:
        records: all phases of the run, in order.
        data: name of the data set.

    Returns:
        a PNG.
    """
    import numpy as np

    with style():
        figure, axes = _canvas(FORGETTING_INCHES, (0.1, 0.11, 0.72, 0.74))
        matrix = np.full((len(records), len(records)), np.nan)
        for row, values in enumerate(metrics.phase_matrix(records)):
            matrix[row, : len(values)] = values
        matrix *= 100
        lost = metrics.forgetting(records)
        ending = "" if lost is None else f": forgetting {100 * lost:.2f} %"
        write_title(figure, f"{short_name(data)}{ending}", "accuracy on each phase's classes, after each phase")
        _draw_matrix(figure, axes, matrix)
        return as_png(figure)


def short_name(data: str) -> str:
    """A data set's name without the folders before it: ``folder:/a/b/photos`` is ``photos``."""
    kind, separator, path = data.partition(":")
    return (PurePath(path).name or kind) if separator else data


def style() -> AbstractContextManager[None]:
    """The house's fonts and colours, while it is entered."""
    import matplotlib.style

    context: AbstractContextManager[None] = matplotlib.style.context(["default", STYLE])
    return context


def _canvas(inches: tuple[float, float], box: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    figure = new_figure(*inches)
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    return figure, axes


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG."""
    png = io.BytesIO()
    # Without matplotlib's version in it, equal figures are equal files.
    figure.savefig(png, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": None})
    return png.getvalue()


def write_title(figure: Figure, title: str, subtitle: str) -> None:
    """Write both lines into the upper left corner."""
    height = figure.get_figheight()
    figure.text(0.03, 1 - 0.24 / height, title, fontsize=15, fontweight="bold", va="top", parse_math=False)
    figure.text(0.03, 1 - 0.6 / height, subtitle, fontsize=11, color=QUIET, va="top")


def _course(records: Sequence[PhaseRecord]) -> str:
    base, increments = len(records[0].classes), len(records) - 1
    rest = metrics.classes_seen(records)[-1] - base
    if not increments:
        return f"accuracy on {base} classes, learned in one phase"
    phases = "one phase" if increments == 1 else f"{increments} phases"
    return f"accuracy on all classes seen: {base} first, then {rest} in {phases}"


def _percent_axis(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_ylim(*_limits(values))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _limits(values: Sequence[float], least_span: int = 20) -> tuple[float, float]:
    """Multiples of ten around the values with room for labels, ``least_span`` apart or more, in 0..100."""
    low, high = min(values), max(values)
    room = 0.12 * max(high - low, least_span)
    bottom = max(0.0, 10 * ((low - room) // 10))
    top = min(100.0, -10 * (-(high + room) // 10))
    if top - bottom < least_span:
        bottom = max(0.0, top - least_span)
    return bottom, max(top, bottom + least_span)


def _phase_axis(axes: Axes, seen: Sequence[int]) -> None:
    """Phases below the axis, and below each the number of classes seen by then."""
    last = len(seen) - 1
    margin = max(0.5, 0.02 * last) if last < 12 else 0.02 * last
    axes.set_xlim(-margin, last + margin)
    ticks = _phase_ticks(len(seen))
    axes.set_xticks(ticks)
    axes.tick_params(axis="x", pad=6)
    below: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "va": "top",
    }
    for tick in ticks:
        axes.annotate(
            str(seen[tick]),
            (tick, 0),
            (0, -26),
            ha="center",
            color=QUIET,
            fontsize=10,
            annotation_clip=False,
            **below,
        )
    beside = {**below, "xycoords": "axes fraction", "ha": "right"}
    axes.annotate("phase", (0, 0), (-16, -9), **beside)
    axes.annotate("classes seen", (0, 0), (-16, -26), color=QUIET, fontsize=10, **beside)


def _phase_ticks(phases: int, most: int = 13) -> list[int]:
    """Phase numbers to write on an axis: every k-th of a round k, one that meets the last phase if it can."""
    last = phases - 1
    steps = [step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, phases) if last <= step * (most - 1)]
    step = next((step for step in steps[:2] if last % step == 0), steps[0])
    return list(range(0, phases, step))


def _draw_average(axes: Axes, average: float) -> None:
    axes.axhline(average, color=QUIET, linewidth=1, dashes=(5, 3), zorder=1.5)
    axes.annotate(
        f"average\n{average:.1f} %",
        (1, average),
        (8, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=QUIET,
        annotation_clip=False,
    )


def _draw_course(axes: Axes, values: Sequence[float], average: float) -> None:
    small = len(values) > MOST_MARKERS
    axes.plot(values, color=LINE, linewidth=2, marker="o", markersize=3 if small else 5.5, clip_on=False)
    bottom, top = axes.get_ylim()
    last = len(values) - 1
    for phase in sorted({0, last}):
        # Away from the average, unless that is where the phase numbers stand.
        above = values[phase] >= average or values[phase] - bottom < 0.1 * (top - bottom)
        side = "center" if last == 0 else "left" if phase == 0 else "right"
        text = axes.annotate(
            f"{values[phase]:.1f} %",
            (phase, values[phase]),
            ({"center": 0, "left": -5, "right": 5}[side], 9 if above else -9),
            textcoords="offset points",
            ha=side,
            va="bottom" if above else "top",
            color=LINE,
            fontweight="bold",
        )
        _halo(text)


def _halo(text: Any) -> None:
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _draw_matrix(figure: Figure, axes: Axes, matrix: Any) -> None:
    import numpy as np

    phases = len(matrix)
    lowest = 100.0 if np.isnan(matrix).all() else float(np.nanmin(matrix))
    bottom = max(0.0, min(10 * (lowest // 10), 80.0))
    image = axes.imshow(matrix, cmap="viridis", vmin=bottom, vmax=100, interpolation="nearest", aspect="auto")
    ticks = _phase_ticks(phases)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.set_xlabel("classes of phase", labelpad=6)
    axes.set_ylabel("after phase", labelpad=6)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    if phases <= MOST_NUMBERED_PHASES:
        _separate_cells(axes, phases)
        _number_cells(axes, matrix, bright=bottom + 0.62 * (100 - bottom))
    if phases == 1:
        axes.set(xlim=(-1.5, 1.5), ylim=(1.5, -1.5))  # one cell, not a wall of colour
    _colour_bar(figure, image)


def _separate_cells(axes: Axes, phases: int) -> None:
    edges = [edge - 0.5 for edge in range(1, phases)]
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)


def _number_cells(axes: Axes, matrix: Any, bright: float) -> None:
    size = 11 if len(matrix) <= 8 else 9.5
    for row in range(len(matrix)):
        for column in range(row + 1):
            value = matrix[row, column]
            if value == value:  # NaN: none of the phase's classes was tested
                colour = "white" if value < bright else INK
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=size)


def _colour_bar(figure: Figure, image: Any) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    bar = figure.colorbar(image, cax=figure.add_axes((0.86, 0.11, 0.022, 0.74)))
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    bar.ax.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    bar.ax.tick_params(length=0)
