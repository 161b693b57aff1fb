"""``acil ood``: how well a run's model tells foreign images from known ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from acil.cli.detection import Detection, KnownImages

EXAMPLES = """
\b
Examples:
  acil ood runs/glyphs-25-phases --against symbols --against gaussian
  acil ood runs/photos --against folder:other_photos --json
"""

FOLDER = "ood"


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--against",
    multiple=True,
    required=True,
    metavar="SOURCE",
    help="gaussian, rademacher, blobs, symbols, folder:PATH or a data set; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto for the best there is.")
def ood(run: Path, against: tuple[str, ...], as_json: bool, device: str) -> None:
    """Score the test images of RUN and foreign images, and tell how well the scores tell them apart.

    From each SOURCE come as many images as RUN has test images, or all it has; in a folder of images, folders with
    the name of a learned class are left out. FPR95 is the share of foreign images that pass for known where 95 % of
    the known ones do; AUROC the chance that a foreign image scores above a known one. Leverage comes from the factor
    that the model's weights were solved with, all other scores from its logits; max cosine is the largest logit
    divided by the norm of all. The calibration error is that of the logits' softmax, which only lda is meant to fit:
    the other methods regress on 0 and 1. Leaves a table and pictures in RUN/ood.
    """
    import json
    from dataclasses import asdict

    from acil.cli.console import progress, stdout
    from acil.cli.detection import detect

    with progress() as bar:
        known, detections = detect(run, list(dict.fromkeys(against)), device, bar)
    _write(run / FOLDER, known, detections)
    if as_json:
        found = [one.as_json() for one in detections]
        click.echo(json.dumps({"run": str(run), "known": asdict(known), "detections": found}, indent=2))
    else:
        stdout().print(_view(run / FOLDER, known, detections))


def _view(folder: Path, known: KnownImages, detections: Sequence[Detection]) -> RenderableType:
    from rich.console import Group

    from acil.cli.tables import facts_table, percent, rows_table

    headings = ("foreign images", "score", "FPR95", "AUROC", "AUPR in", "AUPR out")
    facts = {
        "known images": f"{known.images}, of {known.classes} classes",
        "accuracy": percent(known.accuracy),
        "calibration error": percent(known.calibration_error),
        "pictures": str(folder),
    }
    return Group(rows_table(headings, _rows(detections)), facts_table(facts))


def _rows(detections: Sequence[Detection]) -> Iterator[tuple[str, ...]]:
    """A row for each source and score; only the first of a source names it."""
    from acil.cli.tables import percent

    above = ""
    for one in detections:
        figures = one.metrics
        shares = (figures.fpr95, figures.auroc, figures.aupr_in, figures.aupr_out)
        name = "" if one.source == above else f"{one.source} ({len(one.foreign)})"
        yield name, one.score, *map(percent, shares)
        above = one.source


def _write(folder: Path, known: KnownImages, detections: Sequence[Detection]) -> None:
    from acil.cli.detection_pictures import histograms_picture, roc_picture
    from acil.files import write_atomically

    folder.mkdir(exist_ok=True)
    write_atomically(folder / "ood.csv", _as_csv(known, detections).encode())
    write_atomically(folder / "histograms.png", histograms_picture(known, detections))
    write_atomically(folder / "roc.png", roc_picture(known, detections))


def _as_csv(known: KnownImages, detections: Sequence[Detection]) -> str:
    """A row for each source and score; the figures of the known images stand in every one."""
    import csv
    import io
    from dataclasses import asdict

    of_known = {f"known_{name}": value for name, value in asdict(known).items()}
    rows = [{**one.as_json(), **of_known} for one in detections]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
