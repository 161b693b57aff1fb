"""``acil compare``: methods side by side, on the same backbone, class order and test images."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acil.cli.options import experiment_options, options_given, refuse_idle_options

if TYPE_CHECKING:
    from acil.cli.comparison import Comparison

METHODS = "acil,slda,ncm,naive,lwf,ewc,replay,joint"
EXAMPLES = """
\b
Examples:
  acil compare --methods acil,slda,ncm,naive-head,joint --phases 5,25
  acil compare --data cifar100 --methods acil,fourier,gkeal,ds-al --seeds 3 --epochs 30
  acil compare --resume runs/compare-glyphs

\b
Methods: acil, fourier, lda, gkeal, ds-al; joint (ACIL's head on all samples at once);
slda, ncm (on features); naive, lwf, ewc, replay (the whole network by gradients);
naive-head, lwf-head, ewc-head, replay-head (its classifier alone, on features).
"""


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    words = [word.strip() for word in value.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--{parameter.name} expects whole numbers above 0, such as 5,10,25,50; got {value!r}")
    return tuple(dict.fromkeys(map(int, words)))


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in value.split(",")))


@click.command(epilog=EXAMPLES)
@click.option("--methods", default=METHODS, show_default=True, callback=_names, help="What is compared; see below.")
@click.option(
    "--phases",
    default="5,10,25,50",
    show_default=True,
    callback=_numbers,
    help="Increments after the base phase; each number is a comparison of its own.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Class orders.")
@click.option(
    "--phase-epochs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Epochs of gradient methods in each phase.",
)
@click.option(
    "--phase-learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=0.003,
    show_default=True,
    help="Learning rate of gradient methods on a network; ten times that on a classifier alone.",
)
@click.option(
    "--replay-per-class",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Samples of each class that replay keeps.",
)
@experiment_options
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at a time.  [default: one for each core]")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Results folder.  [default: runs/compare-DATA-TIME]",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="COMPARISON",
    help="Go on with an interrupted comparison, with its own settings; on another machine give its --device.",
)
@click.pass_context
def compare(
    context: click.Context, /, jobs: int | None, output: Path | None, resume: Path | None, **options: Any
) -> None:
    """Compare ACIL with other methods of class-incremental learning.

    All methods of a class order begin with the same backbone, trained once on its base phase, and are tested on the
    same images. Those that need a head alone learn from features that are extracted once; their extraction counts as
    learning time. Leaves a table, a picture with a curve for each method, and every phase of every method.
    """
    if resume is not None:
        _refuse_other_options(context)
    from acil.cli.comparison import ComparisonFolder
    from acil.cli.comparison_views import view, write_views
    from acil.cli.console import progress, stdout
    from acil.cli.contests import fight_missing
    from acil.cli.device import usable_device

    if resume is not None:
        folder = ComparisonFolder.open(resume)
        given = options_given(context, besides=("resume", "jobs"))
        folder.use_device(usable_device(str(options["device"] if given else folder.comparison.experiment["device"])))
    else:
        comparison = _comparison(context, options)
        name = str(options["data"]).partition(":")[0]
        default = Path("runs") / f"compare-{name}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = ComparisonFolder.create(output or default, comparison, shlex.join(["acil", *sys.argv[1:]]))
    try:
        with progress() as bar:
            fight_missing(folder, jobs, bar)
    except KeyboardInterrupt:
        click.echo(f"interrupted; go on with: acil compare --resume {shlex.quote(str(folder.path))}", err=True)
        context.exit(130)
    write_views(folder)
    stdout().print(view(folder))


def _comparison(context: click.Context, options: dict[str, Any]) -> Comparison:
    """What the options ask for.

    Raises:
        ValueError: there is no such method, or what they ask for cannot be compared.
    """
    from acil.checks import check_name
    from acil.cli.comparison import Comparison
    from acil.cli.device import usable_device
    from acil.cli.experiment import Experiment
    from acil.scenarios import phase_classes
    from acil.strategies.contenders import CONTENDERS

    own = {name: options.pop(name) for name in ("methods", "phases", "seeds")}
    budget = {name: options.pop(name) for name in ("phase_epochs", "phase_learning_rate", "replay_per_class")}
    for method in own["methods"]:
        check_name(method, CONTENDERS, "method")
    comparison = Comparison(**own, **budget, experiment={**options, "device": usable_device(options["device"])})
    # So that nothing is refused after hours.
    experiment = Experiment.prepare(comparison.settings(0))
    for phases in comparison.phases:
        phase_classes(experiment.source.num_classes, phases, options["base_classes"], 0, options["uneven"])
    trains_backbone = experiment.trains_backbone()
    refuse_idle_options(context, trains_backbone)
    if trains_backbone and options["base_classes"] == 0:
        raise ValueError(
            "without a base phase the backbone would differ with the number of phases; "
            "give --base-classes, --checkpoint or a pretrained backbone"
        )
    experiment.settings.criterion(), experiment.open_set()
    return comparison


def _refuse_other_options(context: click.Context) -> None:
    if names := options_given(context, besides=("resume", "jobs", "device")):
        raise ValueError(f"--resume goes on with its own settings; leave out {names}, or compare anew")
