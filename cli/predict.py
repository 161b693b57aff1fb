"""``acil predict``: the classes of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acil.cli.options import model_argument

if TYPE_CHECKING:
    from rich.progress import Progress

    from acil.cli.model_file import ModelFile

EXAMPLES = """
\b
Examples:
  acil predict model.safetensors cat.jpg dog.jpg
  acil predict model.safetensors photos 'more/**/*.png' --json
"""


@dataclass(frozen=True)
class Prediction:
    """The classes of one image with the highest scores, best first, at most two."""

    file: Path
    best: Sequence[tuple[str, float]]

    def as_json(self) -> dict[str, Any]:
        """The prediction as one object of the JSON document."""
        (name, score), *others = self.best
        runner_up = [{"class": other, "score": less} for other, less in others]
        return {"file": str(self.file), "class": name, "score": score, "runner_up": runner_up[0] if runner_up else None}

    def as_row(self) -> tuple[str, ...]:
        """The prediction as a row of the table."""
        (name, score), *others = self.best
        return str(self.file), name, f"{score:.3f}", *([f"{other} {less:.3f}" for other, less in others] or ["-"])


@click.command(epilog=EXAMPLES)
@model_argument
@click.argument("images", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto for the best there is.")
def predict(model: Path, images: tuple[str, ...], as_json: bool, device: str) -> None:
    """Tell the class of each image.

    IMAGES are files, folders with all that is in them, or quoted patterns. They are turned upright, scaled and
    cropped as in training. The scores of one image compare its classes and are no probabilities: outputs of a
    regression on 0 and 1, or logits where the model's method is lda. A file that is no image is named, and nothing
    is predicted.
    """
    import json

    from acil.cli.console import progress, stdout
    from acil.cli.model_file import ModelFile
    from acil.cli.tables import rows_table

    with progress() as bar:
        opened = ModelFile.open(model, device)
        predictions = _predict(opened, list(dict.fromkeys(_files(images))), bar)
    if as_json:
        document = {"model": str(model), "predictions": [prediction.as_json() for prediction in predictions]}
        click.echo(json.dumps(document, indent=2))
    else:
        rows = [prediction.as_row() for prediction in predictions]
        stdout().print(rows_table(("file", "class", "score", "runner-up"), rows))


def _files(images: Sequence[str]) -> Iterator[Path]:
    """The image files that the user means."""
    from glob import glob

    from acil.scenarios.image_files import find_images

    for given in images:
        matches = glob(given, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern
        paths = [Path(given)] if Path(given).exists() else sorted(map(Path, matches))
        found = [file for path in paths for file in (find_images(path) if path.is_dir() else [path])]
        if not found:
            raise ValueError(f"{given} is no file, folder with images, or pattern that matches any")
        yield from found


def _predict(model: ModelFile, files: Sequence[Path], bar: Progress) -> list[Prediction]:
    import torch

    from acil.class_names import name_of
    from acil.extract import extract_dataset
    from acil.scenarios.image_files import ImageFiles

    learner = model.learner
    if not len(learner.classes):
        raise ValueError(f"{model.path} has learned nothing yet; teach it with acil learn {model.path} DATA")
    task = bar.add_task("images", total=len(files))
    samples = ImageFiles(files, torch.zeros(len(files), dtype=torch.int64), model.image_shape)
    features, _ = extract_dataset(
        learner.backbone,
        samples,
        learner.batch_size,
        learner.device,
        lambda images: bar.update(task, advance=images),
    )
    names = [name_of(label, learner.class_names) for label in learner.classes.tolist()]
    with torch.no_grad():
        batches = torch.split(features.to(learner.device), learner.batch_size)
        logits = torch.cat([learner.classify(batch).cpu() for batch in batches])
    scores, places = logits.topk(min(2, len(names)))
    return [
        Prediction(file, [(names[place], score) for place, score in zip(*best, strict=True)])
        for file, best in zip(files, zip(places.tolist(), scores.tolist(), strict=True), strict=True)
    ]
