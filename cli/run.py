"""``acil run``: a class-incremental experiment from data to pictures."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path

import click
from click.core import ParameterSource

from acil.cli.launch import lift_thread_limit
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
@click.option(
    "--data",
    default="glyphs",
    show_default=True,
    help="glyphs, cifar10, cifar100, ..., folder:PATH or features:PATH.npz.",
)
@click.option(
    "--base-classes",
    type=click.IntRange(min=0),
    help="Classes of the base phase; 0 for no base phase.  [default: half of them]",
)
@click.option("--uneven", is_flag=True, help="Spread classes that do not divide into the phases unevenly.")
@click.option("--classes", type=click.IntRange(min=2), help="Number of glyph classes.  [default: 100]")
@click.option("--train-per-class", type=click.IntRange(min=1), help="Training glyphs per class.  [default: 300]")
@click.option("--test-per-class", type=click.IntRange(min=1), help="Test glyphs per class.  [default: 60]")
@click.option(
    "--image-size",
    type=click.IntRange(min=8),
    help="Side to which images of a folder are resized.  [default: their own, or 64]",
)
@click.option(
    "--backbone",
    default="convnet",
    show_default=True,
    help="convnet, resnet20, resnet32 or torchvision:NAME.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False),
    help="Pretrained weights of the backbone; no base training then.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True, help="Epochs of base training.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="Peak learning rate of base training.",
)
@click.option(
    "--schedule",
    type=click.Choice(["one-cycle", "cosine"]),
    default="one-cycle",
    show_default=True,
    help="Course of the learning rate.",
)
@click.option(
    "--label-smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Label smoothing of base training.",
)
@click.option("--loss", default="ce", show_default=True, help="Loss of base training: ce, gce, sce, nce+agce, ...")
@click.option(
    "--logit-clip",
    type=click.FloatRange(min=0, min_open=True),
    metavar="TAU",
    help="Clip the norm of logits in base training, for noisy labels.",
)
@click.option(
    "--logit-norm",
    type=click.FloatRange(min=0, min_open=True),
    metavar="TAU",
    help="Normalise logits in base training, to detect foreign images.",
)
@click.option(
    "--open-set",
    metavar="METHOD:ETA",
    help="Foreign images in base training: odnl for noisy labels, open-sampling for long tails.",
)
@click.option(
    "--foreign",
    default="gaussian",
    show_default=True,
    help="Where they come from: gaussian, rademacher, blobs, symbols, folder:PATH or a data set.",
)
@click.option(
    "--label-noise",
    metavar="KIND:RATE",
    help="Make training labels wrong: symmetric, asymmetric, pair, instance or open-set.",
)
@click.option("--imbalance", metavar="KIND:RATIO", help="Thin out training classes: exp or step, such as exp:0.01.")
@click.option(
    "--corrupt",
    type=click.Choice(["all", "base", "increments"]),
    default="all",
    show_default=True,
    help="Phases that noise and imbalance change.",
)
@click.option(
    "--method",
    type=click.Choice(["acil", "fourier", "gkeal", "ds-al"]),
    default="acil",
    show_default=True,
    help="Buffer layer and head.",
)
@click.option(
    "--buffer-size",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Width of the buffer layer.",
)
@click.option(
    "--gamma",
    type=click.FloatRange(min=0, min_open=True),
    help="Ridge.  [default: chosen by cross-validation; 0.1 for the recursion]",
)
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    callback=lambda context, parameter, value: int(value),
    help="Bits of a quantised feature.",
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
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto for the best there is.")
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
def run(context: click.Context, /, output: Path | None, resume: Path | None, **options: object) -> None:
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
    from acil.cli.results import RunFolder
    from acil.cli.tables import summary_view
    from acil.distributed import Ranks
    from acil.errors import RankLostError

    ranks = Ranks.of_torchrun()
    if ranks is not None and not ranks.is_first:
        follow(ranks)
        return
    if resume is not None:
        folder = RunFolder.open(resume)
        experiment = prepare(RunSettings.from_config(folder.config), ranks)
        folder.append("resumed")
    else:
        settings = RunSettings(**{**options, "device": usable_device(str(options["device"]))})  # type: ignore[arg-type]
        experiment = prepare(settings, ranks)
        # So that a bad backbone, loss or source of images is refused before there is a folder.
        experiment.new_learner(), settings.criterion(), experiment.open_set()
        typed = shlex.join([*command(ranks), *sys.argv[1:]])
        folder = RunFolder.create(output or _default_output(settings), settings.as_config(), typed)
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
    given = [
        name
        for name in context.params
        if name != "resume" and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"--resume goes on with the run's own settings; leave out {names}, or start a new run")


def _default_output(settings: RunSettings) -> Path:
    name = settings.data.partition(":")[0]
    return Path("runs") / f"{name}-{settings.phases}-phases-{datetime.now():%Y%m%d-%H%M%S}"
