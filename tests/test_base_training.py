"""Base training learns, follows its schedule, augments, and survives a kill to the bit."""

import io
import pickle
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from avalanche.core import BaseSGDPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import (
    EvaluationPlugin,
    EWCPlugin,
    GDumbPlugin,
    LwFPlugin,
    ReplayPlugin,
    SupervisedPlugin,
)
from torch import Tensor, nn

from acil.backbones import create_backbone
from acil.losses import LogitClip, LogitNorm, create_loss
from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies.augmentation import AffineAugmentation, CropFlipAugmentation, augmentation_plugins
from acil.strategies.base_training import BaseTraining, base_training, classifier_accuracy
from acil.strategies.checkpoint import EpochCheckpoint
from acil.strategies.open_set import ODNLPlugin, OpenSamplingPlugin, OpenSetPlugin
from acil.strategies.progress import EpochProgress

CLASSES = 4

pytestmark = pytest.mark.usefixtures("one_thread")


def quarters(labels: Sequence[int] = range(CLASSES)) -> Any:
    """An experience of four classes of 12x12 images, each bright in its own quarter."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(80) % CLASSES
    images = torch.randint(0, 100, (80, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for index, label in enumerate(targets.tolist()):
        images[index, 0, 6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += 120
    data = LabelledTensors(images, torch.tensor(labels)[targets])
    return class_incremental(data, data, phases=0).train_stream[0]


@pytest.fixture(scope="module")
def experience() -> Any:
    return quarters()


def trainer(
    epochs: int = 4, plugins: tuple[BaseSGDPlugin, ...] = (), classes: Iterable[int] = range(CLASSES), **options: Any
) -> BaseTraining:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    backbone = create_backbone("resnet20", channels=1)
    options = {"learning_rate": 0.05, "augmentation": "affine", **options}
    return base_training(backbone, classes, epochs=epochs, plugins=plugins, **{"batch_size": 16, **options})


def weights(training: BaseTraining) -> list[Tensor]:
    return [tensor.clone() for tensor in training.model.state_dict().values()]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


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


class Pickled(BaseSGDPlugin):
    """Sends the data through a pickle, as a new process is given them."""

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        strategy.adapted_dataset = pickle.loads(pickle.dumps(strategy.adapted_dataset))


def test_it_learns(experience: Any) -> None:
    training = trainer(epochs=6, augmentation="none")
    training.train(experience, eval_streams=[])
    assert classifier_accuracy(training, experience.dataset) > 0.9


@pytest.mark.parametrize(
    "criterion",
    [nn.CrossEntropyLoss(label_smoothing=0.1), LogitClip(), LogitNorm(), create_loss("nce+agce")],
    ids=lambda criterion: type(criterion).__name__,
)
@pytest.mark.parametrize("open_set", [ODNLPlugin, OpenSamplingPlugin])
def test_the_numbers_of_the_classes_do_not_matter(criterion: nn.Module, open_set: type[OpenSetPlugin]) -> None:
    foreign = torch.randint(0, 256, (30, 1, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    trained, accuracies = [], []
    for labels in (range(CLASSES), [8, 17, 34, 99]):  # Avalanche sorts items by class, in the order of a set
        phase = quarters(labels)
        plugins = (open_set(foreign, eta=1.0),)
        training = trainer(epochs=2, plugins=plugins, classes=labels, criterion=criterion)
        training.train(phase, eval_streams=[])
        trained.append(weights(training))
        accuracies.append(classifier_accuracy(training, phase.dataset))
    assert same(*trained)
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize(
    "plugin",
    [lambda: EWCPlugin(1.0), lambda: LwFPlugin(1.0, 2.0), lambda: ReplayPlugin(20), lambda: GDumbPlugin(40)],
    ids=["EWC", "LwF", "Replay", "GDumb"],
)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_plugins_see_the_numbers_that_the_network_has(plugin: Callable[[], SupervisedPlugin]) -> None:
    phase = quarters([3, 17, 18, 99])
    training = trainer(epochs=1, plugins=(plugin(),), classes=[3, 17, 18, 99])
    for _ in range(2):
        training.train(phase, eval_streams=[])
    assert set(phase.dataset.targets) == set(phase.classes_in_this_experience) == {3, 17, 18, 99}


def test_data_reach_workers_however_they_are_started() -> None:
    phase = quarters([3, 17, 18, 99])
    trained = []
    for plugins in ((), (Pickled(),)):
        training = trainer(epochs=1, classes=[3, 17, 18, 99], plugins=plugins)
        training.train(phase, eval_streams=[])
        trained.append(weights(training))
    assert same(*trained)


def test_avalanche_evaluates_by_the_same_numbers() -> None:
    phase = quarters([3, 17, 18, 99])
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[BaseLogger()])
    training = trainer(epochs=6, classes=[99, 3, 18, 17], augmentation="none", evaluator=evaluator)
    training.train(phase, eval_streams=[])
    metrics = training.eval(phase)
    expected = classifier_accuracy(training, phase.dataset)
    assert expected > 0.9
    assert next(iter(metrics.values())) == pytest.approx(expected)


def test_labels_of_other_classes_are_refused_before_training(experience: Any) -> None:
    training = trainer(classes=[0, 1, 7, 9])
    before = weights(training)
    with pytest.raises(ValueError, match=r"label 2 is none of the classes of base training, which are \[0, 1, 7, 9\]"):
        training.train(experience, eval_streams=[])
    assert same(weights(training), before)


@pytest.mark.parametrize("classes", [[], [-1, 0], [0.5, 1], ["a", 1], 4])
def test_classes_must_be_labels(classes: Any) -> None:
    with pytest.raises(ValueError, match=r"classes must be .*label"):
        trainer(classes=classes)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes at least"):
        trainer(classes=[7])


@pytest.mark.parametrize("classes", [np.array([3, 0, 3]), torch.tensor([0, 3]), {3, 0}])
def test_any_kind_of_integers_are_labels(classes: Any) -> None:
    assert trainer(classes=classes).model.classes.tolist() == [0, 3]


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_the_rate_follows_the_schedule_over_all_epochs(schedule: str, experience: Any) -> None:
    recorded = Rates()
    trainer(epochs=3, plugins=(recorded,), schedule=schedule).train(experience, eval_streams=[])
    assert len(recorded.rates) == 15
    assert max(recorded.rates) == pytest.approx(0.05, rel=0.1)
    assert recorded.rates[-1] < 0.002
    assert (recorded.rates[0] < 0.005) == (schedule == "one-cycle")


def test_it_says_and_warns_nothing(experience: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer(epochs=1).train(experience, eval_streams=[])
    assert not warned
    assert capsys.readouterr() == ("", "")


def test_metrics_are_those_of_the_evaluator_that_is_given(experience: Any) -> None:
    evaluator = EvaluationPlugin(accuracy_metrics(epoch=True), loggers=[BaseLogger()])
    metrics = trainer(epochs=1, evaluator=evaluator).train(experience, eval_streams=[])
    assert any(name.startswith("Top1_Acc_Epoch") for name in metrics)


@pytest.fixture(scope="module")
def undisturbed(experience: Any) -> list[Tensor]:
    """Weights after four epochs that nothing disturbed."""
    torch.set_num_threads(1)  # module fixtures come before `one_thread`
    training = trainer()
    training.train(experience, eval_streams=[])
    return weights(training)


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(
    cut: int, experience: Any, undisturbed: list[Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        trainer(plugins=(PowerCut(cut), EpochCheckpoint(file))).train(experience, eval_streams=[])
    torch.manual_seed(99)  # a new process starts elsewhere
    done: list[float] = []
    resumed = trainer(plugins=(EpochProgress(done.append), EpochCheckpoint(file)))
    resumed.train(experience, eval_streams=[])
    assert same(weights(resumed), undisturbed)
    assert done[0] == pytest.approx(cut + 0.2)
    assert done[-1] == pytest.approx(4)
    assert resumed.train_epochs == 4


def test_a_resumed_training_may_be_interrupted_and_called_again(
    experience: Any, undisturbed: list[Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        trainer(plugins=(PowerCut(2), EpochCheckpoint(file))).train(experience, eval_streams=[])
    cut = PowerCut(1)
    resumed = trainer(plugins=(cut, EpochCheckpoint(file)))
    with pytest.raises(KeyboardInterrupt):
        resumed.train(experience, eval_streams=[])
    cut.epoch = -1
    resumed.train(experience, eval_streams=[])
    assert same(weights(resumed), undisturbed)
    assert resumed.train_epochs == 4


def test_a_finished_training_trains_no_more(experience: Any, tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    first = trainer(plugins=(EpochCheckpoint(file),))
    first.train(experience, eval_streams=[])
    again = trainer(plugins=(EpochCheckpoint(file),))
    again.train(experience, eval_streams=[])
    assert same(weights(first), weights(again))


@pytest.fixture(scope="module")
def file_of_one_epoch(experience: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("run") / "training.pt"
    trainer(epochs=1, plugins=(EpochCheckpoint(file),)).train(experience, eval_streams=[])
    return file


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"epochs": 2}, "epochs: 1 instead of 2"),
        ({"batch_size": 20}, "iterations: 5 instead of 4"),
        ({"learning_rate": 0.01}, "lr: 0.05 instead of 0.01"),
        ({"schedule": "cosine"}, "schedules: .*OneCycle.* instead of .*Cosine"),
        ({"classes": [0, 1, 2, 3, 7]}, r"classes: \[0, 1, 2, 3\] instead of \[0, 1, 2, 3, 7\]"),
    ],
)
def test_a_file_of_another_training_is_named_and_nothing_is_restored(
    option: dict[str, Any], told: str, experience: Any, file_of_one_epoch: Path
) -> None:
    training = trainer(**{"epochs": 1, "plugins": (EpochCheckpoint(file_of_one_epoch),), **option})
    before = weights(training)
    random_state = torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"training\.pt is of a training with other settings \({told}"):
        training.train(experience, eval_streams=[])
    assert same(weights(training), before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_file_is_of_one_experience(experience: Any, tmp_path: Path) -> None:
    training = trainer(epochs=1, plugins=(EpochCheckpoint(tmp_path / "training.pt"),))
    training.train(experience, eval_streams=[])
    with pytest.raises(ValueError, match="experience: 0 instead of 1"):
        training.train(experience, eval_streams=[])


def test_a_damaged_file_is_named_and_left_alone(experience: Any, file_of_one_epoch: Path, tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    whole = file_of_one_epoch.read_bytes()
    other = io.BytesIO()
    torch.save({"state_dict": {}}, other)
    for content, told in (
        (whole[:1000], "damaged"),
        (whole[:-1], "damaged"),
        (b"", "damaged"),
        (other.getvalue(), "no checkpoint"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"training\.pt is {told}"):
            trainer(epochs=1, plugins=(EpochCheckpoint(file),)).train(experience, eval_streams=[])
        assert file.read_bytes() == content


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
    alike = plugin.augment(images[:1].expand(16, -1, -1, -1))
    assert len(alike.flatten(1).unique(dim=0)) > 4  # each sample has parameters of its own


def test_augmentation_is_for_training_only(experience: Any) -> None:
    seen: list[int] = []
    training = trainer(epochs=1)
    augmentation = next(plugin for plugin in training.plugins if isinstance(plugin, AffineAugmentation))
    augmentation.augment = lambda images: (seen.append(len(images)), images)[1]
    training.train(experience, eval_streams=[])
    assert sum(seen) == 80
    training.eval(experience)
    assert sum(seen) == 80


def test_bytes_are_augmented_like_floats() -> None:
    images = torch.randint(0, 256, (8, 1, 9, 9), dtype=torch.uint8)
    torch.manual_seed(1)
    expected = AffineAugmentation().augment(images / 255)
    torch.manual_seed(1)
    assert torch.equal(AffineAugmentation().augment(images), expected)


def test_oblong_images_turn_without_shear() -> None:
    rows, columns = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(32) - 15.5, indexing="ij")
    disc = torch.exp(-(rows**2 + columns**2) / 12).expand(8, 1, 16, 32)
    torch.manual_seed(0)
    torch.testing.assert_close(AffineAugmentation(180, 0, 0).augment(disc), disc, atol=0.05, rtol=0)


def test_no_motion_is_the_same_image() -> None:
    images = torch.rand(4, 1, 9, 9)
    torch.testing.assert_close(AffineAugmentation(0, 0, 0).augment(images), images)
    flipped = CropFlipAugmentation(padding=0).augment(images)
    assert all(torch.equal(new, old) or torch.equal(new, old.flip(2)) for new, old in zip(flipped, images, strict=True))


def test_crops_are_windows_of_the_image_with_its_border_repeated() -> None:
    images = torch.rand(1_000, 2, 6, 9)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    windows = torch.stack([padded[:, :, down:, right:][:, :, :6, :9] for down in range(5) for right in range(5)])
    windows = torch.cat([windows, windows.flip(-1)])
    torch.manual_seed(0)
    same = (windows == CropFlipAugmentation(padding=2).augment(images)).flatten(2).all(dim=2)
    assert torch.equal(same.sum(dim=0), torch.ones(1_000, dtype=torch.int64))
    assert same.any(dim=1).all()  # each of the 25 places, plain and mirrored


def test_unknown_names_are_answered_by_what_exists() -> None:
    with pytest.raises(ValueError, match="affine, crop-flip, none"):
        augmentation_plugins("mixup")
    with pytest.raises(ValueError, match="one-cycle, cosine"):
        base_training(create_backbone("resnet20"), [0, 1], epochs=1, schedule="steps")


@pytest.mark.parametrize(
    "option",
    [{"epochs": 0}, {"batch_size": -1}, {"learning_rate": float("nan")}],
)
def test_numbers_out_of_range_are_named(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be .*, got"):
        trainer(**option)
