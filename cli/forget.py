"""``acil forget``: take learned images out of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from acil.cli.options import data_argument, device_option, model_argument, only_option, output_option

if TYPE_CHECKING:
    from acil.cli.model_file import ModelFile
    from acil.cli.named_data import NamedData

EXAMPLES = """
\b
Examples:
  acil forget model.safetensors photos_to_forget
  acil forget model.safetensors photos --only cat -o without_cats.safetensors
  acil forget runs/NAME/model.safetensors runs/NAME --only A
  acil verify without_cats.safetensors photos --without cat
"""


@click.command(epilog=EXAMPLES)
@model_argument
@data_argument
@only_option
@output_option
@device_option
def forget(model: Path, data: str, only: tuple[str, ...], output: Path | None, device: str) -> None:
    """Forget the images of DATA, as if they had never been learned.

    They must be the very images that were learned, under the same class names; DATA is what acil learn takes. A
    class of which nothing is left disappears from the outputs; its name stays in the file, for when it comes back.
    What was never learned is refused, as far as counts and moments can tell. The backbone is not retrained.
    """
    from acil.class_names import match_names
    from acil.cli.console import progress, stdout
    from acil.cli.model_file import ModelFile, short_digest
    from acil.cli.named_data import load_named_data
    from acil.cli.tables import change_view

    with progress() as bar:
        opened = ModelFile.open(model, device)
        learner, known = opened.learner, short_digest(opened.learner)
        named = load_named_data(data, opened, only)
        label_of, _ = match_names(tuple(named.counts), learner.class_names, learner.classes.tolist())
        _check_learned(opened, named)
        task = bar.add_task("forgetting", total=len(named.samples))
        features = named.extract(learner, lambda images: bar.update(task, advance=images))
        learner.forget_features(features, named.labels(label_of))
        target = opened.save(output)
    after = opened.counts()
    rows = [
        (name, str(count), str(after.get(name, 0)), "" if name in after else "gone")
        for name, count in named.counts.items()
    ]
    digests = known, short_digest(learner)
    stdout().print(change_view(("class", "forgotten", "left", ""), rows, *digests, target))


def _check_learned(model: ModelFile, data: NamedData) -> None:
    """Refuse more samples of a class than were learned, by the name of the class."""
    from acil import NotLearnedError

    learned = model.counts()
    for name, count in data.counts.items():
        if count > learned.get(name, 0):
            raise NotLearnedError(
                f"{model.path} has learned {learned.get(name, 0)} samples of {name}, but {data.name} holds {count}; "
                "give only what was learned (for a run: the run's own folder), or choose classes with --only"
            )
