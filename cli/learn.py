"""``acil learn``: teach a model new images."""

from __future__ import annotations

from pathlib import Path

import click

from acil.cli.options import data_argument, device_option, model_argument, only_option, output_option

EXAMPLES = """
\b
Examples:
  acil learn model.safetensors photos
  acil learn model.safetensors photos --only cat --only dog -o with_pets.safetensors
  acil learn model.safetensors cifar100
"""


@click.command(epilog=EXAMPLES)
@model_argument
@data_argument
@only_option
@output_option
@device_option
def learn(model: Path, data: str, only: tuple[str, ...], output: Path | None, device: str) -> None:
    """Learn the images of DATA, of classes known or new.

    DATA is a folder with a folder of images for each class (photos/cat/*.jpg; where there is photos/train, only
    that), the training part of a data set as acil run --data takes it, or the results folder of a run for what it
    trained on. Classes are matched by name; a name that the model does not know becomes a new class.
    """
    from acil.class_names import match_names
    from acil.cli.console import progress, stdout
    from acil.cli.model_file import ModelFile, short_digest
    from acil.cli.named_data import load_named_data
    from acil.cli.tables import change_view

    with progress() as bar:
        opened = ModelFile.open(model, device)
        learner, before, known = opened.learner, opened.counts(), short_digest(opened.learner)
        named = load_named_data(data, opened, only)
        label_of, class_names = match_names(tuple(named.counts), learner.class_names, learner.classes.tolist())
        task = bar.add_task("learning", total=len(named.samples))
        features = named.extract(learner, lambda images: bar.update(task, advance=images))
        learner.class_names = class_names
        learner.learn_features(features, named.labels(label_of))
        target = opened.save(output)
    rows = [
        (name, str(count), str(before.get(name, 0) + count), "" if name in before else "new")
        for name, count in named.counts.items()
    ]
    digests = known, short_digest(learner)
    stdout().print(change_view(("class", "learned", "in all", ""), rows, *digests, target))
