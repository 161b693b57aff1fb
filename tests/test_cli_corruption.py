"""Label noise, imbalance and robust base training as options of ``acil run``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from acil.cli import main
from acil.cli.results import RunFolder
from acil.cli.settings import RunSettings
from acil.losses import GCE, LogitClip, LogitNorm
from acil.scenarios import DataSource, LabelledTensors, NoisyTensors, phase_classes

TINY = ("--classes", "8", "--train-per-class", "20", "--test-per-class", "5", "--epochs", "1", "--buffer-size", "64")

pytestmark = pytest.mark.usefixtures("one_thread")


def acil(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("ACIL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def settings(**changes: Any) -> RunSettings:
    """What ``acil run`` makes of its defaults, with changes."""
    run = main.commands["run"]
    names = {parameter.name for parameter in run.params} - {"output", "resume", "tensorboard"}
    defaults = {parameter.name: parameter.default for parameter in run.params if parameter.name in names}
    tiny = {"classes": 8, "train_per_class": 20, "test_per_class": 5, "phases": 2, "bits": 8, "device": "cpu"}
    missing = {name: None for name, value in defaults.items() if not isinstance(value, (int, float, str))}
    return RunSettings(**{**defaults, **missing, **tiny, **changes})


def test_noise_stays_within_the_phases_that_it_is_for() -> None:
    phases = phase_classes(8, 2, None, 0)
    phase_of = {label: place for place, classes in enumerate(phases) for label in classes}
    for corrupt, concerned in (("all", {0, 1, 2}), ("base", {0}), ("increments", {1, 2})):
        train = settings(label_noise="symmetric:0.5", corrupt=corrupt).load_data().train
        assert isinstance(train, NoisyTensors)
        wrong = (train.targets != train.true_targets).nonzero().flatten()
        pairs = {(phase_of[int(train.true_targets[i])], phase_of[int(train.targets[i])]) for i in wrong}
        assert pairs == {(place, place) for place in concerned}


def test_tails_thin_out_the_phases_that_they_are_for() -> None:
    base = phase_classes(8, 2, None, 0)[0]
    whole = torch.bincount(settings().load_data().train.targets)
    tailed = torch.bincount(settings(imbalance="exp:0.1", corrupt="base").load_data().train.targets)
    assert sorted(tailed[base].tolist()) == [2, 4, 9, 20]
    others = [label for label in range(8) if label not in base]
    assert tailed[others].tolist() == whole[others].tolist()
    everywhere = torch.bincount(settings(imbalance="step:0.1").load_data().train.targets)
    assert everywhere.tolist() == [20] * 4 + [2] * 4


def test_test_images_are_never_changed() -> None:
    clean = settings().load_data().test
    changed = settings(label_noise="open-set:0.5", foreign="blobs", imbalance="exp:0.1").load_data().test
    assert torch.equal(clean.inputs, changed.inputs)
    assert torch.equal(clean.targets, changed.targets)


def test_losses_and_logits_follow_the_options() -> None:
    assert isinstance(settings(loss="gce").criterion(), GCE)
    clipped = settings(loss="gce", logit_clip=0.5).criterion()
    assert isinstance(clipped, LogitClip)
    assert isinstance(clipped.criterion, GCE)
    assert clipped.tau == 0.5
    assert isinstance(settings(logit_norm=0.04).criterion(), LogitNorm)
    smoothed = settings(label_smoothing=0.1).criterion()
    assert isinstance(smoothed, torch.nn.CrossEntropyLoss)
    assert smoothed.label_smoothing == 0.1


def test_a_corrupted_run_is_proved_and_resumed_like_any_other(tmp_path: Path) -> None:
    options = ("--label-noise", "symmetric:0.4", "--imbalance", "exp:0.2", "--loss", "gce", "--logit-clip", "1.5",
               "--open-set", "odnl:2.5", "--foreign", "symbols")  # fmt: skip
    result = acil("run", "--phases", "2", *TINY, *options, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    config = RunFolder.open(tmp_path / "run").config
    assert (config["label_noise"], config["loss"], config["open_set"]) == ("symmetric:0.4", "gce", "odnl:2.5")
    verified = acil("verify", tmp_path / "run")
    assert verified.exit_code == 0, verified.output
    assert "equal, bit for bit" in verified.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label-noise", "symetric:0.4"), "did you mean symmetric"),
        (("--label-noise", "symmetric:40"), "rate of label noise"),
        (("--imbalance", "exp:7"), "ratio of imbalance"),
        (("--loss", "gse"), "there is no loss 'gse'"),
        (("--loss", "gce", "--label-smoothing", "0.1"), "label smoothing is for cross-entropy"),
        (("--logit-clip", "1", "--logit-norm", "0.04"), "cannot be clipped and normalised"),
        (("--open-set", "odln"), "there is no open-set method"),
        (("--open-set", "odnl", "--foreign", "folder:/nowhere"), "not a folder"),
        (("--open-set", "odnl", "--foreign", "glyphs"), "glyphs is what the run learns"),
        (("--label-noise", "open-set:0.4", "--foreign", "glyphs"), "glyphs is what the run learns"),
        (("--base-classes", "1", "--uneven"), "two classes at least"),
        (("--foreign", "symbols"), "nothing asks for foreign images; leave out --foreign"),
        (("--corrupt", "base"), "there is no label noise and no imbalance; leave out --corrupt"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = acil("run", *TINY, *options, "--phases", "2", "--output", tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def features(tmp_path: Path) -> str:
    """A source of feature rows."""
    file = tmp_path / "rows.npz"
    np.savez(file, features=np.random.default_rng(0).normal(size=(80, 12)).astype(np.float32), labels=np.arange(80) % 8)
    return f"features:{file}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "3", "--loss", "gce"), "no base training .* leave out --epochs, --loss"),
        (("--open-set", "odnl"), "no base training .* leave out --open-set"),
        (("--label-noise", "open-set:0.4"), "foreign images need a run that is given images"),
    ],
)
def test_features_are_not_trained_and_have_no_foreign_images(
    tmp_path: Path, features: str, options: tuple[str, ...], message: str
) -> None:
    for command in (("run", "--phases", "2"), ("compare", "--phases", "2", "--methods", "acil")):
        result = acil(*command, "--data", features, *options, "--output", tmp_path / "made")
        assert result.exit_code == 2, result.output
        assert re.search(message, result.stderr)
        assert not (tmp_path / "made").exists()


def test_folders_of_the_runs_own_classes_are_not_foreign(tmp_path: Path) -> None:
    for red, name in ((0, "cat"), (80, "dog"), (160, "chair")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for place in range(3):
            Image.new("RGB", (16, 16), (red, 0, place)).save(folder / f"{place}.png")
    pets = LabelledTensors(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.arange(2))
    source = DataSource("pets", pets, pets, ("cat", "dog"), "none")
    foreign = settings(foreign=f"folder:{tmp_path / 'photos'}").foreign_images(source)
    assert foreign[:, 0, 0, 0].tolist() == [160] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_of_a_gpu_is_not_resumed_without_one(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", settings(device="cuda").as_config(), "acil run")
    result = acil("run", "--resume", tmp_path / "run")
    assert result.exit_code == 2
    assert "device 'cuda' cannot be used here" in result.stderr
