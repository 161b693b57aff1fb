"""``acil verify``: prove that phase by phase equals all at once, and that a model knows what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from acil.cli.options import only_option

if TYPE_CHECKING:
    from acil.cli.proof import Proof

EXAMPLES = """
\b
Examples:
  acil verify runs/glyphs-25-phases
  acil verify model.safetensors photos more_photos
  acil verify model.safetensors photos --without cat
"""


@click.command(epilog=EXAMPLES)
@click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1)
@only_option
@click.option("--without", multiple=True, metavar="NAME", help="Leave this class of DATA out; may be repeated.")
@click.option("--device", help="Where to compute.  [default: where the run did; for a MODEL the best there is]")
def verify(
    model: Path, data: tuple[str, ...], only: tuple[str, ...], without: tuple[str, ...], device: str | None
) -> None:
    """Learn all at once what RUN or MODEL knows, and compare.

    Starts from the frozen backbone, buffer layer and scale and learns all samples in another order and batch size:
    for a RUN those of its phases, for a MODEL all of DATA, which is what acil learn takes. Exact models must agree
    in every bit of their moments: then MODEL has learned exactly DATA and nothing else, whatever it learned, forgot
    and merged on the way. Recursive ones must agree in their weights up to rounding. The exit status is 1 where they
    differ.
    """
    if not data and (only or without):
        raise ValueError("--only and --without choose classes of DATA; name the data after the model")
    if not data and model.is_file():
        raise ValueError(f"{model} is a model file; name the data that it should know: acil verify {model} DATA")
    if data and model.is_dir():
        raise ValueError(f"{model} is a run, which is verified alone: acil verify {model}; DATA goes with a model file")
    from acil.cli.console import stdout
    from acil.cli.proof import relearn_data, relearn_run

    proof = relearn_data(model, data, only, without, device) if data else relearn_run(model, device)
    found = "the model" if data else "phase by phase"
    stdout().print(_report(proof, found), highlight=False, soft_wrap=True)
    if not proof.holds:
        raise SystemExit(1)


def _report(proof: Proof, found: str) -> str:
    width = max(len(found), len("jointly"))
    lines = [
        f"{found:{width}}  {proof.found}",
        f"{'jointly':{width}}  {proof.joint}",
        f"{proof.samples} samples of {proof.classes} classes, shuffled, in batches of {proof.batch_size}",
        proof.verdict,
        *proof.hints,
    ]
    return "\n".join(lines)
