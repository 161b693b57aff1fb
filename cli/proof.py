"""A run learned again, jointly, from its own frozen path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from acil import AnalyticLearner, ExactHead
from acil.cli.console import progress
from acil.cli.experiment import MODEL_FILE, Experiment, phases_learned
from acil.cli.results import RunFolder
from acil.cli.settings import RunSettings
from acil.extract import extract_dataset

# Neither the order nor the batch size of the run.
JOINT_BATCH_SIZE = 1_000
JOINT_ORDER_SEED = 271_828

# What float64 recursions over the same samples in another order may differ by, relative to the largest weight.
RECURSIVE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Proof:
    """The incremental and the joint result, in words, and whether they agree."""

    incremental: str
    joint: str
    holds: bool
    verdict: str
    samples: int
    classes: int
    batch_size: int = JOINT_BATCH_SIZE


def relearn_jointly(run: Path) -> Proof:
    """Learn everything that ``run`` has learned so far at once, and compare.

    Raises:
        ValueError: there is no such run, or nothing was learned yet, or a file is damaged.
    """
    folder = RunFolder.open(run)
    settings = RunSettings.from_config(folder.config)
    model = folder.path / MODEL_FILE
    phases = phases_learned(model)
    if not phases:
        raise ValueError(f"{run} has learned nothing yet; let it finish with acil run --resume {run}")
    learner = AnalyticLearner.load(model).to(settings.device)
    joint = learner.fresh()
    samples = _learn_shuffled(joint, settings, phases)
    return _compare(learner, joint, samples)


def _learn_shuffled(joint: AnalyticLearner, settings: RunSettings, phases: int) -> int:
    experiment = Experiment.prepare(settings)
    learned = torch.tensor(
        [label for phase in experiment.classes_by_phase()[:phases] for label in phase], dtype=torch.int64
    )
    train = experiment.source.train
    indices = torch.isin(train.targets, learned).nonzero().flatten()
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(JOINT_ORDER_SEED))
    with progress() as bar:
        task = bar.add_task("learning jointly", total=len(indices))
        features, labels = extract_dataset(
            joint.backbone,
            train.subset(indices[order]),
            joint.batch_size,
            joint.device,
            lambda images: bar.update(task, advance=images),
        )
        for places in torch.split(torch.arange(len(labels)), JOINT_BATCH_SIZE):
            joint.learn_features(features[places], labels[places])
    return len(indices)


def _compare(learner: AnalyticLearner, joint: AnalyticLearner, samples: int) -> Proof:
    classes = len(learner.classes)
    if isinstance(learner.head, ExactHead):
        incremental, together = learner.digest(), joint.digest()
        equal = incremental == together
        verdict = "equal, bit for bit" if equal else "DIFFERENT"
        return Proof(incremental, together, equal, verdict, samples, classes)
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
