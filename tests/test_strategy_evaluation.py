"""Evaluation: each test image passes the backbone once, and the numbers are those of Avalanche's metrics."""

from __future__ import annotations

import gc
import time

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin

from acil.strategies import ACIL


def strategy_of(learner, **settings):
    metrics = EvaluationPlugin(accuracy_metrics(experience=True, stream=True), loggers=[])
    return ACIL(model=learner, evaluator=metrics, **settings)


@pytest.fixture
def hard(patches):
    """A benchmark of 8 classes whose test images carry much noise, so that accuracies differ."""
    train, test = patches(range(8), 6), patches(range(8), 20, seed=5)
    noise = torch.rand(test.images.shape, generator=torch.Generator().manual_seed(2))
    test.images = test.images.lerp(noise, 0.5)
    parts = [
        [as_classification_dataset(one_of(data, {first, first + 1})) for first in range(0, 8, 2)]
        for data in (train, test)
    ]
    return benchmark_from_datasets(train=parts[0], test=parts[1])


def one_of(data, classes):
    rows = [row for row, label in enumerate(data.targets) if label in classes]
    part = type(data)([], 0)
    part.images, part.targets = data.images[rows], [data.targets[row] for row in rows]
    return part


@pytest.fixture
def images_seen(any_learner):
    """Images that went through the backbone, batch by batch."""
    seen = []
    any_learner.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    return seen


def test_each_test_image_goes_through_the_backbone_once(any_learner, splits, images_seen):
    strategy = strategy_of(any_learner)
    strategy.train(splits.train_stream[0])
    images_seen.clear()
    strategy.eval(splits.test_stream)
    assert len(images_seen) == 4  # one constant batch for the eight images of each experience
    strategy.evaluate(splits.test_stream)
    strategy.eval(splits.test_stream[:2])
    assert len(images_seen) == 4


def test_later_phases_extract_no_test_image_again(any_learner, splits, images_seen):
    strategy = strategy_of(any_learner, eval_every=0)
    for experience in splits.train_stream:
        strategy.train(experience, eval_streams=[splits.test_stream])
        strategy.eval(splits.test_stream)
        strategy.evaluate(splits.test_stream)
    assert len(images_seen) == 4 + 4  # four experiences to learn, in one mini-batch each, and four to test on


def test_evaluate_agrees_with_the_accuracies_of_avalanche(any_learner, hard):
    strategy = strategy_of(any_learner)
    for phase, experience in enumerate(hard.train_stream, start=1):
        strategy.train(experience)
        results = strategy.eval(hard.test_stream[:phase])
        name = "Top1_Acc_Stream/eval_phase/test_stream"
        assert strategy.evaluate(hard.test_stream[:phase]).accuracy == pytest.approx(results[name])
        assert strategy.evaluate(hard.test_stream).accuracy == pytest.approx(results[name])
    assert 0.2 < results[name] < 0.95


def test_the_task_by_task_matrix_is_that_of_avalanche(any_learner, hard):
    strategy = strategy_of(any_learner)
    for experience in hard.train_stream:
        strategy.train(experience)
        results, counts = strategy.eval(hard.test_stream), strategy.evaluate(hard.test_stream)
        for task, test in enumerate(hard.test_stream):
            theirs = results[f"Top1_Acc_Exp/eval_phase/test_stream/Exp{task:03}"]
            assert counts.accuracy_on(test.dataset.targets.uniques) == pytest.approx(theirs)


def test_one_experience_can_be_evaluated_and_none_is_refused(any_learner, splits):
    strategy = strategy_of(any_learner)
    strategy.train(splits.train_stream[0])
    assert strategy.evaluate(splits.test_stream[0]).total == {0: 4, 1: 4}
    assert strategy.evaluate(splits.test_stream[1]).total == {}
    with pytest.raises(ValueError, match="give at least one experience"):
        strategy.evaluate([])


def test_evaluation_changes_nothing_that_was_learned(any_learner, splits):
    strategy = strategy_of(any_learner)
    strategy.train(splits.train_stream[0])
    before = any_learner.head.weight.clone()
    strategy.eval(splits.test_stream)
    strategy.evaluate(splits.test_stream)
    assert any_learner.head.weight.equal(before)


def test_features_of_a_data_set_are_dropped_with_it(learner, patches):
    strategy = strategy_of(learner)
    addition = benchmark_from_datasets(test=[as_classification_dataset(patches([0], 4))])
    strategy.evaluate(addition.test_stream)
    assert len(strategy._extracted) == 1
    del addition
    gc.collect()
    assert len(strategy._extracted) == 0


def test_a_hundred_phases_are_evaluated_in_seconds(any_learner, patches):
    sets = {
        name: [as_classification_dataset(patches([label], size, seed)) for label in range(100)]
        for name, size, seed in (("train", 5, 0), ("test", 2, 5))
    }
    benchmark = benchmark_from_datasets(**sets)
    strategy = ACIL(model=any_learner, evaluator=None)
    seconds = 0.0
    for phase, experience in enumerate(benchmark.train_stream, start=1):
        strategy.train(experience)
        start = time.perf_counter()
        counts = strategy.evaluate(benchmark.test_stream)
        seconds += time.perf_counter() - start
        assert sum(counts.total.values()) == 2 * phase
    assert seconds < 10
