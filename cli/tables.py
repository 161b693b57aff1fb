"""The figures of a run as tables for the terminal; every one of them stands in ``summary.json`` too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acil.cli.results import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.panel import Panel
    from rich.table import Table

MOST_ROWS = 12


def summary_view(folder: RunFolder) -> RenderableType:
    """The phases and the figures of a run.

    Raises:
        ValueError: no phase was recorded yet, or a record is damaged.
    """
    from rich.console import Group
    from rich.text import Text

    summary = folder.summary()
    where = Text(f"results in {folder.path}", overflow="fold")
    return Group(phase_table(summary), summary_panel(summary), where)


def phase_table(summary: Mapping[str, Any]) -> Table:
    """One row per phase; of many phases the first, every k-th and the last.

    Args:
        summary: what ``RunFolder.summary`` returns.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("phase", "classes seen", "samples", "accuracy", "average so far", "learning"):
        table.add_column(name, justify="right")
    rows = summary["phases"]
    for phase in shown_phases(len(rows)):
        row = rows[phase]
        table.add_row(
            str(row["phase"]),
            str(row["classes_seen"]),
            str(row["samples"]),
            percent(row["accuracy"]),
            percent(row["average_so_far"]),
            seconds(row["learning_seconds"]),
        )
    return table


def summary_panel(summary: Mapping[str, Any]) -> Panel:
    """The figures over all phases.

    Args:
        summary: what ``RunFolder.summary`` returns.
    """
    from rich.panel import Panel

    training = summary["base_training"] or {}
    facts = {
        "average incremental accuracy": percent(summary["average_incremental_accuracy"]),
        "last accuracy": percent(summary["last_accuracy"]),
        "forgetting": percent(summary["forgetting"]),
        "base training": seconds(training.get("seconds")),
        "learning, all phases": seconds(summary["learning_seconds"]),
        "evaluation, all phases": seconds(summary["evaluation_seconds"]),
        "gamma, last phase": f"{summary['phases'][-1]['gamma']:.3g}",
        "digest": (summary["digest"] or "-")[:16],
    }
    return Panel(facts_table(facts), expand=False, border_style="bright_black")


def facts_table(facts: Mapping[str, str]) -> Table:
    """Names and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value, overflow="fold"))
    return table


def rows_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows under their names, the first column to the left and the others to the right; nothing is cut off."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def change_view(
    names: Sequence[str], rows: Iterable[Sequence[str]], before: str, after: str, file: Path
) -> RenderableType:
    """What changed in a model, class by class, with its digest before and after.

    Args:
        names: of the columns.
        rows: one for each class.
        before: beginning of the digest before.
        after: beginning of the digest after.
        file: where the model was written to.
    """
    from rich.console import Group

    facts = {"digest before": before, "digest after": after, "model": str(file)}
    return Group(rows_table(names, rows), facts_table(facts))


def shown_phases(phases: int) -> list[int]:
    """The phases that a table shows: all of a few; of many the first, every k-th of a round k, the last."""
    if phases <= MOST_ROWS:
        return list(range(phases))
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    for step in steps:
        shown = sorted({*range(0, phases, step), phases - 1})
        if len(shown) <= MOST_ROWS:
            return shown
    raise AssertionError("steps grow without end")


def percent(share: float | None) -> str:
    """A share in 0..1 as a percentage with two decimals; a dash for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def seconds(duration: float | None) -> str:
    """A duration, in minutes from 100 seconds on; a dash for None."""
    if duration is None:
        return "-"
    return f"{duration:.2f} s" if duration < 100 else str(timedelta(seconds=round(duration)))
