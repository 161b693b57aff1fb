"""A comparison on disk: its settings, the base of every seed, and one file for every contest that was fought."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acil.cli.metrics import PhaseRecord, phase_records
from acil.cli.settings import RunSettings
from acil.files import write_atomically

CONFIG = "comparison.json"
COMMAND = "command.txt"
CONTESTS = "contests"


@dataclass(frozen=True)
class Contest:
    """One method on one class order, in so many phases."""

    method: str
    phases: int
    seed: int

    @property
    def name(self) -> str:
        """Its name among files."""
        return f"{self.method}-{self.phases}-{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a contest ended.

    Attributes:
        records: a record of every phase; empty where the method failed.
        kept_bytes: what the method kept after each phase, beside the network that it began with.
        keeps_data: whether samples are among it.
        error: why the method failed; None where it did not.
        environment: versions, device and threads.
        extraction_seconds: to extract a sample's features, as counted into the records' seconds.
    """

    records: list[PhaseRecord]
    kept_bytes: list[int]
    keeps_data: bool
    error: str | None
    environment: Mapping[str, Any]
    extraction_seconds: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what.

    Attributes:
        methods: names of contenders.
        phases: numbers of increments.
        seeds: how many class orders, of the seeds from 0 on.
        phase_epochs: passes of gradient methods over each phase.
        phase_learning_rate: of their SGD.
        replay_per_class: samples of each class that replay keeps.
        experiment: options of ``acil run`` that are the same for all.
    """

    methods: tuple[str, ...]
    phases: tuple[int, ...]
    seeds: int
    phase_epochs: int
    phase_learning_rate: float
    replay_per_class: int
    experiment: Mapping[str, Any]

    def contests(self) -> list[Contest]:
        """Every method with every number of phases on every class order."""
        return [
            Contest(method, phases, seed)
            for seed in range(self.seeds)
            for method in self.methods
            for phases in self.phases
        ]

    def settings(self, seed: int, phases: int | None = None) -> RunSettings:
        """The settings of an ``acil run`` on the same data; its base phase is that of all contests of the seed."""
        return self.plain_settings(seed, phases).with_image_size()

    def plain_settings(self, seed: int, phases: int | None = None) -> RunSettings:
        """These settings before the backbone, which may be large, is asked for its image size."""
        chosen = self.phases[0] if phases is None else phases
        return RunSettings(**self.experiment, phases=chosen, seed=seed, method="acil", head="exact")


class ComparisonFolder:
    """The results folder of a comparison. Use ``create`` for a new one and ``open`` for an existing one.

    Attributes:
        path: the folder.
        comparison: what is compared.
    """

    def __init__(self, path: Path, comparison: Comparison) -> None:
        self.path = path
        self.comparison = comparison

    @classmethod
    def create(cls, path: Path, comparison: Comparison, command: str) -> ComparisonFolder:
        """Begin a comparison in a folder that holds none yet.

        Raises:
            ValueError: the folder already holds one, or cannot be written.
        """
        if (path / CONFIG).exists():
            raise ValueError(f"{path} already holds a comparison; use --resume or another folder")
        try:
            (path / CONTESTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot make the folder {path}: {error.strerror}; choose another folder") from error
        write_atomically(path / COMMAND, (command + "\n").encode())
        _write_config(path, comparison)
        return cls(path, comparison)

    @classmethod
    def open(cls, path: Path) -> ComparisonFolder:
        """Open an existing comparison.

        Raises:
            ValueError: there is none, or its settings are damaged.
        """
        if not (path / CONFIG).is_file():
            raise ValueError(f"{path} holds no comparison: there is no {CONFIG}; give the folder of one")
        try:
            config = json.loads((path / CONFIG).read_bytes())
            lists = {name: tuple(config[name]) for name in ("methods", "phases")}
            comparison = Comparison(**{**config, **lists})
            comparison.plain_settings(0)
            return cls(path, comparison)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path / CONFIG} is damaged: {error}; compare anew in another folder") from error

    @property
    def command(self) -> str:
        """The command that began the comparison."""
        return (self.path / COMMAND).read_text(encoding="utf-8").strip()

    def network_file(self, seed: int) -> Path:
        """The network after base training on the class order of a seed."""
        return self.path / f"network-{seed}.pt"

    def features_file(self, seed: int) -> Path:
        """The features of all samples by that network."""
        return self.path / f"features-{seed}.safetensors"

    def use_device(self, device: str) -> None:
        """Go on with another device from now on; what was fought on the former one stays."""
        experiment = {**self.comparison.experiment, "device": device}
        self.comparison = replace(self.comparison, experiment=experiment)
        _write_config(self.path, self.comparison)

    def missing_bases(self) -> list[int]:
        """The seeds that lack base training, or the features that their missing contests need."""
        unfinished = {contest.seed for contest in self.missing()}
        return [
            seed
            for seed in range(self.comparison.seeds)
            if not self.base_facts(seed) or (seed in unfinished and not self.features_file(seed).exists())
        ]

    def missing(self) -> list[Contest]:
        """The contests that are not fought to their end."""
        return [contest for contest in self.comparison.contests() if not self._file(contest).exists()]

    def outcome(self, contest: Contest) -> Outcome | None:
        """How a contest ended; None where it has not.

        Raises:
            ValueError: its file is damaged.
        """
        file = self._file(contest)
        if not file.exists():
            failure = self._failure_file(contest)
            return Outcome([], [], False, failure.read_text(encoding="utf-8"), {}) if failure.exists() else None
        try:
            content = json.loads(file.read_bytes())
            records = phase_records({"event": "phase", **phase} for phase in content["phases"])
            return Outcome(
                records,
                content["kept_bytes"],
                content["keeps_data"],
                None,
                content["environment"],
                content["extraction_seconds"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is damaged: {error}; delete it and go on with --resume") from error

    def write(self, contest: Contest, content: Mapping[str, Any]) -> None:
        """Put a contest that was fought on disk."""
        write_atomically(self._file(contest), json.dumps(content).encode())
        self._failure_file(contest).unlink(missing_ok=True)

    def write_failure(self, contest: Contest, error: str) -> None:
        """Put on disk why a method failed; the contest is still missing."""
        write_atomically(self._failure_file(contest), error.encode())

    def base_facts(self, seed: int) -> dict[str, Any]:
        """Accuracy and seconds of base training, and seconds to extract a sample's features; empty before it.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.path / f"base-{seed}.json"
        if not file.exists():
            return {}
        try:
            return dict(json.loads(file.read_bytes()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is damaged: {error}; compare anew in another folder") from error

    def write_base_facts(self, seed: int, facts: Mapping[str, Any]) -> None:
        """Put them on disk; network and features are there by then."""
        write_atomically(self.path / f"base-{seed}.json", json.dumps(facts).encode())

    def _file(self, contest: Contest) -> Path:
        return self.path / CONTESTS / f"{contest.name}.json"

    def _failure_file(self, contest: Contest) -> Path:
        return self.path / CONTESTS / f"{contest.name}.error"


def _write_config(path: Path, comparison: Comparison) -> None:
    write_atomically(path / CONFIG, (json.dumps(asdict(comparison), indent=2) + "\n").encode())
