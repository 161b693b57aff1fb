"""``acil merge``: add up what several models have learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from acil.cli.options import new_file_option

if TYPE_CHECKING:
    from acil.cli.model_file import ModelFile

EXAMPLES = """
\b
Example:
  acil merge ann.safetensors bob.safetensors -o both.safetensors
"""


@click.command(epilog=EXAMPLES)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("others", metavar="B [MORE]...", nargs=-1, required=True, type=click.Path(path_type=Path))
@new_file_option
def merge(first: Path, others: tuple[Path, ...], output: Path) -> None:
    """Merge models A, B and more into one.

    The result equals learning all that they have learned in one model, bit for bit. The models need the same
    backbone, buffer layer and scale: start each from what acil fresh writes, as what two of them have both learned
    counts twice. Classes are matched by name; those that A does not know get labels in the order of the files.
    """
    from acil.cli.console import progress, stdout
    from acil.cli.model_file import ModelFile, short_digest
    from acil.cli.tables import rows_table

    with progress() as bar:
        task = bar.add_task("merging", total=len(others))
        merged = ModelFile.open(first, "cpu")
        rows = [_row(first, merged)]
        origin_of = {short_digest(merged.learner): first} if merged.counts() else {}
        for path in others:
            other = ModelFile.open(path, "cpu")
            _add(merged, other)
            if other.counts() and (same := origin_of.setdefault(short_digest(other.learner), path)) is not path:
                raise ValueError(f"{same} and {path} hold the same samples, which would count twice; name one of them")
            rows.append(_row(path, other))
            bar.update(task, advance=1)
        merged.save(output)
    rows.append(_row(output, merged))
    stdout().print(rows_table(("model", "samples", "classes", "digest"), rows))


def _add(merged: ModelFile, other: ModelFile) -> None:
    try:
        merged.learner.merge(other.learner)
    except ValueError as error:
        raise ValueError(f"{other.path} does not merge into {merged.path}: {error}") from error


def _row(path: Path, model: ModelFile) -> tuple[str, ...]:
    from acil.cli.model_file import short_digest

    counts = model.counts()
    return str(path), str(sum(counts.values())), str(len(counts)), short_digest(model.learner)
