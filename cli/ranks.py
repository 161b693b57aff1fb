"""A run on all ranks that torchrun started: the first one writes and prints, the others follow it."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import replace
from threading import Thread
from typing import NoReturn

import click
import torch

from acil import ExactHead
from acil.cli.experiment import Experiment, follow_experiment
from acil.cli.settings import RunSettings
from acil.distributed import Ranks
from acil.errors import RankLostError
from acil.methods import find_method


def prepare(settings: RunSettings, ranks: Ranks | None) -> Experiment:
    """Load the data and lay out the phases, after the other ranks, where there are any, were told the settings.

    Raises:
        ValueError: the settings do not allow for several ranks, or ``Experiment.prepare`` refuses them.
    """
    if ranks is None:
        return Experiment.prepare(settings)
    _refuse_ranks(settings, ranks)
    ranks.from_first(settings)
    with ranks.first_of_machine_first():
        return Experiment.prepare(settings)


def follow(ranks: Ranks) -> None:
    """The whole run, for a rank that is not the first; it prints nothing but an error of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first rank tells how to go on
    warnings.simplefilter("ignore")  # the first rank warns
    try:
        settings: RunSettings = ranks.from_first()
        with ranks.first_of_machine_first():
            experiment = Experiment.prepare(replace(settings, checkpoint=None))  # the backbone comes from the first
        follow_experiment(experiment, ranks)
    except RankLostError:
        os._exit(2)  # the first rank tells of it, unless it is the one that was lost
    except (ValueError, OSError) as error:
        click.echo(" ".join(f"Error: rank {ranks.rank}: {error}".split()), err=True)
        raise SystemExit(2) from error


def tell_when_ended(how_to_go_on: str) -> None:
    """Have the first rank say how to go on, when torchrun ends it because another rank has ended.

    Python calls signal handlers between two steps of the main thread, which may be waiting for the lost rank and make
    none. So the signal wakes a thread.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake)

    def end_when_told() -> None:
        while os.read(woken, 1)[0] != signal.SIGTERM:
            pass
        end_at_once(f"torchrun ended the run; {how_to_go_on}")

    Thread(target=end_when_told, daemon=True).start()


def end_at_once(message: str) -> NoReturn:
    """End with one line on stderr and status 2, without the clean-up that could wait for lost ranks."""
    click.echo(f"Error: {message}", err=True)
    os._exit(2)


def command(ranks: Ranks | None) -> list[str]:
    """How the command line was started, up to its own arguments."""
    if ranks is None:
        return ["acil"]
    machines = [] if ranks.size == ranks.local_size else ["--nnodes", str(ranks.size // ranks.local_size)]
    return ["torchrun", *machines, "--nproc-per-node", str(ranks.local_size), "-m", "acil.cli"]


def _refuse_ranks(settings: RunSettings, ranks: Ranks) -> None:
    if settings.head != "exact" or not issubclass(find_method(settings.method).head, ExactHead):
        option = f"--method {settings.method}" if settings.head == "exact" else f"--head {settings.head}"
        raise ValueError(
            f"{option} cannot be shared by {ranks.size} ranks, as what they learn has no exact sum; "
            "choose another, or run one process"
        )
    if settings.device.startswith("cuda") and ranks.local_size > torch.cuda.device_count():
        raise ValueError(
            f"{ranks.local_size} ranks need a GPU each, but there are {torch.cuda.device_count()}; "
            "start fewer ranks, or use --device cpu"
        )
