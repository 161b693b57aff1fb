"""The other methods as Avalanche strategies: each with the learner that its name promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from acil import DualStreamHead, ExactHead, FourierBuffer, GaussianKernelBuffer, LinearBuffer, RandomBuffer
from acil.strategies import ACIL, DSAL, GKEAL, FourierACIL


@pytest.mark.parametrize(
    ("strategy", "buffer", "head"),
    [
        (ACIL, RandomBuffer, ExactHead),
        (FourierACIL, FourierBuffer, ExactHead),
        (GKEAL, GaussianKernelBuffer, ExactHead),
        (DSAL, LinearBuffer, DualStreamHead),
    ],
)
def test_a_strategy_builds_its_learner_and_learns_a_benchmark(splits, strategy, buffer, head) -> None:
    made = strategy.from_backbone(nn.Flatten(), buffer_size=64, num_features=36, evaluator=None)
    assert type(made) is strategy
    assert type(made.model.buffer) is buffer
    assert type(made.model.head) is head
    for experience in splits.train_stream:
        made.train(experience)
    assert made.evaluate(splits.test_stream).accuracy > 0.9


@pytest.mark.parametrize("strategy", [FourierACIL, GKEAL])
def test_exact_strategies_equal_joint_learning(splits, patches, equals_joint, strategy) -> None:
    made = strategy.from_backbone(nn.Flatten(), buffer_size=64, num_features=36, evaluator=None)
    for experience in splits.train_stream:
        made.train(experience)
    equals_joint(made.model, patches(range(8), 12))


def test_the_main_stream_of_dsal_is_that_of_acil(splits) -> None:
    dsal, acil = (
        kind.from_backbone(nn.Flatten(), buffer_size=64, num_features=36, evaluator=None) for kind in (DSAL, ACIL)
    )
    for experience in splits.train_stream:
        dsal.train(experience)
        acil.train(experience)
    assert dsal.model.head.main.digest() == acil.model.digest()
    assert torch.equal(dsal.model.head.main.weight, acil.model.head.weight)
