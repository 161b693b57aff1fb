"""The command line: ``acil run`` and ``acil verify``, and commands on the model files that a run leaves.

Everything heavy (torch, Avalanche, matplotlib, rich) loads inside the command that needs it.
"""

from __future__ import annotations

import click

from acil import __version__
from acil.cli.compare import compare
from acil.cli.console import OneLineErrors
from acil.cli.forget import forget
from acil.cli.fresh import fresh
from acil.cli.info import info
from acil.cli.learn import learn
from acil.cli.merge import merge
from acil.cli.ood import ood
from acil.cli.predict import predict
from acil.cli.run import run
from acil.cli.verify import verify


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="acil")
def main() -> None:
    """Class-incremental learning that keeps no data and forgets nothing.

    \b
    acil run --phases 25          learn the built-in glyphs in 25 phases
    acil compare --phases 5,50    the same beside other methods
    acil verify runs/NAME         prove that phase by phase equals all at once
    acil predict runs/NAME/model.safetensors photos
    acil learn MODEL DATA         teach it new classes; acil forget takes them out again
    acil merge A B -o C           add up what several models have learned
    acil ood runs/NAME --against symbols
    """


for command in (run, compare, verify, info, learn, forget, predict, merge, fresh, ood):
    main.add_command(command)
