"""Normalisation statistics after training are those of the plain training images, in any order of the classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies.normalisation import NormalisationStatistics
from acil.strategies.open_set import ODNLPlugin, OpenSetPlugin

BATCH = 50


def data() -> LabelledTensors:
    """Four classes of 200 images, each of another brightness."""
    targets = torch.arange(800) % 4
    noise = torch.randint(0, 60, (800, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    return LabelledTensors((noise + 50 * targets[:, None, None, None]).to(torch.uint8), targets)


def settle(model: nn.Module, *plugins: OpenSetPlugin) -> None:
    benchmark = class_incremental(data(), data(), phases=0)
    experience = benchmark.train_stream[0]
    strategy = SimpleNamespace(
        model=model, experience=experience, train_mb_size=BATCH, device=torch.device("cpu"), plugins=plugins
    )
    NormalisationStatistics().after_training_exp(strategy)


def test_they_are_those_of_the_images() -> None:
    layer = nn.BatchNorm2d(2)
    layer.running_mean.fill_(7)
    settle(layer)
    images = data().inputs.double() / 255
    assert torch.allclose(layer.running_mean.double(), images.mean(dim=(0, 2, 3)), atol=1e-5)
    # The variance of all images, between the classes as well: within a class it is a fifth of that.
    assert torch.allclose(layer.running_var.double(), images.var(dim=(0, 2, 3)), rtol=0.05)


def test_foreign_images_that_were_trained_beside_belong_to_them() -> None:
    layer, white = nn.BatchNorm2d(2), torch.full((3, 2, 4, 4), 255, dtype=torch.uint8)
    settle(layer, ODNLPlugin(white))
    images = torch.cat([data().inputs, white[:1].expand(800, -1, -1, -1)]).double() / 255
    assert torch.allclose(layer.running_mean.double(), images.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(layer.running_var.double(), images.var(dim=(0, 2, 3)), rtol=0.05)
    settle(layer, ODNLPlugin(white, eta=0.0))
    assert torch.allclose(layer.running_mean.double(), images[:800].mean(dim=(0, 2, 3)), atol=1e-5)


def test_they_depend_on_no_random_state_and_change_none() -> None:
    layers = [nn.BatchNorm2d(2) for _ in range(2)]
    for seed, layer in enumerate(layers):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        settle(layer)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(layers[0].running_var, layers[1].running_var)


def test_layers_without_statistics_and_weights_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3))
    weights = [weight.clone() for weight in model.parameters()]
    settle(model)
    assert all(torch.equal(one, other) for one, other in zip(weights, model.parameters(), strict=True))
    assert model[1].running_mean is None


class Failing(nn.BatchNorm2d):
    def forward(self, images: Tensor) -> Any:
        raise RuntimeError("out of memory")


def test_a_failure_leaves_the_momentum_as_it_was() -> None:
    layer = Failing(2, momentum=0.3)
    with pytest.raises(RuntimeError, match="out of memory"):
        settle(layer)
    assert layer.momentum == 0.3
