"""Methods by name: from the engine and as Avalanche strategies."""

from pathlib import Path

import pytest
import torch
from torch import nn

from acil import AnalyticLearner, RecursiveHead, create_learner
from acil.backbones import create_backbone
from acil.methods import METHODS


def samples(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(120) % 4
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(9))[labels] * 2 + torch.randn(
        120, 10, generator=generator
    ), labels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [8, 16])
def test_every_method_learns_saves_and_loads(method: str, bits: int, tmp_path: Path) -> None:
    learner = create_learner(nn.Identity(), method=method, buffer_size=64, bits=bits, num_features=10)
    learner.learn(*samples())
    features, labels = samples(seed=1)
    assert (learner.predict(features) == labels).float().mean() > 0.9
    learner.save(tmp_path / "model.safetensors")
    again = AnalyticLearner.load(tmp_path / "model.safetensors", nn.Identity())
    assert torch.equal(again.predict(features), learner.predict(features))
    assert torch.equal(again.head.weight, learner.head.weight)


@pytest.mark.parametrize("method", ["acil", "fourier", "lda", "gkeal"])
@pytest.mark.parametrize("bits", [8, 16])
def test_phase_by_phase_equals_jointly_whatever_the_buffer_layer(method: str, bits: int) -> None:
    joint = create_learner(nn.Identity(), method=method, buffer_size=64, bits=bits, num_features=10)
    features, labels = samples()
    joint.calibrate(features)
    phased = joint.fresh()
    joint.learn(features, labels)
    for part in torch.randperm(120, generator=torch.Generator().manual_seed(0)).split(13):
        phased.learn(features[part], labels[part])
    assert phased.digest() == joint.digest()
    assert torch.equal(phased.head.weight, joint.head.weight)
    phased.forget(features[:50], labels[:50])
    rest = joint.fresh()
    rest.learn(features[50:], labels[50:])
    assert phased.digest() == rest.digest()


def test_sixteen_bits_are_nearer_to_float64_than_eight() -> None:
    features, labels = samples()
    weights = []
    for options in ({"recursive": True}, {"bits": 8}, {"bits": 16}):
        learner = create_learner(
            nn.Identity(),
            method="acil",
            buffer_size=40,
            gamma=1.0,
            num_features=10,
            **options,  # type: ignore[arg-type]
        )
        learner.learn(features, labels)
        weights.append(learner.head.weight)
    exact, eight, sixteen = weights
    assert (sixteen - exact).norm() < (eight - exact).norm() / 20


def test_the_recursion_takes_the_place_of_the_exact_head_only() -> None:
    learner = create_learner(nn.Identity(), method="gkeal", gamma=0.1, recursive=True, num_features=10, buffer_size=8)
    assert isinstance(learner.head, RecursiveHead)
    with pytest.raises(ValueError, match="has no recursion"):
        create_learner(nn.Identity(), method="ds-al", gamma=0.1, recursive=True, num_features=10)
    with pytest.raises(ValueError, match="give a number"):
        create_learner(nn.Identity(), method="acil", recursive=True, num_features=10)


def test_a_method_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="did you mean gkeal"):
        create_learner(nn.Identity(), method="gkael", num_features=10)


def test_the_number_of_features_is_known_of_our_backbones_only() -> None:
    assert create_learner(create_backbone("convnet", channels=1)).buffer.in_features == 640
    with pytest.raises(ValueError, match="num_features"):
        create_learner(nn.Identity())


@pytest.mark.parametrize(
    ("image_shape", "batch_size"),
    [(None, 128), ((10,), 128), ((3, 64, 64), 128), ((3, 64, 65), 16), ((1, 224, 224), 16)],
)
def test_large_images_pass_in_smaller_batches(image_shape: tuple[int, ...] | None, batch_size: int) -> None:
    learner = create_learner(nn.Flatten(), buffer_size=16, num_features=10, image_shape=image_shape)
    assert learner.batch_size == batch_size
