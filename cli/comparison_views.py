"""A comparison as a table for the terminal, as Markdown and CSV, and as a picture with a curve for each method."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acil.cli import metrics
from acil.cli.comparison import Comparison, ComparisonFolder, Contest, Outcome
from acil.cli.metrics import PhaseRecord
from acil.files import write_atomically
from acil.strategies.contenders import CONTENDERS
from acil.strategies.contenders.gradient import EWC_LAMBDA, GRADIENT_NORM, HEAD_RATE, LWF_ALPHA

if TYPE_CHECKING:
    from rich.console import RenderableType

TABLE, MARKDOWN, PICTURE = "comparison.csv", "comparison.md", "comparison.png"
HEADINGS = ("phases", "method", "average", "last", "forgetting", "s/phase", "kept MB", "data")


@dataclass(frozen=True)
class Row:
    """One method in one number of phases, over all seeds that were fought.

    Attributes:
        method: its name.
        phases: increments.
        records: of every phase, for each seed.
        timed: outcomes of the seeds that ran on the one device whose seconds are told.
        kept_bytes: after the last phase, of the first seed.
        keeps_data: whether samples are among it.
        error: why it failed on a seed; None where it did not.
    """

    method: str
    phases: int
    records: list[list[PhaseRecord]]
    timed: list[Outcome]
    kept_bytes: int
    keeps_data: bool
    error: str | None

    def values(self, figure: Callable[[Sequence[PhaseRecord]], float | None]) -> list[float]:
        """A figure of each seed."""
        return [value for records in self.records if (value := figure(records)) is not None]

    def seconds(self) -> list[float]:
        """Mean learning time of an increment, the extraction of features included, of each seed that was timed."""
        timed = [outcome.records for outcome in self.timed]
        return [statistics.fmean(record.learning_seconds for record in one[1:] or one) for one in timed]


def rows(folder: ComparisonFolder) -> list[Row]:
    """A row for each number of phases and method that a contest has ended for.

    Raises:
        ValueError: a file is damaged.
    """
    comparison, device = folder.comparison, _timed_device(folder)
    found = []
    for phases in comparison.phases:
        for method in comparison.methods:
            outcomes = [folder.outcome(Contest(method, phases, seed)) for seed in range(comparison.seeds)]
            if ended := [outcome for outcome in outcomes if outcome is not None]:
                found.append(_row(method, phases, ended, device))
    return found


def view(folder: ComparisonFolder) -> RenderableType:
    """The table and what it shows, for the terminal."""
    from rich.console import Group
    from rich.text import Text

    from acil.cli.tables import rows_table

    found = rows(folder)
    table = rows_table(HEADINGS, ((str(row.phases), row.method, *_cells(row)) for row in found))
    notes = [*_failures(found), *exactness(folder), f"results in {folder.path}"]
    return Group(table, *(Text(note, overflow="fold") for note in notes))


def write_views(folder: ComparisonFolder) -> None:
    """Write table and picture of what was fought so far.

    Raises:
        ValueError: a file is damaged or cannot be written.
    """
    from acil.cli.comparison_picture import comparison_picture

    found = rows(folder)
    write_atomically(folder.path / TABLE, _as_csv(found).encode())
    write_atomically(folder.path / MARKDOWN, _as_markdown(folder, found).encode())
    if any(row.records for row in found):
        write_atomically(folder.path / PICTURE, comparison_picture(found, str(folder.comparison.experiment["data"])))


def exactness(folder: ComparisonFolder) -> list[str]:
    """Whether ACIL has the digest of joint training after every phase; nothing where one of them is missing.

    Digests compare only on equal features: those of another machine may differ in their last bits.
    """
    equal = different = elsewhere = 0
    for contest in folder.comparison.contests():
        joint = folder.outcome(Contest("joint", contest.phases, contest.seed))
        own = folder.outcome(contest)
        if contest.method != "acil" or not (own and joint and own.records and joint.records):
            continue
        if any(own.environment[part] != joint.environment[part] for part in ("device", "versions")):
            elsewhere += 1
            continue
        for ours, theirs in zip(own.records, joint.records, strict=True):
            equal += ours.digest == theirs.digest
            different += ours.digest != theirs.digest
    lines = []
    if different:
        lines.append(f"ACIL's digest differs from joint training's after {different} of {equal + different} phases")
    elif equal:
        lines.append(f"ACIL's digest equals joint training's after each of {equal} phases")
    if elsewhere:
        lines.append(f"digests do not compare: ACIL and joint training ran on different machines in {elsewhere} cases")
    return lines


def _timed_device(folder: ComparisonFolder) -> str:
    """The device whose seconds are told: of the kind in use now, the one that fought most contests."""
    kind = folder.comparison.experiment["device"].partition(":")[0]
    outcomes = [folder.outcome(contest) for contest in folder.comparison.contests()]
    names = [str(outcome.environment["device"]) for outcome in outcomes if outcome and outcome.records]
    there = Counter(name for name in names if name.startswith(kind))
    return there.most_common(1)[0][0] if there else ""


def _row(method: str, phases: int, outcomes: Sequence[Outcome], device: str) -> Row:
    fought = [outcome for outcome in outcomes if outcome.error is None]
    timed = [outcome for outcome in fought if outcome.environment["device"] == device]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    return Row(
        method=method,
        phases=phases,
        records=[outcome.records for outcome in fought],
        timed=timed,
        kept_bytes=fought[0].kept_bytes[-1] if fought else 0,
        keeps_data=any(outcome.keeps_data for outcome in fought),
        error=errors[0] if errors else None,
    )


def _failures(found: Sequence[Row]) -> list[str]:
    return [f"{row.method} failed in {row.phases} phases: {row.error}" for row in found if row.error is not None]


def _cells(row: Row) -> tuple[str, ...]:
    """The figures of a row, without its name."""
    if not row.records:
        return "failed", *[""] * 5
    return (
        spread(row.values(metrics.average_incremental_accuracy)),
        spread(row.values(metrics.last_accuracy)),
        spread(row.values(metrics.forgetting)),
        f"{statistics.fmean(row.seconds()):.3g}" if row.timed else "-",
        f"{row.kept_bytes / 1e6:.3g}",
        "kept" if row.keeps_data else "none",
    )


def spread(values: Sequence[float]) -> str:
    """Mean in percent, with the standard deviation where there are several; a dash for none."""
    if not values:
        return "-"
    mean = f"{100 * statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean}±{100 * statistics.stdev(values):.2f}"


def _as_csv(found: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("average", "last", "forgetting", "seconds_per_phase")
    spreads = [f"{figure}{part}" for figure in figures for part in ("", "_deviation")]
    writer.writerow(["phases", "method", "seeds", *spreads, "kept_bytes", "keeps_data", "error"])
    for row in found:
        figures_of_row = metrics.average_incremental_accuracy, metrics.last_accuracy, metrics.forgetting
        values = [*(row.values(figure) for figure in figures_of_row), row.seconds()]
        cells = [
            cell
            for of_seeds in values
            for cell in (
                statistics.fmean(of_seeds) if of_seeds else "",
                statistics.stdev(of_seeds) if len(of_seeds) > 1 else "",
            )
        ]
        writer.writerow(
            [row.phases, row.method, len(row.records), *cells, row.kept_bytes, row.keeps_data, row.error or ""]
        )
    return text.getvalue()


def markdown_table(found: Sequence[Row]) -> list[str]:
    """A line for each row, under two lines of headings."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "| ---: | --- |" + " ---: |" * (len(HEADINGS) - 3) + " --- |"]
    for row in found:
        cells = str(row.phases), CONTENDERS[row.method].title, *_cells(row)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _as_markdown(folder: ComparisonFolder, found: Sequence[Row]) -> str:
    notes = [*_failures(found), *exactness(folder)]
    return "\n".join([*markdown_table(found), "", *notes, "", *conditions(folder)]) + "\n"


