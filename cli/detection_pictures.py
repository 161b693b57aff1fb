"""The two pictures of out-of-distribution detection, as PNG bytes: histograms of scores, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from acil.cli.pictures import INK, LINE, PIXELS_PER_INCH, QUIET, as_png, short_name, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from acil.cli.detection import Detection

FOREIGN_COLOUR = "#c2571a"
SCORE_COLOURS = (LINE, "#c2571a", "#3d8c40", "#7a4fa3", "#a8323e")
BINS = 40
PANEL_INCHES = (2.5, 1.9)
# Beyond these quantiles of all scores a histogram would be mostly empty.
SHOWN = (0.005, 0.995)


def histograms_picture(detections: Sequence[Detection]) -> bytes:
    """Scores of known and of foreign images: a row for each source, a column for each score.

    Args:
        detections: every score against every source.

    Returns:
        a PNG.
    """
    sources = list(dict.fromkeys(one.source for one in detections))
    names = list(dict.fromkeys(one.score for one in detections))
    with style():
        figure = _figure(PANEL_INCHES[0] * len(names) + 0.4, PANEL_INCHES[1] * len(sources) + 0.9)
        panels = figure.subplots(len(sources), len(names), squeeze=False)
        for one in detections:
            panel = panels[sources.index(one.source), names.index(one.score)]
            _draw_histogram(panel, one)
        for column, name in enumerate(names):
            panels[0, column].set_title(name, fontsize=12, fontweight="bold")
        for row, source in enumerate(sources):
            panels[row, 0].set_ylabel(short_name(source))
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
        return as_png(figure)


def roc_picture(detections: Sequence[Detection]) -> bytes:
    """Share of foreign images that are detected, against that of known ones that are mistaken for foreign.

    Args:
        detections: every score against every source.

    Returns:
        a PNG.
    """
    from sklearn.metrics import roc_curve

    sources = list(dict.fromkeys(one.source for one in detections))
    with style():
        figure = _figure(3.6 * len(sources) + 0.4, 4.0)
        panels = figure.subplots(1, len(sources), squeeze=False, sharey=True)[0]
        for panel, source in zip(panels, sources, strict=True):
            of_source = [one for one in detections if one.source == source]
            for one, colour in zip(of_source, SCORE_COLOURS, strict=False):
                labels = [0] * len(one.known) + [1] * len(one.foreign)
                refused, detected, _ = roc_curve(labels, [*one.known.tolist(), *one.foreign.tolist()])
                panel.plot(refused, detected, color=colour, linewidth=1.8)
            panel.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
            panel.set(title=short_name(source), xlabel="known images refused")
            panel.title.set_fontweight("bold")
            names = [f"{one.score}  {one.metrics.auroc:.3f}" for one in of_source]
            panel.legend(names, title="AUROC", fontsize=9, loc="best", edgecolor="none", framealpha=0.85)
        panels[0].set_ylabel("foreign images detected")
        return as_png(figure)


def _draw_histogram(panel: Axes, one: Detection) -> None:
    import numpy as np

    known, foreign = one.known.numpy(), one.foreign.numpy()
    low, high = np.quantile(np.concatenate([known, foreign]), SHOWN)
    bins = np.linspace(low, high if high > low else low + 1, BINS).tolist()
    for values, colour, label in ((known, LINE, "known images"), (foreign, FOREIGN_COLOUR, "foreign images")):
        inside = values.clip(bins[0], bins[-1])
        panel.hist(inside, bins, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.55, label=label)
    panel.text(
        0.97, 0.93, f"FPR95 {100 * one.metrics.fpr95:.0f} %", transform=panel.transAxes, ha="right", va="top",
        fontsize=9, color=INK,
    )  # fmt: skip
    panel.set_ylim(top=1.25 * panel.get_ylim()[1])  # room for the text
    panel.set(xticks=[], yticks=[])
    panel.spines[["top", "right", "left"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure
