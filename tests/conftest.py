"""What the tests of strategies share: tiny images, learners, and the law that incremental equals joint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from acil import AnalyticLearner, ExactHead, RandomBuffer, RecursiveHead

SIDE, DIM = 6, 64

THIRD_PARTY_WARNINGS = (
    "no QP solver found on your system",  # Avalanche imports qpsolvers for GEM, which is not used here
    "No loggers specified, metrics will not be logged",  # the tests read metrics from what eval returns
)


def pytest_configure(config: pytest.Config) -> None:
    for message in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


class Patches(Dataset[tuple[Tensor, int]]):
    """Images (1, 6, 6) that are a pattern of their class plus noise; separable, and equal for equal seeds."""

    def __init__(self, classes: Sequence[int], per_class: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        patterns = torch.rand(100, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        self.targets = [label for _ in range(per_class) for label in classes]
        noise = torch.rand(len(self.targets), 1, SIDE, SIDE, generator=generator)
        self.images = 0.7 * patterns[self.targets] + 0.3 * noise

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


@pytest.fixture
def patches() -> type[Patches]:
    return Patches


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny products take longer to share than to do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def learner(one_thread: None) -> AnalyticLearner:
    return small_learner(ExactHead)


@pytest.fixture(params=[ExactHead, RecursiveHead], ids=["exact", "recursive"])
def any_learner(request: pytest.FixtureRequest, one_thread: None) -> AnalyticLearner:
    return small_learner(request.param)


@pytest.fixture
def equals_joint() -> Callable[..., None]:
    return assert_equals_joint


@pytest.fixture
def splits(patches: type[Patches]) -> Any:
    """An Avalanche benchmark of 8 classes in 4 experiences, made by Avalanche."""
    from avalanche.benchmarks.scenarios.deprecated.generators import nc_benchmark

    train, test = patches(range(8), 12), patches(range(8), 4, seed=5)
    return nc_benchmark(train, test, n_experiences=4, task_labels=False, shuffle=False)


def small_backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())


def small_learner(head: type[ExactHead] | type[RecursiveHead]) -> AnalyticLearner:
    return AnalyticLearner(small_backbone(), RandomBuffer(64, DIM), head(DIM), batch_size=32)


def assert_equals_joint(learner: AnalyticLearner, *datasets: Patches) -> None:
    """Assert that the learner is what learning all samples in one call, in another order, gives."""
    images, labels = samples(datasets)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(7))
    joint = learner.fresh()
    joint.learn(images[order], labels[order])
    assert learner.classes.tolist() == joint.classes.tolist()
    assert learner.head.counts.tolist() == joint.head.counts.tolist()
    if isinstance(learner.head, ExactHead):
        assert learner.digest() == joint.digest()
        assert torch.equal(learner.head.weight, joint.head.weight)
    torch.testing.assert_close(learner.head.weight, joint.head.weight, rtol=0, atol=1e-8)


def samples(datasets: Sequence[Patches]) -> tuple[Tensor, Tensor]:
    images = torch.cat([dataset.images for dataset in datasets])
    return images, torch.tensor([label for dataset in datasets for label in dataset.targets])


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Avalanche draws confusion matrices and leaves the figures open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
