"""``acil ood``: how well a run tells foreign images from known ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from acil.cli.detection import Detection

FOLDER = "ood"
TABLE = "ood.csv"
HISTOGRAMS = "histograms.png"
ROC = "roc.png"

EXAMPLES = """
\b
Examples:
  acil ood runs/glyphs-25-phases --against symbols
  acil ood runs/cifar10-5-phases --against gaussian --against blobs --against folder:textures
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--against",
    "sources",
    multiple=True,
    required=True,
    metavar="SOURCE",
    help="gaussian, rademacher, blobs, symbols, folder:PATH or a data set; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto for the best there is.")
def ood(run: Path, sources: tuple[str, ...], as_json: bool, device: str) -> None:
    """Tell foreign images from those of the classes that RUN has learned.

    Known images are the run's test images; foreign ones come from each SOURCE, fitted to their shape. In a folder
    of images, folders with the name of a learned class are left out. FPR95 is the share of the foreign images that
    pass for known where 95 % of the known ones do; AUROC the chance that a foreign image scores above a known one.
    Calibration (ECE) is that of the softmax of the logits, which a regression on 0 and 1 was not trained for.

    Leaves RUN/ood/ with histograms, ROC curves and a table of everything that is printed.
    """
    import json

    from acil.cli.console import progress, stdout
    from acil.cli.detection import detect

    with progress() as bar:
        detection = detect(run, sources, device, bar)
    _write(run / FOLDER, detection)
    if as_json:
        click.echo(json.dumps({"run": str(run), **detection.as_json()}, indent=2))
    else:
        stdout().print(_view(detection, run / FOLDER))


def _write(folder: Path, detection: Detection) -> None:
    from acil.cli.ood_pictures import histograms_picture, roc_picture
    from acil.files import write_atomically

    folder.mkdir(exist_ok=True)
    write_atomically(folder / TABLE, _as_csv(detection).encode())
    write_atomically(folder / HISTOGRAMS, histograms_picture(detection))
    write_atomically(folder / ROC, roc_picture(detection))


def _as_csv(detection: Detection) -> str:
    """One row per source and score; what is known stands in each."""
    import csv
    import io

    document = detection.as_json()
    known = {f"known_{name}": value for name, value in document["known"].items()}
    rows = [{**row, **known} for row in document["foreign"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _view(detection: Detection, folder: Path) -> RenderableType:
    from rich.console import Group

    from acil.cli.tables import facts_table, percent, rows_table

    names = ("source", "images", "score", "FPR95", "AUROC", "AUPR in", "AUPR out")
    rows, above = [], ""
    for source, score, metrics in detection.metrics():
        shares = (metrics.fpr95, metrics.auroc, metrics.aupr_in, metrics.aupr_out)
        first = (source, f"{detection.foreign_images(source):,}") if source != above else ("", "")
        rows.append((*first, score, *map(percent, shares)))
        above = source
    facts = {
        "known": f"{detection.known_images:,} test images of {detection.classes} classes",
        "accuracy": percent(detection.accuracy),
        "ECE": percent(detection.calibration_error),
        "results in": str(folder),
    }
    return Group(rows_table(names, rows), facts_table(facts))
