"""``python -m acil.cli`` is the ``acil`` command."""

from acil.cli import main

main(prog_name="acil")
