"""The picture of a comparison: a panel for each number of phases, in it a curve for each method."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from acil.cli import metrics
from acil.cli.pictures import FAINT, INK, LINE, QUIET, as_png, new_figure, short_name, style, write_title
from acil.strategies.contenders import CONTENDERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from acil.cli.comparison_views import Row

WIDTH, PANEL_HEIGHT = 9.0, 2.9  # inches
HEADING, FOOT, LEFT, RIGHT, GAP, ROW_GAP = 1.15, 0.55, 0.62, 2.2, 0.3, 0.75
MOST_ABREAST = 2
GREENS, BLUES = ("#2a9d6f", "#8fb339"), (LINE, "#00a3ad", "#5aa7e0", "#8a4fa3", "#c05299", INK)
WARM = {"naive": "#8c6d46", "lwf": "#d9822b", "ewc": "#e0b040", "replay": "#c0392b"}
COLOURS = {
    **dict(zip(("acil", "lda", "fourier", "gkeal", "ds-al", "joint"), BLUES, strict=True)),
    **dict(zip(("slda", "ncm"), GREENS, strict=True)),
    **WARM,
    **{f"{name}-head": colour for name, colour in WARM.items()},
}


def comparison_picture(rows: Sequence[Row], data: str) -> bytes:
    """Accuracy on all classes seen, after each phase, as a mean over seeds.

    Args:
        rows: all methods in all numbers of phases.
        data: name of the data set.

    Returns:
        a PNG.
    """
    fought = [row for row in rows if row.records]
    phases = list(dict.fromkeys(row.phases for row in fought))
    columns = min(MOST_ABREAST, len(phases))
    lines = -(-len(phases) // columns)
    height = HEADING + FOOT + lines * PANEL_HEIGHT + (lines - 1) * ROW_GAP
    with style():
        figure = new_figure(WIDTH, height)
        write_title(figure, f"{short_name(data)}: methods side by side", _subtitle(fought))
        width = (WIDTH - LEFT - RIGHT - GAP * (columns - 1)) / columns
        first = None
        for place, number in enumerate(phases):
            line, column = divmod(place, columns)
            bottom = height - HEADING - (line + 1) * PANEL_HEIGHT - line * ROW_GAP
            box = (LEFT + column * (width + GAP), bottom, width, PANEL_HEIGHT)
            axes = figure.add_axes(_share(box, height), sharey=first)
            first = first or axes
            _draw(axes, number, [row for row in fought if row.phases == number], is_left=column == 0)
        if first is not None:
            first.set_ylim(bottom=0)  # for all panels, once all curves are there
        _write_legend(figure, fought, height)
        return as_png(figure)


def _share(box: tuple[float, float, float, float], height: float) -> tuple[float, float, float, float]:
    left, bottom, width, tall = box
    return left / WIDTH, bottom / height, width / WIDTH, tall / height


def _subtitle(rows: Sequence[Row]) -> str:
    seeds = max(len(row.records) for row in rows)
    return "accuracy on all classes seen, in %" + (f"; means of up to {seeds} class orders" if seeds > 1 else "")


def _draw(axes: Axes, phases: int, rows: Sequence[Row], is_left: bool) -> None:
    for row in rows:
        seen = metrics.classes_seen(row.records[0])
        of_seeds = zip(*map(metrics.accuracies, row.records), strict=True)
        means = [100 * statistics.fmean(values) for values in of_seeds]
        axes.plot(seen, means, color=COLOURS[row.method], linestyle=_dashes(row.method), linewidth=_width(row.method))
    axes.set_title("one phase" if phases == 1 else f"{phases} phases", fontsize=11, loc="left", color=QUIET)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3, labelleft=is_left)
    axes.set_xlabel("classes seen", fontsize=10, color=QUIET)


def _dashes(method: str) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
    if method == "joint":
        return (0, (1.0, 1.6))
    return (0, (4.0, 2.0)) if method.endswith("-head") else "solid"


def _width(method: str) -> float:
    """ACIL broad, joint training a narrow line within it."""
    return {"acil": 3.4, "joint": 1.4}.get(method, 1.7)


def _write_legend(figure: Figure, rows: Sequence[Row], height: float) -> None:
    """Methods from the best last accuracy in the most phases downwards, then those that were not in it."""
    from matplotlib.lines import Line2D

    most = max(row.phases for row in rows)
    last = {row.method: statistics.fmean(row.values(metrics.last_accuracy)) for row in rows if row.phases == most}
    others = [row.method for row in rows if row.method not in last]
    ordered = [*sorted(last, key=lambda method: -last[method]), *dict.fromkeys(others)]
    handles = [
        Line2D([], [], color=COLOURS[method], linestyle=_dashes(method), linewidth=_width(method)) for method in ordered
    ]
    figures = {method: f"  {100 * value:.1f}" for method, value in last.items()}
    labels = [CONTENDERS[method].title + figures.get(method, "") for method in ordered]
    figure.legend(
        handles,
        labels,
        title=f"last accuracy, {most} phases" if most > 1 else "last accuracy",
        loc="upper left",
        bbox_to_anchor=((WIDTH - RIGHT + 0.05) / WIDTH, 1 - (HEADING - 0.15) / height),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        alignment="left",
        labelspacing=0.6,
    )
