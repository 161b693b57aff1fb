"""``acil verify``: prove that phase by phase equals all at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from acil.cli.console import silence_third_parties

if TYPE_CHECKING:
    from acil.cli.proof import Proof


@click.command(epilog="\b\nExample:\n  acil verify runs/glyphs-25-phases")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
def verify(run: Path) -> None:
    """Learn all phases of RUN jointly, in another order and batch size, and compare.

    Starts from the run's frozen backbone, buffer layer and scale. Exact runs must agree in every bit of their
    moments, recursive ones in their weights up to rounding. The exit status is 1 where they differ.
    """
    silence_third_parties()
    from acil.cli.console import stdout
    from acil.cli.proof import relearn_jointly

    proof = relearn_jointly(run)
    stdout().print(_report(proof), highlight=False, soft_wrap=True)
    if not proof.holds:
        raise SystemExit(1)


def _report(proof: Proof) -> str:
    lines = [
        f"phase by phase  {proof.incremental}",
        f"jointly         {proof.joint}",
        f"{proof.samples} samples of {proof.classes} classes, shuffled, in batches of {proof.batch_size}",
        proof.verdict,
    ]
    return "\n".join(lines)
