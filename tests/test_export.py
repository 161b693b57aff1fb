"""Exported classifiers answer as PyTorch does, and exporting leaves the learner alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from acil import AnalyticLearner, create_learner
from acil.backbones import create_backbone
from acil.methods import METHODS
from acil.scenarios import load_data

onnxruntime = pytest.importorskip("onnxruntime")


def learner_of(
    backbone: nn.Module, shape: tuple[int, ...], method: str = "fourier", features: int | None = None
) -> AnalyticLearner:
    made = create_learner(
        backbone, method=method, buffer_size=64, num_features=features, class_names=("a", "b", "c"), image_shape=shape
    )
    images = torch.rand(30, *shape, generator=torch.Generator().manual_seed(0))
    made.learn(images, torch.arange(30) % 3)
    return made


def answers(path: Path, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What the file says, run by its own runtime."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        logits, labels = session.run(None, {"images": images.numpy()})
        return logits, labels
    logits, labels = torch.export.load(path).module()(images)
    return logits.detach().numpy(), labels.numpy()


def assert_equal_answers(learner: AnalyticLearner, path: Path, images: Tensor) -> None:
    with torch.no_grad():
        expected = learner(images).numpy()
    logits, labels = answers(path, images)
    assert np.abs(logits - expected).max() < 1e-4
    sure = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0] > 1e-4
    assert (labels == learner.predict(images).numpy())[sure].all()


BACKBONES = {
    "convnet": (lambda: create_backbone("convnet", channels=1), (1, 32, 32), None),
    "resnet20": (lambda: create_backbone("resnet20"), (3, 32, 32), None),
    "torchvision:resnet18": (lambda: create_backbone("torchvision:resnet18"), (3, 64, 64), None),
    "own": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        (3, 16, 16),
        16,
    ),
}


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@pytest.mark.parametrize("name", BACKBONES)
def test_an_exported_file_answers_like_the_learner(name: str, suffix: str, tmp_path: Path) -> None:
    make, shape, features = BACKBONES[name]
    learner = learner_of(make(), shape, features=features)
    before = learner.digest(), learner.fingerprint()
    path = tmp_path / f"model.{suffix}"
    learner.export(path)
    assert (learner.digest(), learner.fingerprint()) == before
    for count in (1, 2, 7):  # the batch size is free
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
        assert_equal_answers(learner, path, images)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_exported(method: str, suffix: str, tmp_path: Path) -> None:
    learner = learner_of(nn.Flatten(), (1, 4, 4), method, features=16)
    learner.export(tmp_path / f"model.{suffix}")
    assert_equal_answers(learner, tmp_path / f"model.{suffix}", torch.rand(5, 1, 4, 4))


def test_real_glyphs_are_told_apart_by_the_exported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))
    source = load_data("glyphs", classes=5, train_per_class=20, test_per_class=10)
    learner = create_learner(
        create_backbone("convnet", channels=1),
        buffer_size=256,
        class_names=source.class_names,
        image_shape=source.shape,
    )
    learner.learn(source.train.inputs, source.train.targets)
    learner.export(tmp_path / "glyphs.onnx")
    images = source.test.inputs.float() / 255
    assert_equal_answers(learner, tmp_path / "glyphs.onnx", images)
    session = onnxruntime.InferenceSession(tmp_path / "glyphs.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == learner.classes.tolist()
    assert tuple(json.loads(facts["class_names"])) == source.class_names


@pytest.mark.parametrize("name", ["model.bin", "model", "model.onnx.gz"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.onnx or \.pt2"):
        learner_of(nn.Flatten(), (1, 4, 4), features=16).export(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_learner_without_classes_or_shape_is_refused(tmp_path: Path) -> None:
    learner = create_learner(nn.Flatten(), buffer_size=8, num_features=16)
    with pytest.raises(ValueError, match="image_shape"):
        learner.export(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="call learn first"):
        learner.export(tmp_path / "model.onnx", (1, 4, 4))


def test_a_snapshot_stays_as_it_is_while_the_learner_goes_on() -> None:
    learner = learner_of(nn.Flatten(), (1, 4, 4), features=16)
    images = torch.rand(10, 1, 4, 4)
    snapshot = learner.snapshot()
    logits = snapshot(images)[0].clone()
    learner.learn(images, torch.arange(10) % 2 + 3)
    learner.forget(images[:4], torch.arange(4) % 2 + 3)
    assert torch.equal(snapshot(images)[0], logits)
    assert snapshot.classes.tolist() == [0, 1, 2]
    assert learner.snapshot().classes.tolist() == [0, 1, 2, 3, 4]
