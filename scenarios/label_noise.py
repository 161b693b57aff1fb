"""Wrong labels, drawn as the literature on label noise does; the true ones are kept for measuring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acil.checks import kind_and_number
from acil.scenarios.labelled import LabelledTensors

# What truck, bird, deer and the two pets are mistaken for in CIFAR-10's asymmetric noise.
CIFAR10_MISTAKES = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
# Spread of the rates of single images in instance-dependent noise.
INSTANCE_SPREAD = 0.1
# True label of an image that belongs to no class.
FOREIGN = -1

Probabilities = NDArray[np.float64]


class NoisyTensors(LabelledTensors):
    """Labelled data of which some labels are wrong.

    Args:
        inputs: as in :class:`LabelledTensors`.
        targets: int64 labels (n,), the noisy ones.
        true_targets: int64 (n,), the right ones; -1 for an image that belongs to no class.
        transition: (K, K) float64; entry (i, j) is the probability that true label i has become j.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, true_targets: Tensor, transition: Tensor) -> None:
        super().__init__(inputs, targets)
        self.true_targets = true_targets
        self.transition = transition

    def subset(self, indices: Sequence[int] | Tensor) -> NoisyTensors:
        """The items at these places, in this order, with the same transition matrix."""
        part = super().subset(indices)
        places = torch.as_tensor(indices, dtype=torch.int64)
        return NoisyTensors(part.inputs, part.targets, self.true_targets[places], self.transition)


def add_label_noise(
    data: LabelledTensors,
    noise: str,
    *,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
    class_names: Sequence[str] = (),
    foreign: Tensor | None = None,
) -> NoisyTensors:
    """Make some labels wrong; the data itself stays as it is.

    ====================  ==============================================================================================
    ``symmetric:RATE``    ``RATE`` of all labels become another class of their group, each with equal probability.
    ``asymmetric:RATE``   Labels become the class that theirs is mistaken for, each with probability ``RATE``: the map
                          published for CIFAR-10 where ``class_names`` has its names, the next class elsewhere.
    ``pair:RATE``         Labels become the next class of their group, each with probability ``RATE``.
    ``instance:RATE``     The image decides: its rate comes from a normal distribution around ``RATE`` (deviation 0.1),
                          truncated to 0..1 (a ``RATE`` of 0 so becomes 0.08), and the wrong class from random
                          projections of its pixels.
    ``open-set:RATE``     ``RATE`` of the images become foreign ones; labels stay.
    ====================  ==============================================================================================

    Args:
        data: the right labels.
        noise: kind and rate, such as "symmetric:0.4".
        seed: fixes which labels change, and to what.
        groups: classes that may be taken for each other, such as those of one phase; None for one group of all classes.
            A class in no group, or alone in its group, keeps its labels.
        class_names: name of each label.
        foreign: uint8 images (m, C, H, W) for open-set noise.

    Raises:
        ValueError: there is no such noise, the rate is not in 0..1, a class is in two groups, or foreign images are
            missing or of another shape.

    References:
        Patrini et al., CVPR 2017 (symmetric, asymmetric); Han et al., NeurIPS 2018 (pair);
        Xia et al., NeurIPS 2020, algorithm 2 (instance-dependent).
    """
    kind, rate = _parse(noise)
    true = data.targets.numpy()
    members = _groups(true, groups)
    rng = np.random.default_rng(seed)
    size = 1 + max([int(true.max(initial=0)), len(class_names) - 1, *(int(group.max()) for group in members)])
    transition = np.eye(size)
    if kind == "open-set":
        return _with_foreign_images(data, rate, rng, members, torch.from_numpy(transition), foreign)
    noisy = true.copy()
    for group in members:
        places = np.flatnonzero(np.isin(true, group))
        noisy[places], transition[np.ix_(group, group)] = _noisy_labels(
            kind, rate, rng, data.inputs[torch.from_numpy(places)], true[places], group, class_names
        )
    return NoisyTensors(data.inputs, torch.from_numpy(noisy), data.targets.clone(), torch.from_numpy(transition))


def _parse(noise: str) -> tuple[str, float]:
    kind, rate = kind_and_number(noise, KINDS, "label noise")
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate of label noise must be from 0 to 1, got {noise!r}; write {kind}:0.4")
    return kind, rate


def _groups(labels: NDArray[np.int64], groups: Sequence[Sequence[int]] | None) -> list[NDArray[np.int64]]:
    """The classes of each group in ascending order; only groups in which a label can be wrong."""
    chosen = [np.unique(labels)] if groups is None else [np.array(sorted(group), dtype=np.int64) for group in groups]
    listed = np.concatenate([*chosen, np.empty(0, np.int64)])
    if len(np.unique(listed)) < len(listed):
        raise ValueError("a class is in two groups, or twice in one; give each class to one group")
    return [group for group in chosen if len(group)]


