"""``acil run``: a class-incremental experiment from data to pictures."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path

import click

from acil.cli.launch import lift_thread_limit
from acil.cli.options import experiment_options, options_given, refuse_idle_options
from acil.cli.settings import RunSettings

EXAMPLES = """
\b
Examples:
  acil run --phases 25
  acil run --phases 10 --data folder:photos --base-classes 2 --epochs 30
  acil run --phases 50 --data cifar100 --backbone resnet32 --buffer-size 8192
  acil run --phases 5 --data features:imagenet.npz --base-classes 0
  acil run --resume runs/glyphs-25-phases
  torchrun --nproc-per-node 4 -m acil.cli run --phases 25
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--phases",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Increments after the base phase.",
)
@experiment_options
@click.option(
    "--method",
    type=click.Choice(["lda", "acil", "fourier", "gkeal", "ds-al"]),
    help="Buffer layer and classifier; acil is as published.  [default: lda; acil for the recursion]",
)
@click.option(
    "--head",
    type=click.Choice(["exact", "recursive"]),
    default="exact",
    show_default=True,
    help="Integer moments, or the paper's recursion in float64.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Fixes class order, weights, augmentation and projection.",
)
@click.option("--tensorboard", is_flag=True, help="Log to TensorBoard as well, in the results folder.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Results folder.  [default: runs/DATA-PHASES-phases-TIME]",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Go on with an interrupted run, with its own settings.",
)
@click.pass_context
def run(
    context: click.Context, /, tensorboard: bool, output: Path | None, resume: Path | None, **options: object
) -> None:
    """Learn a data set class by class, in phases, and keep none of it.

    The base phase trains the backbone; every later phase is one pass that solves the classifier in closed form.
    Leaves a results folder with tables, pictures and the model.
    """
    if resume is not None:
        _refuse_other_options(context)
    lift_thread_limit()
    from acil.cli.console import stdout
    from acil.cli.device import usable_device
    from acil.cli.experiment import run_experiment
    from acil.cli.ranks import command, end_at_once, follow, prepare, tell_when_ended
    from acil.cli.results import TENSORBOARD, RunFolder
    from acil.cli.tables import summary_view
    from acil.distributed import Ranks
    from acil.errors import RankLostError

    ranks = Ranks.of_torchrun()
    if ranks is not None and not ranks.is_first:
        follow(ranks)
        return
    if resume is not None:
        folder = RunFolder.open(resume)
        settings = RunSettings.from_config(folder.config)
        usable_device(settings.device)  # refuses a run that began on a GPU where there is none
        experiment = prepare(settings, ranks)
        folder.append("resumed")
    else:
        method = options["method"] or ("acil" if options["head"] == "recursive" else "lda")
        device = usable_device(str(options["device"]))
        settings = RunSettings(**{**options, "method": method, "device": device})  # type: ignore[arg-type]
        settings = settings.with_image_size()
        experiment = prepare(settings, ranks)
        # So that a bad backbone, loss or source of images is refused before there is a folder.
        refuse_idle_options(context, experiment.trains_backbone())
        settings.criterion(), experiment.open_set()
        typed = shlex.join([*command(ranks), *sys.argv[1:]])
        folder = RunFolder.create(output or _default_output(settings), settings.as_config(), typed)
        if tensorboard:
            (folder.path / TENSORBOARD).mkdir()  # which a resumed run finds
    how_to_go_on = "go on with: " + shlex.join([*command(ranks), "run", "--resume", str(folder.path)])
    if ranks is not None:
        tell_when_ended(how_to_go_on)
    try:
        run_experiment(experiment, folder, ranks)
    except KeyboardInterrupt:
        click.echo(f"interrupted; {how_to_go_on}", err=True)
        context.exit(130)
    except RankLostError as error:
        end_at_once(f"{error}; {how_to_go_on}")
    stdout().print(summary_view(folder))


def _refuse_other_options(context: click.Context) -> None:
    if names := options_given(context, besides=("resume",)):
        raise ValueError(f"--resume goes on with the run's own settings; leave out {names}, or start a new run")


def _default_output(settings: RunSettings) -> Path:
    name = settings.data.partition(":")[0]
    return Path("runs") / f"{name}-{settings.phases}-phases-{datetime.now():%Y%m%d-%H%M%S}"
