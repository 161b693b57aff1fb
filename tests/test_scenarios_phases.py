"""Phases: every class comes exactly once, and the benchmark is what the phases say."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acil.scenarios import LabelledTensors, class_incremental, phase_classes


@given(st.integers(1, 200), st.integers(1, 60), st.none() | st.integers(0, 200), st.integers(0, 9))
def test_every_class_comes_exactly_once_and_increments_differ_by_at_most_one(
    num_classes: int, phases: int, base: int | None, seed: int
) -> None:
    try:
        dealt = phase_classes(num_classes, phases, base, seed, uneven=True)
    except ValueError:
        rest = num_classes - ((num_classes + 1) // 2 if base is None else base)
        assert rest < phases  # the only reason to refuse an uneven spread
        return
    assert sorted(label for classes in dealt for label in classes) == list(range(num_classes))
    increments = [len(classes) for classes in dealt[-phases:]]
    assert len(dealt) == phases + (base != 0)
    assert min(increments) >= 1
    assert max(increments) - min(increments) <= 1
    assert all(type(label) is int for classes in dealt for label in classes)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 30), st.integers(0, 99))
def test_phases_that_divide_are_equal(phases: int, size: int, base: int, seed: int) -> None:
    num_classes = base + phases * size
    dealt = phase_classes(num_classes, phases, base, seed)
    assert [len(classes) for classes in dealt] == [base] * (base > 0) + [size] * phases
    assert dealt == phase_classes(num_classes, phases, base, seed, uneven=True)


def test_the_seed_alone_fixes_the_order() -> None:
    def order(phases: int, seed: int) -> list[int]:
        return [label for classes in phase_classes(100, phases, seed=seed) for label in classes]

    assert order(5, 1) == order(5, 1) == order(25, 1)
    assert order(5, 1) != order(5, 2)


def test_the_base_is_half_by_default_and_all_without_phases() -> None:
    assert [len(classes) for classes in phase_classes(100, 10)] == [50] + [5] * 10
    assert [len(classes) for classes in phase_classes(7, 3)] == [4, 1, 1, 1]
    assert [len(classes) for classes in phase_classes(10, 0)] == [10]
    assert [len(classes) for classes in phase_classes(10, 0, base_classes=10)] == [10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "at least one class, got 0"),
        ((10, -1), "0 or more, got -1"),
        ((10, 2, 11), "0 to 10 classes, got 11"),
        ((10, 2, -1), "0 to 10 classes, got -1"),
        ((10, 0, 6), "4 classes after a base phase of 6 would be in no phase"),
        ((10, 0, 0), "10 classes in all would be in no phase"),
        ((10, 6), "6 phases need at least 6 classes, but there are 5"),
        ((10, 1, 10), "there are 0 after a base phase of 10"),
        ((100, 7), r"these numbers of phases work: 1, 2, 5, 10, 25, 50\. .*uneven"),
        ((10, 3, 0), r"these numbers of phases work: 1, 2, 5, 10\."),
    ],
)
def test_classes_that_cannot_be_dealt_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phase_classes(*arguments)


def rows(labels: list[int]) -> LabelledTensors:
    """Feature rows whose first value is the label."""
    targets = torch.tensor(labels)
    return LabelledTensors(torch.stack([targets.float(), torch.ones(len(labels))], 1), targets)


TRAIN, TEST = rows([k % 8 for k in range(32)]), rows([k % 8 for k in range(16)])

# Avalanche imports qpsolvers, which warns on import when no solver is installed; none is needed here.
quiet_solvers = pytest.mark.filterwarnings("ignore:no QP solver found:UserWarning")


@quiet_solvers
def test_the_benchmark_serves_the_phases_with_the_labels_of_the_data() -> None:
    benchmark = class_incremental(TRAIN, TEST, phases=3, base_classes=2, seed=4)
    dealt = phase_classes(8, 3, 2, 4)
    for stream, per_class in ((benchmark.train_stream, 4), (benchmark.test_stream, 2)):
        served = [sorted(experience.classes_in_this_experience) for experience in stream]
        assert served == [sorted(classes) for classes in dealt]
        for experience in stream:
            assert experience.task_labels == [0]
            assert len(experience.dataset) == per_class * len(experience.classes_in_this_experience)
            for row, label, task in experience.dataset:
                assert label in experience.classes_in_this_experience
                assert (row[0], task) == (label, 0)


@quiet_solvers
def test_the_benchmark_takes_labels_with_gaps_and_any_data_set_with_targets() -> None:
    class Data(torch.utils.data.Dataset):
        targets = [3, 9, 3, 9, 40, 40]  # noqa: RUF012

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1), self.targets[index]

    benchmark = class_incremental(Data(), Data(), phases=3, base_classes=0)
    assert sorted(c for e in benchmark.train_stream for c in e.classes_in_this_experience) == [3, 9, 40]


@quiet_solvers
def test_building_leaves_every_global_random_state_as_it_was() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    class_incremental(TRAIN, TEST, phases=2, seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_classes_of_one_part_only_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 stand in one only \(label 8 in the test set\)"):
        class_incremental(TRAIN, rows([*range(9)]), phases=2)
    with pytest.raises(ValueError, match=r"label 7 in the training set"):
        class_incremental(TRAIN, rows([*range(7)]), phases=2)
    with pytest.raises(ValueError, match="attribute `targets`, which list lacks"):
        class_incremental([1, 2], TEST, phases=2)


@quiet_solvers
# Nothing is logged on purpose: the metrics are read from what `eval` returns.
@pytest.mark.filterwarnings("ignore:No loggers specified:UserWarning")
def test_every_kind_of_avalanche_metric_accepts_the_streams() -> None:
    from avalanche.evaluation import metrics
    from avalanche.training import Naive
    from avalanche.training.plugins import EvaluationPlugin

    model = torch.nn.Linear(2, 8)
    evaluator = EvaluationPlugin(
        metrics.accuracy_metrics(stream=True, experience=True),
        metrics.topk_acc_metrics(top_k=3, stream=True),
        metrics.class_accuracy_metrics(stream=True),
        metrics.amca_metrics(),
        metrics.confusion_matrix_metrics(num_classes=8, stream=True, save_image=True),
        metrics.forgetting_metrics(stream=True),
        metrics.labels_repartition_metrics(on_train=True, on_eval=True),
        loggers=[],
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    strategy = Naive(model=model, optimizer=optimizer, train_mb_size=8, evaluator=evaluator)
    benchmark = class_incremental(TRAIN, TEST, phases=2, base_classes=4)
    for experience in benchmark.train_stream:
        strategy.train(experience)
        results = strategy.eval(benchmark.test_stream)
    assert any(name.startswith("Topk_3_Acc_Stream") for name in results)
    assert sum(name.startswith("Top1_ClassAcc_Stream") for name in results) == 8
    assert any(name.startswith("ConfusionMatrix_Stream") for name in results)
