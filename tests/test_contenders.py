"""Contenders on equal terms: where they begin, what they keep, and against oracles where there are any."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from acil.backbones import create_backbone
from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies.base_training import ClassifierNetwork
from acil.strategies.contenders import CONTENDERS, Contender, Phase, Start
from acil.strategies.contenders.gradient import Gradient

CLASSES, WIDTH, PER_CLASS = 6, 10, 40

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Call to deprecated function update"),  # Avalanche's own, in its replay
]


def features(seed: int) -> LabelledTensors:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES * PER_CLASS) % CLASSES
    means = 3 * torch.rand(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    return LabelledTensors(means[labels] + 0.3 * torch.randn(len(labels), WIDTH, generator=generator), labels)


def images(seed: int) -> LabelledTensors:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES * 8) % CLASSES
    noise = torch.randint(0, 40, (len(labels), 1, 16, 16), generator=generator)
    return LabelledTensors((noise + 35 * labels[:, None, None, None]).to(torch.uint8), labels)


def phases(data: LabelledTensors) -> Iterator[Phase]:
    """Two classes, then two, then two."""
    benchmark = class_incremental(data, data, phases=2, base_classes=2, seed=3)
    for number, experience in enumerate(benchmark.train_stream):
        members = torch.isin(data.targets, torch.tensor(sorted(experience.classes_in_this_experience)))
        yield Phase(number, data.inputs[members], data.targets[members], experience)


def network() -> ClassifierNetwork:
    torch.manual_seed(0)
    return ClassifierNetwork(create_backbone("convnet", channels=1), classes=range(4))


def start(base: ClassifierNetwork | None = None, width: int = WIDTH, base_trained: bool = False) -> Start:
    return Start(
        network=base,
        num_features=width,
        num_classes=CLASSES,
        base_trained=base_trained,
        buffer_size=64,
        gamma=1.0,
        bits=8,
        epochs=2,
        learning_rate=0.01,
        replay_per_class=5,
        augmentation="none",
        seed=0,
        device="cpu",
    )


def seen(data: LabelledTensors, contender: Contender, labels: Tensor) -> float:
    """Accuracy among the classes of ``labels``."""
    members = torch.isin(data.targets, labels)
    scores = contender.scores(data.inputs[members])[:, labels]
    return float((labels[scores.argmax(dim=1)] == data.targets[members]).float().mean())


@pytest.mark.parametrize("name", [name for name, entry in CONTENDERS.items() if not entry.on_images])
def test_contenders_on_features_score_every_class(name: str) -> None:
    contender = CONTENDERS[name].create(start())
    torch.manual_seed(0)
    for phase in phases(features(0)):
        contender.learn(phase)
    test = features(1)
    assert contender.scores(test.inputs).shape == (len(test), CLASSES)
    assert contender.kept_bytes() >= 0
    if not CONTENDERS[name].by_gradients:
        assert seen(test, contender, torch.arange(CLASSES)) > 0.95


def test_joint_training_equals_acil_after_every_phase() -> None:
    ours, joint = CONTENDERS["acil"].create(start()), CONTENDERS["joint"].create(start())
    for phase in phases(features(0)):
        ours.learn(phase)
        joint.learn(phase)
        assert ours.digest() == joint.digest()
        assert torch.equal(ours.scores(phase.inputs), joint.scores(phase.inputs))
    assert joint.keeps_data
    assert not ours.keeps_data
    assert joint.kept_bytes() > ours.kept_bytes()


def test_the_nearest_class_mean_is_the_nearest() -> None:
    data, test = features(0), features(1)
    contender = CONTENDERS["ncm"].create(start())
    for phase in phases(data):
        contender.learn(phase)
    rows = normalize(data.inputs)
    means = normalize(torch.stack([rows[data.targets == label].mean(dim=0) for label in range(CLASSES)]))
    nearest = torch.cdist(normalize(test.inputs), means).argmin(dim=1)
    assert torch.equal(contender.scores(test.inputs).argmax(dim=1), nearest)


@pytest.mark.parametrize("name", ["naive", "lwf", "ewc", "replay"])
def test_gradient_methods_begin_with_the_trained_network_and_leave_it_alone(name: str) -> None:
    data, base = images(0), network()
    before = copy.deepcopy(base.state_dict())
    contender = CONTENDERS[name].create(start(base, width=640, base_trained=True))
    torch.manual_seed(0)
    for phase in phases(data):
        contender.learn(phase)
        if phase.number == 0:
            base.eval()
            with torch.no_grad():
                assert torch.allclose(contender.scores(phase.inputs)[:, :4], base(phase.inputs), atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in base.state_dict().items())
    assert not torch.allclose(contender.scores(data.inputs)[:, :4], base(data.inputs), atol=1e-2)


@pytest.mark.parametrize("name", ["naive-head", "lwf-head", "ewc-head"])
def test_no_mini_batch_moves_weights_without_bound(name: str) -> None:
    contender = CONTENDERS[name].create(start())
    assert isinstance(contender, Gradient)
    weights = list(contender.strategy.model.parameters())
    for phase in phases(LabelledTensors(1_000 * features(0).inputs, features(0).targets)):
        before = [weight.detach().clone() for weight in weights]
        contender.learn(phase)
        moved = torch.cat([(weight - old).flatten() for weight, old in zip(weights, before, strict=True)]).norm()
        assert 0 < moved <= 2 * 0.1 * 1 / (1 - 0.9)  # two mini-batches, learning rate, gradient, momentum


@pytest.mark.parametrize(("name", "bytes_per_sample"), [("replay", 16 * 16), ("replay-head", 4 * WIDTH)])
def test_what_replay_keeps_grows_with_the_classes(name: str, bytes_per_sample: int) -> None:
    data = images(0) if name == "replay" else features(0)
    contender = CONTENDERS[name].create(start(network() if name == "replay" else None, 640 if name == "replay" else 10))
    kept = []
    for phase in phases(data):
        contender.learn(phase)
        kept.append(contender.kept_bytes())
    assert contender.keeps_data
    assert kept == [5 * classes * bytes_per_sample for classes in (2, 4, 6)]


def test_plain_fine_tuning_keeps_nothing_and_forgets() -> None:
    data = features(0)
    contender = CONTENDERS["naive-head"].create(replace(start(), epochs=40))
    torch.manual_seed(0)
    classes = []
    for phase in phases(data):
        contender.learn(phase)
        classes.append(torch.unique(phase.labels))
    assert contender.kept_bytes() == 0
    everything = torch.cat(classes).sort().values
    scores = contender.scores(data.inputs)[:, everything].argmax(dim=1)
    first = torch.isin(data.targets, classes[0])
    assert (everything[scores][first] == data.targets[first]).float().mean() < 0.5


@pytest.mark.parametrize("name", ["naive", "replay"])
def test_a_network_cannot_be_trained_on_features(name: str) -> None:
    with pytest.raises(ValueError, match="-head"):
        CONTENDERS[name].create(start())
