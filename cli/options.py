"""The arguments and options that commands on model files share."""

from __future__ import annotations

from pathlib import Path

import click


def _in_existing_folder(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that could not be written before any work begins."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to; make it or choose another")
    return path


model_argument = click.argument("model", type=click.Path(path_type=Path))

data_argument = click.argument("data")

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_in_existing_folder,
    metavar="FILE",
    help="Write the new model there.  [default: replace MODEL]",
)

new_file_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_in_existing_folder,
    metavar="FILE",
    required=True,
    help="Write the new model there.",
)

only_option = click.option(
    "--only", multiple=True, metavar="NAME", help="Only this class of DATA; may be given more than once."
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, or auto for the best there is; forget and verify where you learned.",
)
