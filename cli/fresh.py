"""``acil fresh``: a model with the same frozen path that has learned nothing."""

from __future__ import annotations

from pathlib import Path

import click

from acil.cli.options import model_argument, new_file_option

EXAMPLES = """
\b
Example: two clients that learn apart and are merged
  acil fresh model.safetensors -o start.safetensors
  acil learn start.safetensors photos_of_ann -o ann.safetensors
  acil learn start.safetensors photos_of_bob -o bob.safetensors
  acil merge model.safetensors ann.safetensors bob.safetensors -o all.safetensors
"""


@click.command(epilog=EXAMPLES)
@model_argument
@new_file_option
def fresh(model: Path, output: Path) -> None:
    """Write a copy of MODEL that has learned nothing.

    It has the same backbone, buffer layer, scale and class names. What clients learn from such a start can be merged,
    with one another and with MODEL, and nothing counts twice.
    """
    from acil.cli.console import stdout
    from acil.cli.model_file import ModelFile

    learner = ModelFile.open(model, "cpu").learner
    if not learner.is_calibrated:
        raise ValueError(f"{model} has no scale yet, so clients could not be merged; let it learn something first")
    learner.fresh().save(output)
    stdout().print(f"{output} has learned nothing yet; its frozen path is that of {model}", soft_wrap=True)
