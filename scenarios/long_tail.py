"""Long tails: training data in which some classes have few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from acil.checks import kind_and_number
from acil.scenarios.labelled import LabelledTensors

KINDS = ("exp", "step")


def long_tailed(
    data: LabelledTensors, imbalance: str, *, seed: int = 0, classes: Sequence[int] | None = None
) -> LabelledTensors:
    """Thin out classes, so that their sizes fall from the first to the last.

    ``exp:RHO`` leaves class j of K with ``int(n_max * RHO^(j / (K - 1)))`` samples, ``step:RHO`` leaves the second half
    of the classes with ``int(n_max * RHO)``; n_max is the size of the largest class. No class gets more samples than it
    has, nor fewer than one.

    Args:
        data: the samples.
        imbalance: kind, and size of the smallest class over that of the largest, such as "exp:0.01".
        seed: chooses the samples that stay.
        classes: from the largest to the smallest; None for all, in the order of their labels. Others stay whole.

    Raises:
        ValueError: there is no such imbalance, the ratio is not in 0..1, or a class has no sample.

    References:
        Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019, section 4.
    """
    kind, ratio = _parse(imbalance)
    present = np.unique(data.targets.numpy()).tolist()
    order = present if classes is None else [int(label) for label in classes]
    if missing := [label for label in order if label not in present]:
        raise ValueError(f"class {missing[0]} has no sample; leave it out of classes")
    if len(set(order)) < len(order):
        raise ValueError("a class is named twice in classes; name it once")
    kept = np.ones(len(data), dtype=bool)
    rng = np.random.default_rng(seed)
    targets = data.targets.numpy()
    places = {label: rng.permutation(np.flatnonzero(targets == label)) for label in order}
    largest = max((len(of_class) for of_class in places.values()), default=0)
    for label, size in zip(order, _sizes(kind, ratio, largest, len(order)), strict=True):
        kept[places[label][size:]] = False
    return data.subset(torch.from_numpy(np.flatnonzero(kept)))


def shot_groups(counts: Mapping[int, int]) -> dict[str, list[int]]:
    """Classes with many, a medium number of and few training samples: thirds, of which the medium one may be larger.

    Args:
        counts: training samples of each class.
    """
    order = sorted(counts, key=lambda label: (-counts[label], label))
    third = len(order) // 3
    few = len(order) - third
    return {"many": order[:third], "medium": order[third:few], "few": order[few:]}


def _parse(imbalance: str) -> tuple[str, float]:
    kind, ratio = kind_and_number(imbalance, KINDS, "imbalance")
    if not 0 < ratio <= 1:
        raise ValueError(f"the ratio of imbalance must be above 0 and at most 1, got {imbalance!r}; write {kind}:0.01")
    return kind, ratio


def _sizes(kind: str, ratio: float, largest: int, classes: int) -> list[int]:
    if kind == "step":
        head = (classes + 1) // 2
        sizes = [float(largest)] * head + [largest * ratio] * (classes - head)
    else:
        sizes = [largest * ratio ** (place / max(1, classes - 1)) for place in range(classes)]
    return [max(1, int(size)) for size in sizes]
