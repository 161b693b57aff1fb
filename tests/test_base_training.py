"""Base training learns, follows its schedule, augments, and survives a kill to the bit."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.core import BaseSGDPlugin
from avalanche.training import Naive
from torch import Tensor

from acil.backbones import create_backbone
from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies.augmentation import AffineAugmentation, CropFlipAugmentation, augmentation_plugins
from acil.strategies.base_training import base_training, classifier_accuracy
from acil.strategies.checkpoint import EpochCheckpoint
from acil.strategies.progress import EpochProgress

OUTPUTS = 4


@pytest.fixture(scope="module")
def experience() -> Any:
    """Four classes of 12x12 images, each bright in its own quarter."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(160) % OUTPUTS
    images = torch.randint(0, 100, (160, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for index, label in enumerate(targets.tolist()):
        images[index, 0, 6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += 120
    data = LabelledTensors(images, targets)
    return class_incremental(data, data, phases=0).train_stream[0]


def trainer(epochs: int = 4, plugins: tuple[BaseSGDPlugin, ...] = (), **options: Any) -> Naive:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    backbone = create_backbone("resnet20", channels=1)
    options = {"learning_rate": 0.05, "augmentation": "affine", **options}
    return base_training(backbone, OUTPUTS, epochs=epochs, batch_size=32, plugins=plugins, **options)


def weights(training: Naive) -> list[Tensor]:
    return [tensor.clone() for tensor in training.model.state_dict().values()]


class Rates(BaseSGDPlugin):
    """Records the learning rate of every iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.rates.append(strategy.optimizer.param_groups[0]["lr"])


class PowerCut(BaseSGDPlugin):
    """Ends the training in the midst of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs == self.epoch and strategy.clock.train_epoch_iterations == 2:
            raise KeyboardInterrupt


def test_it_learns(experience: Any) -> None:
    training = trainer(epochs=6, augmentation="none")
    training.train(experience, eval_streams=[])
    assert classifier_accuracy(training, experience.dataset) > 0.9


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_the_rate_follows_the_schedule_over_all_epochs(schedule: str, experience: Any) -> None:
    recorded = Rates()
    trainer(epochs=3, plugins=(recorded,), schedule=schedule).train(experience, eval_streams=[])
    assert len(recorded.rates) == 15
    assert max(recorded.rates) == pytest.approx(0.05, rel=0.1)
    assert recorded.rates[-1] < 0.002
    assert (recorded.rates[0] < 0.005) == (schedule == "one-cycle")


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(cut: int, experience: Any, tmp_path: Path) -> None:
    undisturbed = trainer()
    undisturbed.train(experience, eval_streams=[])
    file = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        trainer(plugins=(PowerCut(cut), EpochCheckpoint(file))).train(experience, eval_streams=[])
    torch.manual_seed(99)  # a new process starts elsewhere
    done: list[float] = []
    resumed = trainer(plugins=(EpochProgress(done.append), EpochCheckpoint(file)))
    resumed.train(experience, eval_streams=[])
    assert all(torch.equal(one, other) for one, other in zip(weights(undisturbed), weights(resumed), strict=True))
    assert done[0] == pytest.approx(cut + 0.2)
    assert done[-1] == pytest.approx(4)
    assert resumed.train_epochs == 4


def test_a_finished_training_trains_no_more(experience: Any, tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    first = trainer(plugins=(EpochCheckpoint(file),))
    first.train(experience, eval_streams=[])
    again = trainer(plugins=(EpochCheckpoint(file),))
    again.train(experience, eval_streams=[])
    assert all(torch.equal(one, other) for one, other in zip(weights(first), weights(again), strict=True))


def test_a_file_of_another_training_or_a_damaged_one_is_named(experience: Any, tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    trainer(epochs=1, plugins=(EpochCheckpoint(file),)).train(experience, eval_streams=[])
    with pytest.raises(ValueError, match=r"training\.pt is of a training with other settings"):
        trainer(epochs=2, plugins=(EpochCheckpoint(file),)).train(experience, eval_streams=[])
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"training\.pt is damaged"):
        trainer(epochs=1, plugins=(EpochCheckpoint(file),)).train(experience, eval_streams=[])


@pytest.mark.parametrize("plugin", [AffineAugmentation(), CropFlipAugmentation()])
def test_augmentation_keeps_shape_and_range_and_follows_the_seed(plugin: Any) -> None:
    images = torch.rand(16, 3, 20, 24)
    kept = images.clone()
    torch.manual_seed(1)
    one = plugin.augment(images)
    torch.manual_seed(1)
    assert torch.equal(plugin.augment(images), one)
    assert one.shape == images.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert not torch.equal(one, images)
    assert torch.equal(images, kept)


def test_no_motion_is_the_same_image() -> None:
    images = torch.rand(4, 1, 9, 9)
    torch.testing.assert_close(AffineAugmentation(0, 0, 0).augment(images), images)
    flipped = CropFlipAugmentation(padding=0).augment(images)
    assert all(torch.equal(new, old) or torch.equal(new, old.flip(2)) for new, old in zip(flipped, images, strict=True))


def test_unknown_names_are_answered_by_what_exists() -> None:
    with pytest.raises(ValueError, match="affine, crop-flip, none"):
        augmentation_plugins("mixup")
    with pytest.raises(ValueError, match="one-cycle, cosine"):
        base_training(create_backbone("resnet20"), 2, epochs=1, schedule="steps")
