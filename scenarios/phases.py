"""Which classes come in which phase, and the Avalanche benchmark that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from avalanche.benchmarks import NCScenario


def phase_classes(
    num_classes: int, phases: int, base_classes: int | None = None, seed: int = 0, uneven: bool = False
) -> list[list[int]]:
    """Deal the classes 0..num_classes-1, in a seeded order, to a base phase and ``phases`` equal increments.

    Args:
        num_classes: how many classes there are.
        phases: how many increments follow the base phase. 0 makes one joint phase of all classes.
        base_classes: classes in the base phase. Default: half, rounded up (all where ``phases`` is 0). With 0
            there is no base phase of its own: all classes are spread over ``phases`` phases.
        seed: fixes the class order.
        uneven: let the increments differ by one class where they cannot be equal; the earlier are the larger.

    Returns:
        One list of classes for each phase. Every class is in exactly one, and no list is empty.

    Raises:
        ValueError: if the classes cannot be dealt so; classes are never dropped to make them fit.
    """
    base = _base_size(num_classes, phases, base_classes)
    rest = num_classes - base
    _check_fit(rest, base, phases, uneven)
    order = [int(label) for label in np.random.default_rng(seed).permutation(num_classes)]
    sizes = [base] if base else []
    sizes += [rest // phases + (index < rest % phases) for index in range(phases)]
    ends = np.cumsum(sizes).tolist()
    return [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def class_incremental(
    train: Any,
    test: Any,
    phases: int,
    base_classes: int | None = None,
    seed: int = 0,
    uneven: bool = False,
) -> NCScenario:
    """An Avalanche benchmark with the phases of :func:`phase_classes`.

    Labels stay as they are in the data (no remapping), the task label is 0 throughout, and every Avalanche
    metric accepts the streams. No global random state is touched.

    Args:
        train: a :class:`~acil.scenarios.LabelledTensors`, or any map-style data set with ``targets``.
        test: the same for testing; it must hold the same classes.
        phases: see :func:`phase_classes`, as for the remaining arguments.
        base_classes: classes in the base phase.
        seed: fixes the class order.
        uneven: let the increments differ by one class.

    Returns:
        A benchmark with ``train_stream`` and ``test_stream``; experience ``i`` of each has the classes of
        phase ``i`` in ``classes_in_this_experience``.

    Raises:
        ValueError: if the classes of ``train`` and ``test`` differ or cannot be dealt to the phases.
    """
    labels = _common_labels(train, test)
    dealt = phase_classes(len(labels), phases, base_classes, seed, uneven)
    # Avalanche's other generator, class_incremental_benchmark, gives streams that top-k accuracy, class
    # accuracy and confusion images reject. With a fixed order this one never draws a random number.
    from avalanche.benchmarks import nc_benchmark

    return nc_benchmark(
        train,
        test,
        n_experiences=len(dealt),
        task_labels=False,
        shuffle=False,
        fixed_class_order=[labels[index] for classes in dealt for index in classes],
        per_exp_classes={phase: len(classes) for phase, classes in enumerate(dealt)},
    )


def _base_size(num_classes: int, phases: int, base_classes: int | None) -> int:
    if num_classes < 1:
        raise ValueError(f"there must be at least one class, got {num_classes}")
    if phases < 0:
        raise ValueError(f"the number of phases must be 0 or more, got {phases}")
    if base_classes is None:
        return num_classes if phases == 0 else (num_classes + 1) // 2
    if not 0 <= base_classes <= num_classes:
        raise ValueError(f"the base phase can hold 0 to {num_classes} classes, got {base_classes}")
    return base_classes


def _check_fit(rest: int, base: int, phases: int, uneven: bool) -> None:
    """Refuse phases that the classes left after the base phase cannot fill."""
    after = f"after a base phase of {base}" if base else "in all"
    if phases == 0 and rest:
        raise ValueError(
            f"{rest} classes {after} would be in no phase; ask for at least one phase, or for a base phase "
            f"of all {base + rest} classes"
        )
    if phases > rest:
        raise ValueError(
            f"{phases} phases need at least {phases} classes, but there are {rest} {after}; ask for at most "
            f"{rest} phases, or for another base phase"
        )
    if phases and rest % phases and not uneven:
        working = ", ".join(str(count) for count in range(1, rest + 1) if rest % count == 0)
        raise ValueError(
            f"{rest} classes {after} do not divide into {phases} equal phases; these numbers of phases work: "
            f"{working}. Or spread them unevenly (uneven=True, --uneven)"
        )


def _common_labels(train: Any, test: Any) -> list[int]:
    """The labels of both data sets in ascending order."""
    train_labels, test_labels = _labels(train, "training"), _labels(test, "test")
    if only := sorted(train_labels ^ test_labels):
        where = "training" if only[0] in train_labels else "test"
        raise ValueError(
            f"the training and the test set must hold the same classes, but {len(only)} stand in one only "
            f"(label {only[0]} in the {where} set)"
        )
    return sorted(train_labels)


def _labels(data: Any, part: str) -> set[int]:
    if not hasattr(data, "targets"):
        raise ValueError(
            f"the {part} set must have its labels in an attribute `targets`, which {type(data).__name__} "
            "lacks; wrap it in LabelledTensors or add the attribute"
        )
    return {int(label) for label in np.unique(np.asarray(data.targets))}
