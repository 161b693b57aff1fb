"""The two pictures of out-of-distribution detection, as PNG bytes: histograms of scores, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from acil.cli.pictures import FAINT, LINE, QUIET, as_png, new_figure, short_name, style, write_title

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from acil.cli.detection import Detection, KnownImages

KNOWN, FOREIGN = LINE, "#d9822b"
COLOURS = (LINE, "#d9822b", "#2a9d6f", "#8a4fa3", "#d16ba5", "#c0392b")
CURVE_WIDTHS = (3.2, 2.5, 1.9, 1.9, 1.3, 1.9)  # so that a curve shows beneath another
WIDTH = 9.0  # inches, as all pictures
HEADING = 1.25  # inches above the panels
MARGIN = 0.27
BINS = 40
LONGEST_NAME = 24
SHOWN = 0.99  # of each histogram's images lie within its edges, the others in its outermost bins
MOST_ABREAST = 3
LARGEST_SIDE = 3.6  # inches


def histograms_picture(known: KnownImages, detections: Sequence[Detection]) -> bytes:
    """Scores of known and of foreign images: a row for each source, a column for each score.

    Args:
        known: whose images are known.
        detections: every score against every source.

    Returns:
        a PNG.
    """
    rows = _by_source(detections)
    height, pitch, gap = 1.0, 1.8, 0.2
    columns = max(map(len, rows))
    width = (WIDTH - 2 * MARGIN - gap * (columns - 1)) / columns
    with style():
        figure = new_figure(WIDTH, HEADING + pitch * len(rows) + 0.1)
        write_title(
            figure,
            _title(known),
            "further right is more foreign, MSP and leverage on a logarithmic scale; above each panel, its AUROC",
        )
        _write_legend(figure, {"known": KNOWN, "foreign": FOREIGN})
        for row, of_source in enumerate(rows):
            top = HEADING + row * pitch
            _write_name(figure, top, _name(of_source))
            for column, one in enumerate(of_source):
                axes = _panel(figure, MARGIN + column * (width + gap), top + 0.47, width, height)
                draw_histograms(axes, one)
                title = f"{one.score}  {100 * one.metrics.auroc:.1f} %"
                axes.set_title(title, fontsize=9, loc="left", color=QUIET, pad=3)
        return as_png(figure)


def roc_picture(known: KnownImages, detections: Sequence[Detection]) -> bytes:
    """Known images accepted against foreign ones accepted: a panel for each source, a curve for each score.

    Args:
        known: whose images are known.
        detections: every score against every source.

    Returns:
        a PNG.
    """
    panels = _by_source(detections)
    left, gap = 0.75, 0.55
    columns = min(len(panels), MOST_ABREAST)
    side = min(LARGEST_SIDE, (WIDTH - left - MARGIN - gap * (columns - 1)) / columns)
    pitch = side + 0.95
    with style():
        figure = new_figure(WIDTH, HEADING + pitch * -(-len(panels) // columns))
        write_title(figure, _title(known), "known images accepted against foreign ones accepted, in %")
        _write_legend(figure, dict(zip([one.score for one in panels[0]], COLOURS, strict=False)))
        for place, of_source in enumerate(panels):
            row, column = divmod(place, columns)
            axes = _panel(figure, left + column * (side + gap), HEADING + row * pitch + 0.3, side, side)
            axes.set_title(_name(of_source), fontsize=10, loc="left", parse_math=False)
            _draw_curves(axes, of_source)
        return as_png(figure)


def _by_source(detections: Sequence[Detection]) -> list[list[Detection]]:
    sources = dict.fromkeys(one.source for one in detections)
    return [[one for one in detections if one.source == source] for source in sources]


def _title(known: KnownImages) -> str:
    return f"{short_name(known.data)}: {known.images:,} known images against foreign ones"


def _name(of_source: Sequence[Detection]) -> str:
    source, images = of_source[0].source, len(of_source[0].foreign)
    name = source if len(source) <= LONGEST_NAME else "..." + source[-LONGEST_NAME:]
    return f"{name}, {images:,}"


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3, labelsize=8.5)
    return axes


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


def draw_histograms(axes: Axes, one: Detection) -> None:
    """Draw the shares of known and of foreign images by their score."""
    import numpy as np

    both = one.known.double().numpy(), one.foreign.double().numpy()
    # MSP of an lda head can be near 0 throughout, and leverage of noise a thousand times that of known images.
    logarithmic = one.score in ("MSP", "leverage")
    edges = _edges(both, logarithmic)
    for values, colour in zip(both, (KNOWN, FOREIGN), strict=True):
        shares = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(shares, edges, color=colour, linewidth=1.2)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xscale="log" if logarithmic else "linear", yticks=[])
    axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)  # a score has no unit
    axes.spines["left"].set_visible(False)


def _edges(parts: Sequence[NDArray[np.float64]], logarithmic: bool) -> NDArray[np.float64]:
    """Of bins for nearly all values of each part; on a logarithmic axis for nearly all that are above 0."""
    import numpy as np

    tail = (1 - SHOWN) / 2
    parts = [values[values > 0] for values in parts] if logarithmic else parts
    parts = [values for values in parts if len(values)] or [np.ones(1)]
    low = min(float(np.quantile(values, tail)) for values in parts)
    high = max(float(np.quantile(values, 1 - tail)) for values in parts)
    if logarithmic:
        return np.geomspace(low, high, BINS + 1) if low < high else np.array([low / 2, 2 * low])
    room = 0.0 if low < high else abs(low) or 1.0
    return np.linspace(low - room, high + room, BINS + 1)


def _draw_curves(axes: Axes, of_source: Sequence[Detection]) -> None:
    from acil.ood import roc_curve

    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 95])
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1)
    axes.axhline(95, color=QUIET, linewidth=0.8, dashes=(5, 3), zorder=1.5)
    for one, colour, width in zip(of_source, COLOURS, CURVE_WIDTHS, strict=False):
        passed, accepted = roc_curve(one.known, one.foreign)
        axes.plot(100 * passed, 100 * accepted, color=colour, linewidth=width, clip_on=False)
    axes.set_xlabel("foreign accepted", fontsize=9.5, labelpad=1)
    axes.set_ylabel("known accepted", fontsize=9.5, labelpad=1)
