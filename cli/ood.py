"""``acil ood``: how well a run's model tells foreign images from known ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acil.cli.detection import Detection

EXAMPLES = """
\b
Examples:
  acil ood runs/glyphs-25-phases --against symbols --against gaussian
  acil ood runs/photos --against folder:other_photos --json
"""

FOLDER = "ood"
COLUMNS = ("source", "score", "fpr95", "auroc", "aupr_in", "aupr_out")


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

    FPR95 is the share of foreign images that pass for known where 95 % of the known ones do; AUROC the chance that a
    foreign image scores above a known one. MSP, max logit, energy and ODIN come from the model's logits, leverage from
    the factor that its weights were solved with. Leaves a table and pictures in RUN/ood.
    """
    import json

    from acil.cli.console import progress, stdout
    from acil.cli.detection import detect
    from acil.cli.tables import facts_table, percent, rows_table

    with progress() as bar:
        folder, known, detections = detect(run, list(dict.fromkeys(against)), device, bar)
        _write(folder.path / FOLDER, detections)
    facts = {"accuracy": known.accuracy, "calibration_error": known.calibration_error, "images": len(known.images)}
    if as_json:
        document = {"run": str(run), "known": facts, "detections": [one.as_json() for one in detections]}
        click.echo(json.dumps(document, indent=2))
        return
    headings = ("foreign images", "score", "FPR95", "AUROC", "AUPR in", "AUPR out")
    stdout().print(rows_table(headings, [_row(one) for one in detections]))
    shown = {
        "known images": str(len(known.images)),
        "accuracy": percent(known.accuracy),
        "calibration error": percent(known.calibration_error),
        "pictures": str(folder.path / FOLDER),
    }
    stdout().print(facts_table(shown))


def _row(one: Detection) -> tuple[str, ...]:
    from acil.cli.tables import percent

    figures = one.metrics
    shares = (figures.fpr95, figures.auroc, figures.aupr_in, figures.aupr_out)
    return one.source, one.score, *map(percent, shares)


def _write(folder: Path, detections: Sequence[Detection]) -> None:
    import csv
    import io

    from acil.cli.detection_pictures import histograms_picture, roc_picture
    from acil.files import write_atomically

    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.as_json() for one in detections)
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "ood.csv", table.getvalue().encode())
    write_atomically(folder / "histograms.png", histograms_picture(detections))
    write_atomically(folder / "roc.png", roc_picture(detections))
