"""The two pictures of ``acil ood``, as PNG bytes: histograms of the scores, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from acil.cli.picture_style import FAINT, LINE, QUIET, add_panel, as_png, blank_figure, house_style, write_title
from acil.cli.pictures import short_name

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from acil.cli.detection import Detection

KNOWN, FOREIGN = LINE, "#d9822b"
COLOURS = (LINE, "#d9822b", "#2a9d6f", "#8a4fa3", "#c0392b")
CURVE_WIDTHS = (3.2, 2.5, 1.9, 1.3, 1.9)  # so that a curve shows beneath another
WIDTH = 9.0  # inches, as all pictures
HEADING = 1.25  # inches above the panels
MARGIN = 0.27
BINS = 40
LONGEST_NAME = 24
SHOWN = 0.99  # of each histogram's images; the rest would make room for a few
MOST_ABREAST = 3
LARGEST_SIDE = 3.6  # inches


def histograms_picture(detection: Detection) -> bytes:
    """How known and foreign images are spread over each score: a row for each source, a column for each score.

    Returns:
        a PNG.
    """
    from acil.ood import evaluate_ood

    height, pitch, gap = 1.0, 1.8, 0.2
    columns = list(detection.known)
    width = (WIDTH - 2 * MARGIN - gap * (len(columns) - 1)) / len(columns)
    with house_style():
        figure = blank_figure((WIDTH, HEADING + pitch * len(detection.foreign) + 0.1))
        write_title(figure, _title(detection), "further right is more foreign; above each panel, its AUROC")
        _write_legend(figure, {"known": KNOWN, "foreign": FOREIGN})
        for row, (source, scores) in enumerate(detection.foreign.items()):
            top = HEADING + row * pitch
            _write_name(figure, top, _panel_name(detection, source))
            for column, name in enumerate(columns):
                axes = _panel(figure, MARGIN + column * (width + gap), top + 0.47, width, height)
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

    left, gap = 0.75, 0.55
    columns = min(len(detection.foreign), MOST_ABREAST)
    side = min(LARGEST_SIDE, (WIDTH - left - MARGIN - gap * (columns - 1)) / columns)
    pitch = side + 0.95
    colours = dict(zip(detection.known, COLOURS, strict=False))
    with house_style():
        figure = blank_figure((WIDTH, HEADING + pitch * -(-len(detection.foreign) // columns)))
        write_title(figure, _title(detection), "known images accepted against foreign ones accepted, in %")
        _write_legend(figure, colours)
        for place, (source, scores) in enumerate(detection.foreign.items()):
            row, column = divmod(place, columns)
            axes = _panel(figure, left + column * (side + gap), HEADING + row * pitch + 0.3, side, side)
            axes.set_title(_panel_name(detection, source), fontsize=10, loc="left", parse_math=False)
            _prepare_curves(axes)
            for (name, colour), width in zip(colours.items(), CURVE_WIDTHS, strict=False):
                passed, accepted = roc_curve(detection.known[name], scores[name])
                axes.plot(100 * passed, 100 * accepted, color=colour, linewidth=width, clip_on=False)
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


def _write_name(figure: Figure, top: float, name: str) -> None:
    """Write the name of a row of panels at a height in inches from the top."""
    across, down = figure.get_size_inches()
    place = MARGIN / across, 1 - top / down
    figure.text(*place, name, fontsize=11, fontweight="bold", va="top", parse_math=False)


def _write_legend(figure: Figure, colours: dict[str, str]) -> None:
    """The names in their colours, on one line under the title."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    names: list[Artist] = [
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

    both = [values.double().numpy() for values in (known, foreign)]
    edges = _edges(both, logarithmic)
    for values, colour in zip(both, (KNOWN, FOREIGN), strict=True):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(shares, edges, color=colour, linewidth=1.2)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xscale="log" if logarithmic else "linear", yticks=[])
    axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)  # a score has no unit
    axes.spines["left"].set_visible(False)


def _edges(parts: Sequence[NDArray[np.float64]], logarithmic: bool) -> NDArray[np.float64]:
    """Of bins that hold nearly all values of each part; on a logarithmic axis values are 0 or more."""
    import numpy as np

    tail = (1 - SHOWN) / 2
    low = min(float(np.quantile(values, tail)) for values in parts)
    high = max(float(np.quantile(values, 1 - tail)) for values in parts)
    if logarithmic:
        high = high or 1.0
        low = max(low, 1e-6 * high)
        return np.geomspace(low, high, BINS + 1) if low < high else np.array([low / 2, 2 * low])
    room = 0.0 if low < high else abs(low) or 1.0
    return np.linspace(low - room, high + room, BINS + 1)


def _prepare_curves(axes: Axes) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 95])
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1)
    axes.axhline(95, color=QUIET, linewidth=0.8, dashes=(5, 3), zorder=1.5)
    axes.set_xlabel("foreign accepted", fontsize=9.5, labelpad=1)
    axes.set_ylabel("known accepted", fontsize=9.5, labelpad=1)
    axes.tick_params(labelsize=8.5)
