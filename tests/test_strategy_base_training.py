"""Base training: any Avalanche strategy shapes the backbone on the first experience, and never again."""

from __future__ import annotations

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import LRSchedulerPlugin
from avalanche.training.supervised import LwF, Naive, Replay
from torch import nn

from acil import AnalyticLearner, RandomBuffer
from acil.strategies import ACIL


class Experiences(SupervisedPlugin):
    """Notes the size of every experience that is trained on, and whether the backbone could learn from it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.sizes, self.trainable = [], []

    def before_training_exp(self, strategy, **kwargs):
        self.sizes.append(len(strategy.experience.dataset))
        self.trainable.append(self.backbone.training and next(self.backbone.parameters()).requires_grad)


def base_training_of(learner, kind=Naive, plugins=(), **settings):
    model = nn.Sequential(learner.backbone, nn.Linear(64, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return kind(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=2,
        evaluator=None,
        plugins=list(plugins),
        **settings,
    )


def weights_of(backbone):
    return torch.cat([parameter.detach().flatten().clone() for parameter in backbone.parameters()])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Naive, {}), (Replay, {"mem_size": 10}), (LwF, {"alpha": 1.0, "temperature": 2.0})],
    ids=["naive", "replay", "lwf"],
)
def test_any_strategy_shapes_the_backbone_on_the_first_experience_only(
    any_learner, splits, patches, equals_joint, kind, settings, recwarn
):  # recwarn: Avalanche's Replay calls what Avalanche deprecates, and shows that past every filter
    backbone = any_learner.backbone
    seen = Experiences(backbone)
    base_training = base_training_of(any_learner, kind, [seen], **settings)
    strategy = ACIL(model=any_learner, base_training=base_training, evaluator=None)
    weights = [weights_of(backbone)]
    for experience in splits.train_stream:
        strategy.train(experience)
        weights.append(weights_of(backbone))
    assert seen.sizes == [24] and seen.trainable == [True]
    assert not torch.equal(weights[0], weights[1])
    assert all(torch.equal(later, weights[1]) for later in weights[2:])
    equals_joint(any_learner, patches(range(8), 12))


def test_the_backbone_is_frozen_after_base_training(any_learner, splits):
    strategy = ACIL(model=any_learner, base_training=base_training_of(any_learner), evaluator=None)
    strategy.train(splits.train_stream[0])
    assert not any_learner.backbone.training
    for parameter in any_learner.backbone.parameters():
        assert not parameter.requires_grad and parameter.grad is None
    assert strategy.evaluate(splits.test_stream).accuracy > 0.9


def test_plugins_that_acil_refuses_work_in_base_training(learner, splits):
    base_training = base_training_of(learner)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base_training.optimizer, 2)
    base_training.plugins.append(LRSchedulerPlugin(schedule, reset_scheduler=False, reset_lr=False))
    ACIL(model=learner, base_training=base_training, evaluator=None).train(splits.train_stream)
    assert base_training.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_resumed_learner_is_not_base_trained_again(any_learner, splits):
    ACIL(model=any_learner, evaluator=None).train(splits.train_stream[0])
    before = weights_of(any_learner.backbone)
    seen = Experiences(any_learner.backbone)
    base_training = base_training_of(any_learner, plugins=[seen])
    any_learner.backbone.requires_grad_(True)
    ACIL(model=any_learner, base_training=base_training, evaluator=None).train(splits.train_stream[1:])
    assert seen.sizes == []
    assert not any(parameter.requires_grad for parameter in any_learner.backbone.parameters())
    assert torch.equal(weights_of(any_learner.backbone), before)


def test_features_from_before_base_training_are_not_used_after_it(any_learner, splits):
    base_training = base_training_of(any_learner)
    strategy = ACIL(model=any_learner, base_training=base_training, evaluator=None, eval_every=0)
    strategy.train(splits.train_stream[0], eval_streams=[splits.test_stream])
    features = strategy._features_of(splits.test_stream[0].dataset)[0][0]
    images = torch.stack([item[0] for item in splits.test_stream[0].dataset])
    assert torch.equal(features, any_learner.extract(images))


def test_settings_are_refused_before_base_training(learner, splits):
    before = weights_of(learner.backbone)
    strategy = ACIL(model=learner, base_training=base_training_of(learner), evaluator=None)
    with pytest.raises(ValueError, match="drop_last"):
        strategy.train(splits.train_stream[0], drop_last=True)
    strategy.train_epochs = 3
    with pytest.raises(ValueError, match="train_epochs=3"):
        strategy.train(splits.train_stream[0])
    assert torch.equal(weights_of(learner.backbone), before)


def test_a_backbone_is_frozen_again_when_base_training_fails(learner, splits):
    class Failure(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            raise RuntimeError("out of memory")

    base_training = base_training_of(learner, plugins=[Failure()])
    strategy = ACIL(model=learner, base_training=base_training, evaluator=None)
    with pytest.raises(RuntimeError, match="out of memory"):
        strategy.train(splits.train_stream[0])
    assert not learner.backbone.training
    assert not any(parameter.requires_grad for parameter in learner.backbone.parameters())
    assert not len(learner.classes)


def test_batch_statistics_stay_as_base_training_left_them(any_learner, splits):
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    learner = AnalyticLearner(backbone, RandomBuffer(64, 64), any_learner.head)
    strategy = ACIL(model=learner, base_training=base_training_of(learner), evaluator=None)
    strategy.train(splits.train_stream[0])
    mean = backbone[1].running_mean.clone()
    assert mean.abs().sum() > 0
    strategy.train(splits.train_stream[1:])
    assert torch.equal(backbone[1].running_mean, mean)
