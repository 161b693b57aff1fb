"""What methods that are compared have in common: where they begin, what they are given, what they must tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from acil.strategies.base_training import ClassifierNetwork


@dataclass(frozen=True)
class Start:
    """Where every contender begins, and its budget.

    Attributes:
        network: backbone and classifier after base training; None where the data are features.
        num_features: width f of the features that contenders on features are given.
        num_classes: classes of all phases together; labels are below it.
        base_trained: whether ``network`` was trained on the first phase.
        buffer_size: width of the analytic methods' buffer layer.
        gamma: their ridge; None for the automatic choice.
        bits: of their quantised features.
        epochs: passes of gradient methods over each phase.
        learning_rate: of their SGD with momentum 0.9 on a whole network; constant.
        replay_per_class: samples of each class that replay keeps.
        augmentation: of images, as in base training.
        seed: fixes everything random.
        device: where to compute.
    """

    network: ClassifierNetwork | None
    num_features: int
    num_classes: int
    base_trained: bool
    buffer_size: int
    gamma: float | None
    bits: int
    epochs: int
    learning_rate: float
    replay_per_class: int
    augmentation: str
    seed: int
    device: str


@dataclass(frozen=True)
class Phase:
    """The samples of one phase, twice: as tensors and as an Avalanche experience.

    Attributes:
        number: 0 for the first.
        inputs: (n, f) float32 features, or (n, C, H, W) uint8 images.
        labels: (n,) int64.
        experience: the same samples, as Avalanche's strategies take them.
    """

    number: int
    inputs: Tensor
    labels: Tensor
    experience: Any


class Contender(ABC):
    """A method of class-incremental learning.

    Attributes:
        keeps_data: whether it keeps samples, or features of samples, from one phase to the next.
    """

    keeps_data = False

    @abstractmethod
    def learn(self, phase: Phase) -> None:
        """Learn the next phase, ready to classify when it returns."""

    @abstractmethod
    def scores(self, inputs: Tensor) -> Tensor:
        """(n, num_classes): the larger, the likelier; columns of classes that were not learned yet mean nothing."""

    @abstractmethod
    def kept_bytes(self) -> int:
        """What it keeps between phases, beside the weights of the network that it began with."""

    def gamma(self) -> float | None:
        """The ridge of the present weights; None for methods without one."""
        return None

    def digest(self) -> str | None:
        """Of everything learned, where the method has one."""
        return None


def size(*tensors: Tensor) -> int:
    """Bytes of tensors together."""
    return sum(tensor.nbytes for tensor in tensors)
