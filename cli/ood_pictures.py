"""The two pictures of ``acil ood``, as PNG bytes: histograms of the scores, and ROC curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acil.cli.picture_style import FAINT, LINE, QUIET, add_panel, as_png, blank_figure, house_style, write_title
from acil.cli.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from acil.cli.detection import Detection

KNOWN, FOREIGN = LINE, "#d9822b"
COLOURS = (LINE, "#d9822b", "#2a9d6f", "#8a4fa3", "#c0392b")
WIDTH = 9.0  # inches, as all pictures
HEADING = 1.25  # inches above the panels
MARGIN = 0.27
BINS = 40
LONGEST_NAME = 40
SHOWN = 0.99  # of each histogram's images; the rest would make room for a few
CURVES_ABREAST = 3


def histograms_picture(detection: Detection) -> bytes:
    """How known and foreign images are spread over each score: a row for each source, a column for each score.

    Returns:
        a PNG.
    """
    from acil.ood import evaluate_ood

    height, pitch, gap = 1.0, 1.75, 0.2
    columns = list(detection.known)
    width = (WIDTH - 2 * MARGIN - gap * (len(columns) - 1)) / len(columns)
    with house_style():
        figure = blank_figure((WIDTH, HEADING + pitch * len(detection.foreign) + 0.1))
        write_title(figure, _title(detection), "images over each score: the further right, the more foreign")
        _write_legend(figure, {"known": KNOWN, "foreign": FOREIGN})
        for row, (source, scores) in enumerate(detection.foreign.items()):
            top = HEADING + row * pitch
            _write(figure, MARGIN, top, _panel_name(detection, source), fontweight="bold", fontsize=11)
            for column, name in enumerate(columns):
                axes = _panel(figure, MARGIN + column * (width + gap), top + 0.5, width, height)
                auroc = evaluate_ood(detection.known[name], scores[name]).auroc
                _draw_histograms(axes, detection.known[name], scores[name], logarithmic=name == "leverage")
                axes.set_title(f"{name}  {100 * auroc:.1f} %", fontsize=9.5, loc="left", color=QUIET, pad=3)
        return as_png(figure)


def roc_picture(detection: Detection) -> bytes:
    """Known images accepted against foreign ones accepted, a panel for each source and a curve for each score.

    Returns:
        a PNG.
    """
    from acil.ood import roc_curve

    side, pitch, left = 2.25, 3.05, 0.75
    rows = -(-len(detection.foreign) // CURVES_ABREAST)
    colours = dict(zip(detection.known, COLOURS, strict=False))
    with house_style():
        figure = blank_figure((WIDTH, HEADING + pitch * rows + 0.1))
        write_title(figure, _title(detection), "known images accepted against foreign ones accepted, in %")
        _write_legend(figure, colours)
        for place, (source, scores) in enumerate(detection.foreign.items()):
            row, column = divmod(place, CURVES_ABREAST)
            axes = _panel(figure, left + column * (side + 0.5), HEADING + row * pitch + 0.35, side, side)
            axes.set_title(_panel_name(detection, source), fontsize=10, loc="left", parse_math=False)
            _prepare_curves(axes)
            for name, colour in colours.items():
                passed, accepted = roc_curve(detection.known[name], scores[name])
                axes.plot(100 * passed, 100 * accepted, color=colour, linewidth=1.6, clip_on=False)
        return as_png(figure)


def _title(detection: Detection) -> str:
    return f"{short_name(detection.data)}: {detection.known_images:,} known images against foreign ones"


def _panel_name(detection: Detection, source: str) -> str:
    name = source if len(source) <= LONGEST_NAME else "..." + source[-LONGEST_NAME:]
    return f"{name}, {detection.foreign_images(source):,}"


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    return add_panel(figure, (left / across, 1 - (top + height) / down, width / across, height / down))


def _write(figure: Figure, left: float, top: float, text: str, **style: object) -> None:
    """Write text at a place in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, text, va="top", parse_math=False, **style)


def _write_legend(figure: Figure, colours: dict[str, str]) -> None:
    """The names in their colours, on one line under the title."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    names = [
        TextArea(name, textprops={"color": colour, "fontweight": "bold", "fontsize": 11})
        for name, colour in colours.items()
    ]
    across, down = figure.get_size_inches()
    figure.add_artist(
        AnchoredOffsetbox(
            "upper left",
            child=HPacker(children=names, sep=14, pad=0),
            frameon=False,
            pad=0,
            borderpad=0,
            bbox_to_anchor=(MARGIN / across, 1 - 0.87 / down),
            bbox_transform=figure.transFigure,
        )
    )


def _draw_histograms(axes: Axes, known: Tensor, foreign: Tensor, *, logarithmic: bool) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    both = [values.double().numpy() for values in (known, foreign)]
    tail = (1 - SHOWN) / 2
    low = min(np.quantile(values, tail) for values in both)
    high = max(np.quantile(values, 1 - tail) for values in both)
    if logarithmic:
        axes.set_xscale("log")
        low = max(low, 1e-6 * high)
        edges = np.geomspace(low, high, BINS + 1) if low < high else np.array([low / 2, 2 * low])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
        room = 0 if low < high else abs(low) or 1
        edges = np.linspace(low - room, high + room, BINS + 1)
    for values, colour in zip(both, (KNOWN, FOREIGN), strict=True):
        counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
        axes.stairs(counts / len(values), edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(counts / len(values), edges, color=colour, linewidth=1.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _prepare_curves(axes: Axes) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 95])
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1)
    axes.axhline(95, color=QUIET, linewidth=0.8, dashes=(5, 3), zorder=1.5)
    axes.set_xlabel("foreign", fontsize=9.5, labelpad=1)
    axes.set_ylabel("known", fontsize=9.5, labelpad=1)
    axes.tick_params(labelsize=8.5)
