"""What would silently break equality with joint learning is refused, before anything is learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.core import SupervisedPlugin
from avalanche.models.packnet import PackNetPlugin
from avalanche.training import plugins
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.supervised import Naive
from avalanche.training.supervised.expert_gate import _ExpertGatePlugin
from avalanche.training.supervised.icarl import _ICaRLPlugin
from torch import nn
from torch.utils.data import DataLoader

from acil.strategies import ACIL
from acil.strategies.augmentation import BatchAugmentation
from acil.strategies.checkpoint import EpochCheckpoint
from acil.strategies.logits import LogitPlugin
from acil.strategies.normalisation import NormalisationStatistics
from acil.strategies.open_set import OpenSetPlugin
from acil.strategies.refusals import REFUSED
from acil.strategies.schedule import LearningRateSchedule


def learning_rate_plugin():
    return plugins.LRSchedulerPlugin(torch.optim.lr_scheduler.ConstantLR(sgd(nn.Linear(1, 1))))


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


PLUGINS = {
    "AGEMPlugin": lambda: plugins.AGEMPlugin(4, 4),
    "BatchAugmentation": BatchAugmentation,
    "BiCPlugin": lambda: plugins.BiCPlugin(8),
    "CWRStarPlugin": lambda: plugins.CWRStarPlugin(nn.Linear(1, 1)),
    "CoPEPlugin": plugins.CoPEPlugin,
    "CurrentDataFeCAMUpdate": plugins.CurrentDataFeCAMUpdate,
    "CurrentDataNCMUpdate": plugins.CurrentDataNCMUpdate,
    "EWCPlugin": lambda: plugins.EWCPlugin(0.1),
    "EpochCheckpoint": lambda: EpochCheckpoint(Path("unused")),
    "EarlyStoppingPlugin": lambda: plugins.EarlyStoppingPlugin(2, "test_stream"),
    "FeCAMOracle": plugins.FeCAMOracle,
    "FeatureDistillationPlugin": plugins.FeatureDistillationPlugin,
    "FromScratchTrainingPlugin": plugins.FromScratchTrainingPlugin,
    "GDumbPlugin": plugins.GDumbPlugin,
    "GEMPlugin": lambda: plugins.GEMPlugin(4, 0.5),
    "GSS_greedyPlugin": lambda: plugins.GSS_greedyPlugin(4, input_size=[1]),
    "GenerativeReplayPlugin": plugins.GenerativeReplayPlugin,
    "LFLPlugin": lambda: plugins.LFLPlugin(0.1),
    "LearningRateSchedule": lambda: LearningRateSchedule("cosine"),
    "LRSchedulerPlugin": learning_rate_plugin,
    "LwFPlugin": plugins.LwFPlugin,
    "LogitPlugin": LogitPlugin,
    "MASPlugin": plugins.MASPlugin,
    "NormalisationStatistics": NormalisationStatistics,
    "MIRPlugin": lambda: plugins.MIRPlugin(4),
    "OpenSetPlugin": lambda: OpenSetPlugin(torch.zeros(1, 1, 8, 8), eta=1.0),
    "MemoryFeCAMUpdate": plugins.MemoryFeCAMUpdate,
    "MemoryNCMUpdate": plugins.MemoryNCMUpdate,
    "NCMOracle": plugins.NCMOracle,
    "PackNetPlugin": lambda: PackNetPlugin(1),
    "RARPlugin": lambda: plugins.RARPlugin(4),
    "RWalkPlugin": plugins.RWalkPlugin,
    "ReplayPlugin": lambda: plugins.ReplayPlugin(8, storage_policy=ReservoirSamplingBuffer(8)),
    "SynapticIntelligencePlugin": lambda: plugins.SynapticIntelligencePlugin(0.1),
    "TrainGeneratorAfterExpPlugin": plugins.TrainGeneratorAfterExpPlugin,
    "_ExpertGatePlugin": _ExpertGatePlugin,
    "_ICaRLPlugin": lambda: _ICaRLPlugin(8, None, False),
}


def state_of(learner):
    return {name: tensor.clone() for name, tensor in learner.state_dict().items()}


def assert_unchanged(learner, before):
    after = learner.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.fixture
def strategy(any_learner, splits):
    """A strategy that has learned the first experience."""
    strategy = ACIL(model=any_learner, evaluator=None)
    strategy.train(splits.train_stream[0])
    return strategy


def assert_refused(strategy, experience, match, **settings):
    before = state_of(strategy.model)
    with pytest.raises(ValueError, match=match):
        strategy.train(experience, **settings)
    assert_unchanged(strategy.model, before)


def test_every_refused_plugin_is_known_to_these_tests():
    assert set(PLUGINS) == set().union(*REFUSED.values())


def test_every_plugin_of_avalanche_is_refused_or_known_to_be_harmless():
    harmless = {"EvaluationPlugin", "SupervisedPlugin"}
    names = {name for name, kind in vars(plugins).items() if isinstance(kind, type) and name[0].isupper()}
    of_avalanche = {name for name in names if hasattr(getattr(plugins, name), "after_training_exp")}
    assert of_avalanche - set(PLUGINS) == harmless - {"EvaluationPlugin"}


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_that_change_what_is_learned_are_sent_to_base_training(learner, name):
    with pytest.raises(ValueError, match=f"{name} .*give the plugin to .* passed as base_training"):
        ACIL(model=learner, evaluator=None, plugins=[PLUGINS[name]()])


def test_a_subclass_of_a_refused_plugin_is_refused(learner):
    class MyReplay(plugins.ReplayPlugin):
        pass

    with pytest.raises(ValueError, match="MyReplay serves samples again"):
        ACIL(model=learner, evaluator=None, plugins=[MyReplay()])


def test_a_plugin_added_later_is_refused_before_anything_is_learned(strategy, splits):
    strategy.plugins.append(plugins.ReplayPlugin(8))
    assert_refused(strategy, splits.train_stream[1], "ReplayPlugin .*base_training")


@pytest.mark.parametrize("epochs", [0, 2])
def test_anything_but_one_epoch_is_refused(learner, epochs):
    with pytest.raises(ValueError, match=f"train_epochs={epochs} .*base_training"):
        ACIL(model=learner, evaluator=None, train_epochs=epochs)


@pytest.mark.parametrize("epochs", [0, 2])
def test_epochs_set_later_are_refused_before_anything_is_learned(strategy, splits, epochs):
    strategy.train_epochs = epochs
    assert_refused(strategy, splits.train_stream[1], "base_training")


def test_epochs_that_a_plugin_sets_are_refused(strategy, splits):
    class TwoEpochs(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.train_epochs = 2

    strategy.plugins.append(TwoEpochs())
    assert_refused(strategy, splits.train_stream[1], "train_epochs=2")


def test_dropping_the_last_mini_batch_is_refused(strategy, splits):
    assert_refused(strategy, splits.train_stream[1], "drop_last=True", drop_last=True)


def test_loader_settings_that_drop_nothing_are_accepted(strategy, splits):
    strategy.train(splits.train_stream[1], num_workers=0, shuffle=True, pin_memory=False, drop_last=False)
    assert strategy.model.classes.tolist() == [0, 1, 2, 3]


class OtherLoader(SupervisedPlugin):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def before_training_exp(self, strategy, **kwargs):
        data = strategy.adapted_dataset
        strategy.dataloader = DataLoader(self.change(data), batch_size=5, collate_fn=data.collate_fn)


class OtherData(OtherLoader):
    def before_training_exp(self, strategy, **kwargs):
        pass

    def after_train_dataset_adaptation(self, strategy, **kwargs):
        strategy.adapted_dataset = self.change(strategy.adapted_dataset)


@pytest.mark.parametrize("plugin", [OtherLoader, OtherData])
@pytest.mark.parametrize(
    ("change", "served"),
    [(lambda data: data.concat(data.subset([0, 1])), 26), (lambda data: data.subset(range(20)), 20)],
    ids=["more", "fewer"],
)
def test_a_plugin_that_serves_other_samples_is_refused(strategy, splits, plugin, change, served):
    strategy.plugins.append(plugin(change))
    assert_refused(strategy, splits.train_stream[1], f"served {served} samples .* holds 24.*base_training")


def test_bad_samples_are_refused_and_a_good_experience_is_learned_after_that(strategy, splits, patches):
    broken = patches([2, 3], 12)
    broken.images[7, 0, 0, 0] = float("nan")
    experience = splits.train_stream[1]
    good, experience._dataset = experience._dataset, as_classification_dataset(broken)
    assert_refused(strategy, experience, "NaN")
    experience._dataset = good
    strategy.train(experience)
    assert strategy.model.classes.tolist() == [0, 1, 2, 3]


def test_base_training_of_another_backbone_is_refused(learner):
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    base_training = Naive(model=other, optimizer=sgd(other), evaluator=None)
    with pytest.raises(ValueError, match=r"must contain the very module model\.backbone"):
        ACIL(model=learner, base_training=base_training, evaluator=None)


def test_arguments_by_position_get_the_warning_of_avalanche(learner):
    with pytest.warns(UserWarning, match="named \\(keyword\\) arguments only"):
        strategy = ACIL(learner, evaluator=None)
    assert strategy.model is learner


def test_unknown_arguments_are_refused(learner):
    with pytest.raises(TypeError, match="optimizer"):
        ACIL(model=learner, optimizer=None)


def test_harmless_plugins_are_welcome(any_learner, splits, equals_joint, patches):
    class Counter(SupervisedPlugin):
        batches = 0

        def before_training_iteration(self, strategy, **kwargs):
            self.batches += 1

    counter = Counter()
    strategy = ACIL(model=any_learner, train_mb_size=12, evaluator=None, plugins=[counter])
    strategy.train(splits.train_stream)
    assert counter.batches == 8
    equals_joint(any_learner, patches(range(8), 12))