def _noisy_labels(
    kind: str,
    rate: float,
    rng: np.random.Generator,
    inputs: Tensor,
    labels: NDArray[np.int64],
    group: NDArray[np.int64],
    class_names: Sequence[str],
) -> tuple[NDArray[np.int64], Probabilities]:
    """The noisy labels of one group's samples, and the group's transition matrix."""
    places = np.searchsorted(group, labels)
    if len(group) == 1 or not len(labels):
        return labels, np.eye(len(group))
    if kind == "symmetric":
        return group[_symmetric(places, rate, len(group), rng)], _mixed(rate, _uniform_others(len(group)))
    if kind == "instance":
        rows = _instance_rows(inputs, places, rate, len(group), rng)
        transition = np.stack(
            [
                rows[places == own].mean(axis=0) if (places == own).any() else np.eye(len(group))[own]
                for own in range(len(group))
            ]
        )
    else:
        transition = _mixed(rate, np.eye(len(group))[_mistakes(kind, group, class_names)])
        rows = transition[places]
    return group[_draw(rows, rng)], transition


def _symmetric(places: NDArray[np.int64], rate: float, classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    chosen = rng.choice(len(places), size=round(rate * len(places)), replace=False)
    noisy: NDArray[np.int64] = places.copy()
    noisy[chosen] = (noisy[chosen] + rng.integers(1, classes, size=len(chosen))) % classes
    return noisy


def _uniform_others(classes: int) -> Probabilities:
    others: Probabilities = (1 - np.eye(classes)) / (classes - 1)
    return others


def _mistakes(kind: str, group: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.int64]:
    """The place in the group of the class that each one is taken for."""
    names = [class_names[label] if label < len(class_names) else "" for label in group]
    if kind == "asymmetric" and set(CIFAR10_MISTAKES) | set(CIFAR10_MISTAKES.values()) <= set(names):
        return np.array([names.index(CIFAR10_MISTAKES.get(name, name)) for name in names])
    following: NDArray[np.int64] = (np.arange(len(group)) + 1) % len(group)
    return following


def _instance_rows(
    inputs: Tensor, places: NDArray[np.int64], rate: float, classes: int, rng: np.random.Generator
) -> Probabilities:
    """(n, classes): the probabilities of the labels of each sample."""
    rates = rng.normal(rate, INSTANCE_SPREAD, size=len(places))
    while (outside := (rates < 0) | (rates > 1)).any():
        rates[outside] = rng.normal(rate, INSTANCE_SPREAD, size=int(outside.sum()))
    features = inputs.flatten(1).to(torch.float64).numpy()  # a copy, eight times the size of the images
    features -= features.mean(axis=0)
    features /= features.std(axis=0) + 1e-8
    rows = np.empty((len(places), classes))
    for own in range(classes):
        of_own = places == own
        scores = features[of_own] @ rng.standard_normal((features.shape[1], classes))
        scores[:, own] = -np.inf
        scores = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        rows[of_own] = rates[of_own, None] * scores / scores.sum(axis=1, keepdims=True)
        rows[of_own, own] = 1 - rates[of_own]
    return rows


def _mixed(rate: float, wrong: Probabilities) -> Probabilities:
    """``rate`` times the rows of wrong labels, the rest to the right one."""
    return (1 - rate) * np.eye(len(wrong)) + rate * wrong


def _draw(rows: Probabilities, rng: np.random.Generator) -> NDArray[np.int64]:
    """One place for each row of probabilities."""
    steps = rows.cumsum(axis=1)
    drawn: NDArray[np.int64] = (rng.random((len(rows), 1)) * steps[:, -1:] >= steps).sum(axis=1)
    return drawn


def _with_foreign_images(
    data: LabelledTensors,
    rate: float,
    rng: np.random.Generator,
    groups: list[NDArray[np.int64]],
    transition: Tensor,
    foreign: Tensor | None,
) -> NoisyTensors:
    if foreign is None or not len(foreign) or foreign.shape[1:] != data.inputs.shape[1:]:
        got = "none" if foreign is None else f"{tuple(foreign.shape)}"
        raise ValueError(f"open-set noise needs foreign images of shape {tuple(data.inputs.shape[1:])}, got {got}")
    places = np.flatnonzero(np.isin(data.targets.numpy(), np.concatenate([*groups, np.empty(0, np.int64)])))
    chosen = torch.from_numpy(rng.choice(places, size=round(rate * len(places)), replace=False))
    inputs, true = data.inputs.clone(), data.targets.clone()
    inputs[chosen] = foreign[torch.from_numpy(rng.integers(len(foreign), size=len(chosen)))]
    true[chosen] = FOREIGN
    return NoisyTensors(inputs, data.targets.clone(), true, transition)


KINDS = ("symmetric", "asymmetric", "pair", "instance", "open-set")
