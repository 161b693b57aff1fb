"""What a run's phase records say: accuracies, their average, forgetting, and the phase-by-phase matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class PhaseRecord:
    """One phase as it was learned and then evaluated on the test samples of all classes seen.

    Attributes:
        phase: number of the phase; 0 is the base phase.
        classes: labels of this phase.
        samples: training samples of this phase.
        learning_seconds: time to learn the phase.
        evaluation_seconds: time to evaluate after it.
        gamma: ridge of the weights after the phase; None for a method without one.
        clipped_share: share of expanded features that the quantiser clipped; None without a quantiser.
        digest: of the moments after the phase; None where the head has none.
        correct: test samples classified right, by class.
        total: test samples, by class.
    """

    phase: int
    classes: tuple[int, ...]
    samples: int
    learning_seconds: float
    evaluation_seconds: float
    gamma: float | None
    clipped_share: float | None
    digest: str | None
    correct: Mapping[int, int]
    total: Mapping[int, int]

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> PhaseRecord:
        """The record that an event of the kind "phase" holds.

        Raises:
            ValueError: a field is missing, or the counts contradict each other.
        """
        try:
            record = cls(
                phase=int(event["phase"]),
                classes=tuple(int(label) for label in event["classes"]),
                samples=int(event["samples"]),
                learning_seconds=float(event["learning_seconds"]),
                evaluation_seconds=float(event["evaluation_seconds"]),
                gamma=None if event["gamma"] is None else float(event["gamma"]),
                clipped_share=event["clipped_share"],
                digest=event["digest"],
                correct={int(label): int(count) for label, count in event["correct"].items()},
                total={int(label): int(count) for label, count in event["total"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the record of phase {event.get('phase')} is damaged: {error!r}") from error
        record._check_counts()
        return record

    @property
    def accuracy(self) -> float:
        """Share of the test samples of all classes seen that are classified right; 0 where there are none."""
        samples = sum(self.total.values())
        return sum(self.correct.values()) / samples if samples else 0.0

    def accuracy_on(self, classes: Iterable[int]) -> float:
        """Share of the test samples of ``classes`` that are classified right; NaN where there are none."""
        tested = [label for label in classes if label in self.total]
        samples = sum(self.total[label] for label in tested)
        return sum(self.correct[label] for label in tested) / samples if samples else nan

    def _check_counts(self) -> None:
        if self.correct.keys() != self.total.keys():
            raise ValueError(f"the record of phase {self.phase} is damaged: correct and total differ in their classes")
        for label, count in self.correct.items():
            if not 0 <= count <= self.total[label]:
                raise ValueError(
                    f"the record of phase {self.phase} is damaged: "
                    f"{count} of {self.total[label]} samples of class {label} cannot be right"
                )


def phase_records(events: Iterable[Mapping[str, Any]]) -> list[PhaseRecord]:
    """The phases of a run in order; where one was recorded twice, the later record counts.

    Raises:
        ValueError: a record is damaged, or a phase is missing between others.
    """
    found = [PhaseRecord.from_event(event) for event in events if event["event"] == "phase"]
    latest = {record.phase: record for record in found}
    missing = sorted(set(range(len(latest))) - set(latest))
    if missing:
        raise ValueError(f"phase {missing[0]} is missing between the recorded phases {sorted(latest)}")
    return [latest[phase] for phase in range(len(latest))]


def classes_seen(records: Sequence[PhaseRecord]) -> list[int]:
    """Number of different classes seen up to and including each phase."""
    seen: set[int] = set()
    counts = []
    for record in records:
        seen.update(record.classes)
        counts.append(len(seen))
    return counts


def accuracies(records: Sequence[PhaseRecord]) -> list[float]:
    """Accuracy on all classes seen, after each phase."""
    return [record.accuracy for record in records]


def running_averages(records: Sequence[PhaseRecord]) -> list[float]:
    """Mean accuracy over the phases so far, base phase included, after each phase."""
    values = accuracies(records)
    return [fmean(values[: phase + 1]) for phase in range(len(values))]


def average_incremental_accuracy(records: Sequence[PhaseRecord]) -> float:
    """Mean over all phases, base phase included, of the accuracy on all classes seen."""
    return fmean(accuracies(records))


def last_accuracy(records: Sequence[PhaseRecord]) -> float:
    """Accuracy on all classes after the last phase."""
    return records[-1].accuracy


def forgetting(records: Sequence[PhaseRecord]) -> float | None:
    """Best earlier minus final accuracy of a class, averaged over the classes seen before the last phase.

    Below 0 where classes became better. None where no class could have been forgotten: after a single phase.
    """
    *earlier, last = records
    best: dict[int, float] = {}
    for record in earlier:
        for label, samples in record.total.items():
            if samples:
                best[label] = max(best.get(label, 0.0), record.correct[label] / samples)
    losses = [best[label] - last.accuracy_on([label]) for label in best if last.total.get(label)]
    return fmean(losses) if losses else None


def phase_matrix(records: Sequence[PhaseRecord]) -> list[list[float]]:
    """Row t, column p <= t: accuracy after phase t on the classes of phase p; NaN without test samples."""
    return [
        [record.accuracy_on(earlier.classes) for earlier in records[: row + 1]] for row, record in enumerate(records)
    ]
