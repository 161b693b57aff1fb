"""The command line end to end, on a tiny glyph set."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from acil.cli import main
from acil.cli.results import RunFolder

TINY = [
    "--classes",
    "10",
    "--train-per-class",
    "12",
    "--test-per-class",
    "6",
    "--epochs",
    "1",
    "--buffer-size",
    "64",
]


def acil(*arguments: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("ACIL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed tiny run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = acil("run", "--phases", "5", *TINY, "--output", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_leaves_everything_it_promises(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.json",
        "command.txt",
        "events.jsonl",
        "phases.csv",
        "summary.json",
        "accuracy.png",
        "forgetting.png",
        "model.safetensors",
    }
    records = RunFolder.open(finished).phases()
    assert [record.phase for record in records] == list(range(6))
    assert sum(record.samples for record in records) == 120


def test_what_is_printed_stands_in_the_summary(finished: Path, tmp_path: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["config"]["phases"] == 5
    assert len(summary["phases"]) == 6
    assert 0 <= summary["last_accuracy"] <= 1


@pytest.mark.parametrize("head", ["exact", "recursive"])
def test_verify_agrees_with_the_run(head: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert acil("run", "--phases", "5", *TINY, "--head", head, "--output", folder).exit_code == 0
    result = acil("verify", folder)
    assert result.exit_code == 0, result.output
    assert ("equal, bit for bit" if head == "exact" else "within rounding") in result.output


def test_verify_exits_with_1_where_the_moments_differ(finished: Path, tmp_path: Path) -> None:
    from acil import AnalyticLearner
    from acil.serialize import load_metadata

    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    learner = AnalyticLearner.load(folder / "model.safetensors")
    learner.head.moments.cross_correlation[0, 0] += 1
    learner.save(folder / "model.safetensors", load_metadata(folder / "model.safetensors")["notes"])
    result = acil("verify", folder)
    assert result.exit_code == 1
    assert "DIFFERENT" in result.output


def test_the_number_of_phases_does_not_change_what_is_learned(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    assert acil("run", "--phases", "1", *TINY, "--output", folder).exit_code == 0
    assert RunFolder.open(folder).phases()[-1].digest == RunFolder.open(finished).phases()[-1].digest


def test_info_tells_what_a_model_holds(finished: Path) -> None:
    result = acil("info", finished / "model.safetensors")
    assert result.exit_code == 0
    for fact in ("convnet", "discriminant", "120", RunFolder.open(finished).phases()[-1].digest[:16]):
        assert fact in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--data", "glyph"], "glyphs"),
        (["run", "--backbone", "resnet21", *TINY, "--phases", "5"], "resnet20"),
        (["run", "--phases", "3", *TINY], "1, 5"),
        (["run", "--phases", "5", *TINY, "--device", "abacus"], "cpu"),
        (["run", "--phases", "5", *TINY, "--checkpoint", "missing.pt"], "missing.pt"),
        (["run", "--data", "folder:missing"], "missing"),
        (["run", "--data", "features:missing.npz"], "missing.npz"),
        (["run", "--resume", "missing"], "missing"),
        (["run", "--resume", "missing", "--phases", "5"], "--phases"),
        (["verify", "missing"], "missing"),
        (["info", "missing"], "missing"),
    ],
)
def test_bad_values_are_one_line_and_status_2(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = acil(*arguments)
    assert result.exit_code == 2
    *progress, error = result.stderr.splitlines()
    assert len(progress) < 2
    assert all(line.startswith("data: 1 of 1 in") for line in progress)
    assert told in error
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_can_be_resumed_without_harm(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    assert acil("run", "--resume", folder).exit_code == 0
    assert RunFolder.open(folder).phases() == RunFolder.open(finished).phases()


def test_a_run_never_overwrites_another(finished: Path) -> None:
    before = (finished / "events.jsonl").read_bytes()
    assert acil("run", "--phases", "5", *TINY, "--output", finished).exit_code == 2
    assert (finished / "events.jsonl").read_bytes() == before


def test_a_damaged_model_stops_a_resume_and_is_named(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    for command in (["run", "--resume", folder], ["verify", folder], ["info", model]):
        result = acil(*command)
        assert result.exit_code == 2
        assert "model.safetensors" in result.stderr


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("acil.cli.experiment._learn_phases", interrupt)
    result = acil("run", "--phases", "5", *TINY, "--output", tmp_path / "run")
    assert result.exit_code == 130
    assert f"acil run --resume {tmp_path / 'run'}" in result.stderr
    monkeypatch.undo()


def test_features_need_no_backbone(tmp_path: Path) -> None:
    import numpy as np

    labels = np.arange(80) % 8
    features = (
        np.random.default_rng(0).normal(size=(80, 12)).astype("float32") + 3 * np.eye(12, dtype="float32")[labels]
    )
    np.savez(
        tmp_path / "rows.npz",
        train_features=features,
        train_labels=labels,
        test_features=features,
        test_labels=labels,
    )
    folder = tmp_path / "run"
    options = ["--data", f"features:{tmp_path / 'rows.npz'}", "--base-classes", "0", "--buffer-size", "64"]
    assert acil("run", "--phases", "4", *options, "--output", folder).exit_code == 0
    assert acil("verify", folder).exit_code == 0
    assert len(RunFolder.open(folder).phases()) == 4
    assert RunFolder.open(folder).phases()[-1].accuracy > 0.9


def test_a_folder_of_images_runs_with_its_class_names(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for name, level in {"ant": 20, "bee": 90, "cat": 160, "dog": 230}.items():
        for part, count in {"train": 6, "test": 3}.items():
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = (level + noise.integers(0, 20, (24, 24, 3))).astype("uint8")
                Image.fromarray(pixels).save(tmp_path / "photos" / part / name / f"{index}.png")
    folder = tmp_path / "run"
    options = ["--data", f"folder:{tmp_path / 'photos'}", "--epochs", "1", "--buffer-size", "32", "--output", folder]
    assert acil("run", "--phases", "2", *options).exit_code == 0
    assert "ant bee cat dog" in acil("info", folder / "model.safetensors").output
    assert acil("verify", folder).exit_code == 0


def test_a_warning_of_the_engine_is_one_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = 1e3 * generator.random((60, 8))  # large, and fewer than the buffer layer is wide
    np.savez(tmp_path / "rows.npz", features=rows, labels=np.arange(60) % 3)
    command = [sys.executable, "-m", "acil.cli", "run", "--data", f"features:{tmp_path / 'rows.npz'}", "--phases", "1"]
    command += ["--base-classes", "0", "--gamma", "1e-6", "--buffer-size", "256", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (warning,) = {line for line in done.stderr.splitlines() if "warning" in line.lower()}
    assert warning.startswith("warning: the solve with gamma = 1e-06 is ill-conditioned")
    assert "use a gamma of" in warning
