"""What a model should know, learned again, jointly, from its own frozen path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from acil import AnalyticLearner, DualStreamHead, ExactHead
from acil.class_names import match_names
from acil.cli.console import progress
from acil.cli.device import usable_device
from acil.cli.model_file import ModelFile
from acil.cli.named_data import load_named_data
from acil.cli.results import MODEL_FILE, RunFolder
from acil.cli.settings import RunSettings
from acil.extract import extract_dataset

# Neither the order nor the batch size of any learning before.
JOINT_BATCH_SIZE = 1_000
JOINT_ORDER_SEED = 271_828

# What float64 recursions over the same samples in another order may differ by, relative to the largest weight.
RECURSIVE_TOLERANCE = 1e-6

# Classes with other counts that a report names.
MOST_CLASSES = 5


@dataclass(frozen=True)
class Proof:
    """What there is and what joint learning gives, in words, and whether they agree."""

    found: str
    joint: str
    holds: bool
    verdict: str
    samples: int
    classes: int
    hints: tuple[str, ...] = ()
    batch_size: int = JOINT_BATCH_SIZE


def relearn_run(run: Path, device: str | None) -> Proof:
    """Learn everything that ``run`` has learned so far at once, and compare.

    Args:
        run: its results folder.
        device: where to compute; None for where the run did.

    Raises:
        ValueError: there is no such run, or nothing was learned yet, or a file is damaged.
    """
    from acil.cli.experiment import Experiment, phases_learned  # loads Avalanche; relearn_data need not

    folder = RunFolder.open(run)
    settings = RunSettings.from_config(folder.config)
    model = folder.path / MODEL_FILE
    phases = phases_learned(model)
    if not phases:
        raise ValueError(f"{run} has learned nothing yet; let it finish with acil run --resume {run}")
    learner = AnalyticLearner.load(model).to(usable_device(device or settings.device))
    experiment = Experiment.prepare(settings)
    train = experiment.source.train
    learned = torch.tensor([label for phase in experiment.classes_by_phase()[:phases] for label in phase])
    places = torch.isin(train.targets, learned).nonzero().flatten()
    with progress() as bar:
        joint = _learned_jointly(learner, train.subset(places), train.targets[places], bar)
    proof = _compare(learner, joint, len(places))
    recorded = [record.digest for record in folder.phases()[:phases]]
    if not proof.holds and recorded and recorded[-1] not in (None, learner.digest()):
        changed = f"the model was changed after the run; prove what it knows now with: acil verify {model} DATA"
        return replace(proof, hints=(changed,))
    return proof


def relearn_data(
    model: Path, data: Sequence[str], only: Sequence[str], without: Sequence[str], device: str | None
) -> Proof:
    """Learn all of ``data`` from nothing, and compare with what a model knows.

    Args:
        model: the model file.
        data: as ``load_named_data`` takes it.
        only: the classes of the data that count; empty for all.
        without: classes of the data that do not count.
        device: where to compute; None for the best there is.

    Raises:
        ValueError: a file is missing or damaged, or the data do not fit the model.
    """
    with progress() as bar:
        opened = ModelFile.open(model, device or "auto")
        learner = opened.learner
        parts = [load_named_data(spec, opened) for spec in data]
        names = _chosen(Counter(name for part in parts for name in part.counts), only, without)
        parts = [part.of_classes([name for name in names if name in part.counts]) for part in parts]
        label_of, _ = match_names(names, learner.class_names, learner.classes.tolist())
        labels = torch.cat([part.labels(label_of) for part in parts])
        joint = _learned_jointly(learner, ConcatDataset([part.samples for part in parts]), labels, bar)
    proof = _compare(learner, joint, len(labels))
    given = sum((Counter(part.counts) for part in parts), Counter())
    return proof if proof.holds else replace(proof, hints=tuple(_differences(opened.counts(), given)))


def _chosen(names: Collection[str], only: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    if missing := [name for name in (*only, *without) if name not in names]:
        raise ValueError(f"the data has no class {missing[0]!r}; it has {', '.join(names)}")
    chosen = tuple(name for name in names if (not only or name in only) and name not in without)
    if not chosen:
        raise ValueError("no class of the data is left; give fewer classes with --without")
    return chosen


def _learned_jointly(
    learner: AnalyticLearner, samples: Dataset[tuple[Tensor, int]], labels: Tensor, bar: Progress
) -> AnalyticLearner:
    """A learner with the same frozen path that has learned the samples in another order and batch size."""
    joint = learner.fresh()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(JOINT_ORDER_SEED))
    task = bar.add_task("learning jointly", total=len(labels))
    features, _ = extract_dataset(
        joint.backbone,
        Subset(samples, order.tolist()),
        joint.batch_size,
        joint.device,
        lambda images: bar.update(task, advance=images),
    )
    for places in torch.split(torch.arange(len(labels)), JOINT_BATCH_SIZE):
        joint.learn_features(features[places], labels[order[places]])
    return joint


def _compare(learner: AnalyticLearner, joint: AnalyticLearner, samples: int) -> Proof:
    classes = len(joint.classes)
    if isinstance(learner.head, ExactHead):
        return _compare_digests(learner.digest(), joint.digest(), "equal, bit for bit", samples, classes)
    if isinstance(learner.head, DualStreamHead) and isinstance(joint.head, DualStreamHead):
        verdict = "main stream equal, bit for bit; the compensation stream follows the phases, as the method defines it"
        return _compare_digests(learner.head.main.digest(), joint.head.main.digest(), verdict, samples, classes)
    ours, theirs = learner.head.weight, joint.head.weight
    same_classes = torch.equal(learner.classes, joint.classes)
    error = float((ours - theirs).abs().max() / theirs.abs().max()) if same_classes else float("inf")
    close = error <= RECURSIVE_TOLERANCE
    verdict = f"weights differ by {error:.1e} of the largest, {'within' if close else 'BEYOND'} rounding"
    return Proof(
        f"largest weight {float(ours.abs().max()):.12g}",
        f"largest weight {float(theirs.abs().max()):.12g}",
        close,
        verdict,
        samples,
        classes,
    )


def _compare_digests(found: str, together: str, verdict: str, samples: int, classes: int) -> Proof:
    equal = found == together
    return Proof(found, together, equal, verdict if equal else "DIFFERENT", samples, classes)


def _differences(known: Mapping[str, int], given: Mapping[str, int]) -> Iterator[str]:
    """What tells a model from the data, class by class, as far as counts do."""
    different = [name for name in dict.fromkeys([*known, *given]) if known.get(name, 0) != given.get(name, 0)]
    for name in different[:MOST_CLASSES]:
        yield f"{name}: the model has learned {known.get(name, 0)} samples, the data holds {given.get(name, 0)}"
    if len(different) > MOST_CLASSES:
        yield f"and {len(different) - MOST_CLASSES} more classes of other counts"
    if not different:
        yield "the counts of all classes agree: other samples were learned, or on another device or version"
