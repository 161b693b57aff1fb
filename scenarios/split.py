"""A training and a test part of data that comes without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TEST_SHARE = 0.2


def stratified_split(
    labels: NDArray[np.int64], class_names: Sequence[str], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose a fifth of each class for testing: at least one item, and at least one left to train on.

    Args:
        labels: int64 (n,), from 0 to ``len(class_names) - 1``.
        class_names: what to call a class in an error.
        seed: which items are chosen.

    Returns:
        The places of the training items and of the test items, each in ascending order.

    Raises:
        ValueError: if a class has fewer than two items.
    """
    rng = np.random.default_rng(seed)
    test = []
    for label, name in enumerate(class_names):
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            raise ValueError(
                f"class {name!r} has {len(places)} item(s), too few to split into training and test; "
                "give it at least 2, or bring a test set of your own"
            )
        count = min(max(1, round(TEST_SHARE * len(places))), len(places) - 1)
        test.append(rng.permutation(places)[:count])
    chosen = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True), chosen
