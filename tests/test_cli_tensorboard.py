"""``acil run --tensorboard``: the figures of the run, and no other run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acil.cli import main

SETTINGS = ("--classes", 6, "--train-per-class", 12, "--test-per-class", 6, "--epochs", 2, "--buffer-size", 64)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard"),
]


def acil(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    log = EventAccumulator(str(run / "tensorboard")).Reload()
    return {name: [(point.step, point.value) for point in log.Scalars(name)] for name in log.Tags()["scalars"]}


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logged") / "run"
    acil("run", "--phases", 3, *SETTINGS, "--tensorboard", "--output", path)
    return path


def test_phases_are_logged_as_the_summary_has_them(run: Path) -> None:
    phases = summary(run)["phases"]
    assert logged(run)["phases/accuracy"] == [
        (phase["phase"], pytest.approx(phase["accuracy"], rel=1e-6)) for phase in phases
    ]
    assert logged(run)["phases/classes_seen"] == [(phase["phase"], phase["classes_seen"]) for phase in phases]


def test_every_epoch_of_base_training_is_logged(run: Path) -> None:
    epochs = {name: points for name, points in logged(run).items() if "Epoch" in name}
    assert any("Acc" in name for name in epochs)
    assert any("Loss" in name for name in epochs)
    assert all(len(points) == 2 for points in epochs.values())


def test_logging_changes_nothing(run: Path, tmp_path: Path) -> None:
    acil("run", "--phases", 3, *SETTINGS, "--output", tmp_path / "plain")
    assert not (tmp_path / "plain" / "tensorboard").exists()
    assert summary(tmp_path / "plain")["digest"] == summary(run)["digest"]


def test_a_resumed_run_goes_on_logging(tmp_path: Path) -> None:
    path = tmp_path / "run"
    acil("run", "--phases", 3, *SETTINGS, "--tensorboard", "--output", path)
    lines = (path / "events.jsonl").read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if '"event": "phase"' in line)
    (path / "events.jsonl").write_text("".join(lines[:last]))
    for file in (path / "tensorboard").iterdir():
        file.unlink()
    acil("run", "--resume", path)
    assert [step for step, _ in logged(path)["phases/accuracy"]] == [3]
