"""The strategy learns from benchmarks that this project did not build, and equals joint learning on each."""

from __future__ import annotations

import pytest
import torch
from avalanche.benchmarks import (
    DatasetExperience,
    benchmark_from_datasets,
    class_incremental_benchmark,
    split_online_stream,
    with_task_labels,
)
from avalanche.benchmarks.scenarios.deprecated.generators import nc_benchmark, ni_benchmark
from avalanche.benchmarks.utils import DataAttribute, as_classification_dataset
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset

from acil.strategies import ACIL


def learn(learner, experiences, **settings):
    strategy = ACIL(model=learner, train_mb_size=10, evaluator=None, **settings)
    for experience in experiences:
        strategy.train(experience)
    return strategy


@pytest.fixture
def train(patches):
    return patches(range(8), 12)


@pytest.fixture
def test(patches):
    return patches(range(8), 4, seed=5)


@pytest.mark.parametrize("task_labels", [False, True])
def test_nc_benchmark_with_or_without_task_labels_equals_joint(any_learner, train, test, equals_joint, task_labels):
    benchmark = nc_benchmark(train, test, n_experiences=4, task_labels=task_labels, shuffle=False)
    strategy = learn(any_learner, benchmark.train_stream)
    equals_joint(any_learner, train)
    assert strategy.evaluate(benchmark.test_stream).accuracy > 0.9


def test_nc_benchmark_in_a_shuffled_class_order_equals_joint(any_learner, train, test, equals_joint):
    benchmark = nc_benchmark(train, test, n_experiences=4, task_labels=False, seed=3, per_exp_classes={0: 5})
    learn(any_learner, benchmark.train_stream)
    equals_joint(any_learner, train)


def test_nc_benchmark_with_class_ids_from_zero_equals_joint_on_the_new_labels(any_learner, train, test, equals_joint):
    benchmark = nc_benchmark(
        train, test, n_experiences=4, task_labels=False, seed=3, class_ids_from_zero_from_first_exp=True
    )
    learn(any_learner, benchmark.train_stream)
    train.targets = [benchmark.class_mapping[label] for label in train.targets]
    equals_joint(any_learner, train)


def test_class_ids_from_zero_in_each_experience_are_repeated_classes(any_learner, train, test, equals_joint):
    benchmark = nc_benchmark(
        train, test, n_experiences=4, task_labels=True, shuffle=False, class_ids_from_zero_in_each_exp=True
    )
    learn(any_learner, benchmark.train_stream)
    train.targets = [label % 2 for label in train.targets]
    equals_joint(any_learner, train)


@pytest.mark.parametrize("wrap", [with_task_labels, lambda benchmark: benchmark], ids=["labelled", "plain"])
def test_class_incremental_benchmark_equals_joint(any_learner, train, test, equals_joint, wrap):
    benchmark = wrap(class_incremental_benchmark({"train": train, "test": test}, num_experiences=4, seed=2))
    strategy = learn(any_learner, benchmark.train_stream)
    equals_joint(any_learner, train)
    assert strategy.evaluate(benchmark.test_stream).accuracy > 0.9


def test_data_without_task_labels_equals_joint(any_learner, train, test, equals_joint):
    sets = {"train": as_classification_dataset(train), "test": as_classification_dataset(test)}
    benchmark = class_incremental_benchmark(sets, num_classes_per_exp=[3, 4, 1], seed=2)
    assert len(benchmark.train_stream[0].dataset[0]) == 2  # image and label only
    strategy = learn(any_learner, benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    equals_joint(any_learner, train)


def test_new_instances_of_all_classes_in_every_experience_equal_joint(any_learner, train, test, equals_joint):
    benchmark = ni_benchmark(train, test, n_experiences=4, seed=1, balance_experiences=True)
    learn(any_learner, benchmark.train_stream)
    equals_joint(any_learner, train)


@pytest.mark.parametrize("boundaries", [False, True])
def test_an_online_stream_of_small_experiences_equals_joint(any_learner, train, test, equals_joint, boundaries):
    benchmark = class_incremental_benchmark({"train": train, "test": test}, num_experiences=4, seed=2)
    online = split_online_stream(benchmark.train_stream, experience_size=7, access_task_boundaries=boundaries, seed=4)
    strategy = learn(any_learner, online)
    strategy.eval(benchmark.test_stream)
    equals_joint(any_learner, train)


def test_a_whole_stream_in_one_call_equals_joint(any_learner, splits, train, equals_joint):
    ACIL(model=any_learner, evaluator=None).train(splits.train_stream)
    equals_joint(any_learner, train)


def test_data_that_did_not_exist_when_the_benchmark_was_built_is_learned(
    any_learner, splits, train, patches, equals_joint
):
    strategy = learn(any_learner, splits.train_stream)
    later, later_test = patches([40, 41], 9, seed=8), patches([40, 41], 4, seed=9)
    addition = benchmark_from_datasets(
        train=[as_classification_dataset(later)], test=[as_classification_dataset(later_test)]
    )
    strategy.train(addition.train_stream)
    equals_joint(any_learner, train, later)
    assert strategy.evaluate(addition.test_stream).accuracy == 1.0


def test_a_bare_experience_of_new_data_is_learned(any_learner, splits, train, patches, equals_joint):
    strategy = learn(any_learner, splits.train_stream)
    later = patches([3, 60], 9, seed=8)
    strategy.train(DatasetExperience(dataset=as_classification_dataset(later)), eval_streams=[])
    equals_joint(any_learner, train, later)


def test_experiences_that_mix_old_and_new_classes_equal_joint(any_learner, patches, equals_joint):
    parts = [patches(classes, 6, seed) for seed, classes in enumerate([[0, 5], [5, 2, 9], [0], [9, 1, 0]])]
    benchmark = benchmark_from_datasets(train=[as_classification_dataset(part) for part in parts])
    learn(any_learner, benchmark.train_stream)
    equals_joint(any_learner, *parts)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_the_mini_batch_size_does_not_matter(any_learner, splits, train, equals_joint, size):
    strategy = ACIL(model=any_learner, train_mb_size=size, evaluator=None)
    strategy.train(splits.train_stream)
    equals_joint(any_learner, train)


def test_tasks_of_unequal_size_in_one_experience_repeat_no_sample(any_learner, patches, equals_joint):
    train = patches([0, 1], 90)
    tasks = [0] * 162 + [1] * 18  # Avalanche's own loader would serve the 18 as often as the 162
    labels = [
        DataAttribute(train.targets, "targets"),
        DataAttribute(tasks, "targets_task_labels", use_in_getitem=True),
    ]
    benchmark = benchmark_from_datasets(train=[ClassificationDataset([train], data_attributes=labels)])
    learn(any_learner, with_task_labels(benchmark).train_stream)
    equals_joint(any_learner, train)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_strategy_learns_on_cuda(any_learner, splits, train, equals_joint):
    strategy = learn(any_learner, splits.train_stream, device="cuda")
    assert any_learner.device.type == "cuda"
    equals_joint(any_learner, train)
    assert strategy.evaluate(splits.test_stream).accuracy > 0.9
    strategy.eval(splits.test_stream)