def conditions(folder: ComparisonFolder) -> list[str]:
    """What the figures depend on, as a list."""
    comparison = folder.comparison
    outcomes = [folder.outcome(contest) for contest in comparison.contests()]
    found = [outcome.environment for outcome in outcomes if outcome and outcome.environment]
    lines = [f"- command: `{folder.command}`", *_base_lines(folder), *_budget_lines(comparison)]
    machines = Counter(map(_machine, found))
    for machine, number in machines.items():
        contests = "1 contest" if number == 1 else f"{number} contests"
        lines.append(f"- {machine}; {contests}" if len(machines) > 1 else f"- {machine}")
    if len(machines) > 1:
        lines.append(f"- seconds are those of {_timed_device(folder)}")
    return lines


def _machine(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return f"{environment['device']}, {environment['threads']} threads for each process; {versions}"


def _base_lines(folder: ComparisonFolder) -> list[str]:
    facts = [base for seed in range(folder.comparison.seeds) if (base := folder.base_facts(seed))]
    if not facts:
        return []
    extraction = statistics.fmean(base["extraction_seconds"] for base in facts)
    lines = [
        f"- extraction of features: {1000 * extraction:.2f} ms for each sample, once; within the seconds per phase"
    ]
    trained = [base["base_training"] for base in facts if base["base_training"]]
    if trained:
        accuracy = spread([training["accuracy"] for training in trained])
        seconds = statistics.fmean(training["seconds"] for training in trained)
        settings = folder.comparison.experiment
        where = ", ".join(dict.fromkeys(training["device"] for training in trained))
        lines.insert(
            0,
            f"- backbone {settings['backbone']}: {settings['epochs']} epochs on the base phase, {seconds:.0f} s on "
            f"{where}; its own classifier is right on {accuracy} % of the base classes' test images",
        )
    return lines


def _budget_lines(comparison: Comparison) -> list[str]:
    if not any(CONTENDERS[method].by_gradients for method in comparison.methods):
        return []
    epochs = "1 epoch" if comparison.phase_epochs == 1 else f"{comparison.phase_epochs} epochs"
    rate = f"learning rate {comparison.phase_learning_rate:g} ({HEAD_RATE:g} times that for a classifier alone)"
    step = f"SGD with momentum 0.9, {rate} and gradients of a norm of at most {GRADIENT_NORM:g}"
    kept = f"replay keeps {comparison.replay_per_class} samples of each class"
    weights = f"the penalty of EWC counts {EWC_LAMBDA:g} times, LwF's {LWF_ALPHA:g} times"
    return [f"- gradient methods: {epochs} for each phase, {step}; {kept}; {weights}"]
