"""The arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource


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

_EXPERIMENT_OPTIONS = (
    click.option(
        "--data",
        default="glyphs",
        show_default=True,
        help="glyphs, cifar10, cifar100, ..., folder:PATH or features:PATH.npz.",
    ),
    click.option(
        "--base-classes",
        type=click.IntRange(min=0),
        help="Classes of the base phase; 0 for no base phase.  [default: half of them]",
    ),
    click.option("--uneven", is_flag=True, help="Spread classes that do not divide into the phases unevenly."),
    click.option("--classes", type=click.IntRange(min=2), help="Number of glyph classes.  [default: 100]"),
    click.option("--train-per-class", type=click.IntRange(min=1), help="Training glyphs per class.  [default: 300]"),
    click.option("--test-per-class", type=click.IntRange(min=1), help="Test glyphs per class.  [default: 60]"),
    click.option(
        "--image-size",
        type=click.IntRange(min=8),
        help="Side to which a folder's images are resized.  [default: a pretrained backbone's; else their own, or 64]",
    ),
    click.option(
        "--backbone",
        default="convnet",
        show_default=True,
        help="convnet, resnet20, resnet32, wrn-40-2, efficientnet-lite0, timm:NAME or torchvision:NAME.",
    ),
    click.option(
        "--checkpoint",
        type=click.Path(dir_okay=False),
        help="Pretrained weights of the backbone; no base training then.",
    ),
    click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True, help="Epochs of base training."),
    click.option(
        "--learning-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=0.1,
        show_default=True,
        help="Peak learning rate of base training.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(["one-cycle", "cosine"]),
        default="one-cycle",
        show_default=True,
        help="Course of the learning rate.",
    ),
    click.option(
        "--label-smoothing",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Label smoothing of base training.",
    ),
    click.option("--loss", default="ce", show_default=True, help="Loss of base training: ce, gce, sce, nce+agce, ..."),
    click.option(
        "--logit-clip",
        type=click.FloatRange(min=0, min_open=True),
        metavar="TAU",
        help="Clip the norm of logits in base training, for noisy labels.",
    ),
    click.option(
        "--logit-norm",
        type=click.FloatRange(min=0, min_open=True),
        metavar="TAU",
        help="Normalise logits in base training, to detect foreign images.",
    ),
    click.option(
        "--open-set",
        metavar="METHOD:ETA",
        help="Foreign images in base training: odnl for noisy labels, open-sampling for long tails.",
    ),
    click.option(
        "--foreign",
        default="gaussian",
        show_default=True,
        help="Where they come from: gaussian, rademacher, blobs, symbols, folder:PATH or a data set.",
    ),
    click.option(
        "--label-noise",
        metavar="KIND:RATE",
        help="Make training labels wrong: symmetric, asymmetric, pair, instance or open-set.",
    ),
    click.option("--imbalance", metavar="KIND:RATIO", help="Thin out training classes: exp or step, such as exp:0.01."),
    click.option(
        "--corrupt",
        type=click.Choice(["all", "base", "increments"]),
        default="all",
        show_default=True,
        help="Phases that noise and imbalance change.",
    ),
    click.option(
        "--buffer-size",
        type=click.IntRange(min=1),
        default=2048,
        show_default=True,
        help="Width of the buffer layer.",
    ),
    click.option(
        "--gamma",
        type=click.FloatRange(min=0, min_open=True),
        help="Ridge.  [default: chosen by cross-validation; 0.1 for the recursion]",
    ),
    click.option(
        "--bits",
        type=click.Choice(["8", "16"]),
        default="8",
        show_default=True,
        callback=lambda context, parameter, value: int(value),
        help="Bits of a quantised feature.",
    ),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto for the best there is."),
)


# What has no effect where the backbone is not trained.
_BASE_TRAINING = (
    "epochs",
    "learning_rate",
    "schedule",
    "label_smoothing",
    "loss",
    "logit_clip",
    "logit_norm",
    "open_set",
)


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that phases, method and seed do not say: data, base training, and the width of the head."""
    for option in reversed(_EXPERIMENT_OPTIONS):
        command = option(command)
    return command


def options_given(context: click.Context, besides: tuple[str, ...]) -> str:
    """The options that the user typed, such as "--phases, --seed", besides these; empty where there are none."""
    typed = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    return ", ".join("--" + name.replace("_", "-") for name in typed if name not in besides)


def refuse_idle_options(context: click.Context, trains_backbone: bool) -> None:
    """Options that would have no effect beside the others.

    Raises:
        ValueError: the user typed some of them; says why they would have none.
    """
    given = context.params
    noise = given["label_noise"] or ""
    idle = [
        (not trains_backbone, _BASE_TRAINING, "there is no base training with a pretrained backbone or feature rows"),
        (not (given["open_set"] or noise.startswith("open-set")), ("foreign",), "nothing asks for foreign images"),
        (not (noise or given["imbalance"]), ("corrupt",), "there is no label noise and no imbalance"),
    ]
    for is_idle, options, why in idle:
        others = tuple(set(given) - set(options))
        if is_idle and (names := options_given(context, besides=others)):
            raise ValueError(f"{why}; leave out {names}")
