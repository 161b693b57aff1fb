"""The results folder of a run. ``events.jsonl`` is the source; every table and picture is a view of it."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from acil.cli import metrics
from acil.cli.metrics import PhaseRecord
from acil.files import write_atomically

CONFIG = "config.json"
COMMAND = "command.txt"
EVENTS = "events.jsonl"
PHASES = "phases.csv"
SUMMARY = "summary.json"
ACCURACY = "accuracy.png"
FORGETTING = "forgetting.png"
MODEL_FILE = "model.safetensors"
TENSORBOARD = "tensorboard"

PHASE_COLUMNS = (
    "phase",
    "classes_seen",
    "samples",
    "accuracy",
    "average_so_far",
    "learning_seconds",
    "evaluation_seconds",
    "digest",
)


class RunFolder:
    """A run on disk: its settings, what happened, and the views of that.

    Use ``create`` for a new run and ``open`` for an existing one.

    Attributes:
        path: the folder.
        config: the run's settings, as ``config.json`` holds them.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path | str, config: dict[str, Any], command: str) -> RunFolder:
        """Begin a run in a folder that holds none yet; parent folders are made.

        Raises:
            ValueError: the folder already holds a run, or cannot be written.
        """
        path = Path(path)
        if (path / CONFIG).exists() or (path / EVENTS).exists():
            raise ValueError(f"{path} already holds a run; use --resume or another folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {path}: {error.strerror}; choose another folder") from error
        write_atomically(path / COMMAND, (command + "\n").encode())
        # Last, as this is the file that makes the folder a run.
        write_atomically(path / CONFIG, _as_json(config).encode())
        return cls(path, config)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open an existing run.

        Raises:
            ValueError: there is no run in that folder, or its config.json is damaged.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise ValueError(f"{path} holds no run: there is no {CONFIG}; give the results folder of a run")
        try:
            config = json.loads((path / CONFIG).read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path / CONFIG} is damaged: {error}; restore it or start the run anew") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path / CONFIG} is damaged: it holds no settings; restore it or start the run anew")
        return cls(path, config)

    @property
    def command(self) -> str | None:
        """The command that began the run; None where ``command.txt`` is gone."""
        file = self.path / COMMAND
        return file.read_text(encoding="utf-8").strip() if file.is_file() else None

    def append(self, event: str, **fields: Any) -> None:
        """Record that something happened; it is on disk when this returns.

        Raises:
            ValueError: a field cannot be written as JSON, or the disk refuses; earlier records are untouched.
        """
        line = _event_line(event, fields)
        file = self.path / EVENTS
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                _append_line(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ValueError(f"cannot write {file}: {error.strerror}; free space, then go on with --resume") from error

    def events(self) -> list[dict[str, Any]]:
        """Everything that happened, in order. A last line that a killed process left unfinished is ignored.

        Raises:
            ValueError: a line is damaged; names it.
        """
        file = self.path / EVENTS
        try:
            content = file.read_bytes() if file.exists() else b""
        except OSError as error:
            raise ValueError(f"cannot read {file}: {error.strerror}; make it readable") from error
        complete = content.split(b"\n")[:-1]
        return [_parse_event(file, number, line) for number, line in enumerate(complete, start=1)]

    def phases(self) -> list[PhaseRecord]:
        """The phases recorded so far, in order; where one was recorded twice, the later record counts.

        Raises:
            ValueError: a record is damaged or missing.
        """
        return self._phases_among(self.events())

    def summary(self) -> dict[str, Any]:
        """All figures of the run, with what they depend on: what ``summary.json`` holds.

        Raises:
            ValueError: no phase was recorded yet, or a record is damaged.
        """
        events = self.events()
        records = self._phases_among(events)
        if not records:
            raise ValueError(f"{self.path} has finished no phase yet; let it go on with --resume")
        started = _last(events, "started")
        return {
            "command": self.command,
            "config": self.config,
            "versions": started.get("versions"),
            "seed": started.get("seed"),
            "device": started.get("device"),
            "threads": started.get("threads"),
            "ranks": started.get("ranks"),
            "times_resumed": sum(event["event"] == "resumed" for event in events),
            "base_training": _last(events, "base_training") or None,
            "classes": metrics.classes_seen(records)[-1],
            "average_incremental_accuracy": metrics.average_incremental_accuracy(records),
            "last_accuracy": metrics.last_accuracy(records),
            "forgetting": metrics.forgetting(records),
            "learning_seconds": sum(record.learning_seconds for record in records),
            "evaluation_seconds": sum(record.evaluation_seconds for record in records),
            "digest": records[-1].digest,
            "phases": _phase_rows(records),
        }

    def write_views(self) -> None:
        """Write tables, summary and pictures from the events; again as often as you like.

        Raises:
            ValueError: no phase was recorded yet, a record is damaged, or the folder cannot be written.
        """
        from acil.cli.pictures import accuracy_picture, forgetting_picture

        summary, records = self.summary(), self.phases()
        data = str(self.config.get("data", "data"))
        write_atomically(self.path / PHASES, _as_csv(summary["phases"]).encode())
        write_atomically(self.path / SUMMARY, _as_json(summary).encode())
        write_atomically(self.path / ACCURACY, accuracy_picture(records, data))
        write_atomically(self.path / FORGETTING, forgetting_picture(records, data))

    def _phases_among(self, events: list[dict[str, Any]]) -> list[PhaseRecord]:
        try:
            return metrics.phase_records(events)
        except ValueError as error:
            raise ValueError(f"{self.path / EVENTS}: {error}; restore it or start the run anew") from error


def _event_line(event: str, fields: dict[str, Any]) -> bytes:
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    try:
        text = json.dumps({"event": event, "time": time, **fields}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the event {event!r} cannot be recorded as JSON: {error}") from error
    return text.encode() + b"\n"


def _append_line(descriptor: int, line: bytes) -> None:
    """Write a line after the last complete one, while no other process appends."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # released when the descriptor is closed
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0)
    complete = content.rfind(b"\n") + 1
    if complete < size:
        os.ftruncate(descriptor, complete)
    if os.write(descriptor, line) < len(line):
        # What was written is an unfinished line, which readers ignore and the next append cuts off.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _parse_event(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{file}: line {number} is damaged: {error}; restore it or start the run anew") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError(f"{file}: line {number} is damaged: it is no event; restore it or start the run anew")
    return event


def _last(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The fields of the last event of a kind; empty where there was none."""
    for event in reversed(events):
        if event["event"] == kind:
            return {name: value for name, value in event.items() if name not in ("event", "time")}
    return {}


def _phase_rows(records: list[PhaseRecord]) -> list[dict[str, Any]]:
    seen, averages = metrics.classes_seen(records), metrics.running_averages(records)
    return [
        {
            "phase": record.phase,
            "classes": list(record.classes),
            "classes_seen": classes,
            "samples": record.samples,
            "accuracy": record.accuracy,
            "average_so_far": average,
            "learning_seconds": record.learning_seconds,
            "evaluation_seconds": record.evaluation_seconds,
            "gamma": record.gamma,
            "clipped_share": record.clipped_share,
            "digest": record.digest,
        }
        for record, classes, average in zip(records, seen, averages, strict=True)
    ]


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, PHASE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
