"""What the terminal shows while and after a command works: consoles, progress, and errors of one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

import click

from acil.cli.launch import is_first_rank

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task


class OneLineError(click.ClickException):
    """An error that is shown as one line on stderr and ends the command with status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line, once for all ranks of a distributed run."""
        if is_first_rank():
            super().show(file)


class OneLineErrors(click.Group):
    """A group of commands whose user errors are one line on stderr and status 2, never a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the group's own options."""
        with _one_line_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse a command's options and run it."""
        with _one_line_errors(), _one_line_warnings():
            return super().invoke(ctx)


def stdout() -> Console:
    """The console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress and errors."""
    return _console(stderr=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr for long work: bar, count, elapsed and remaining time.

    Where stderr is no terminal, nothing moves: each task is one plain line once all work has succeeded.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = stderr()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="bright_black"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        yield bar
    if not console.is_terminal:
        for task in bar.tasks:
            console.print(_plain_line(task), soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # Names from data sets and folders are shown as they are: a bracket in them is no markup.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, quiet=not is_first_rank())


def _plain_line(task: Task) -> str:
    count = f"{task.completed:.0f}" + ("" if task.total is None else f" of {task.total:.0f}")
    seconds = task.finished_time if task.finished_time is not None else task.elapsed
    return f"{task.description}: {count} in {timedelta(seconds=round(seconds or 0))}"


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show a warning as one line, and none that a user of the command cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no QP solver found")  # Avalanche, of solvers for GEM
        warnings.filterwarnings("ignore", message="No loggers specified")  # Avalanche; the run folder logs
        warnings.showwarning = _show_warning
        yield


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"warning: {' '.join(str(message).split())}", err=True)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not error.format_message() or isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            raise  # a command without arguments shows its help
        where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        raise OneLineError(error.format_message().rstrip(".") + where) from error
    except BrokenPipeError:
        raise  # the reader of a pipe went away; Click ends quietly
    except (ValueError, OSError) as error:
        raise OneLineError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OneLineError(f"out of memory; use a smaller --buffer-size, or a larger machine ({told})") from error
