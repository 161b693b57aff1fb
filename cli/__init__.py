"""The command line: ``acil run``, ``acil verify``, ``acil info``.

Everything heavy (torch, Avalanche, matplotlib, rich) loads inside the command that needs it.
"""

from __future__ import annotations

import click

from acil import __version__
from acil.cli.console import OneLineErrors
from acil.cli.info import info
from acil.cli.run import run
from acil.cli.verify import verify


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="acil")
def main() -> None:
    """Class-incremental learning that keeps no data and forgets nothing.

    \b
    acil run --phases 25          learn the built-in glyphs in 25 phases
    acil verify runs/NAME         prove that phase by phase equals all at once
    acil info runs/NAME/model.safetensors
    """


main.add_command(run)
main.add_command(verify)
main.add_command(info)
