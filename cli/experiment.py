"""One run, phase by phase: every step is on disk before the next begins, so a killed run can be resumed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin
from rich.progress import Progress

from acil import AnalyticLearner, ExactHead, create_learner
from acil.backbones import Backbone, create_backbone
from acil.cli.console import progress
from acil.cli.results import MODEL_FILE, RunFolder
from acil.cli.settings import RunSettings
from acil.cli.tensorboard import base_training_evaluator, log_phase, open_log
from acil.distributed import Ranks
from acil.scenarios import DataSource, class_incremental
from acil.serialize import load_metadata
from acil.strategies import ACIL, DistributedACIL
from acil.strategies.base_training import BaseTraining, base_training, classifier_accuracy
from acil.strategies.checkpoint import EpochCheckpoint
from acil.strategies.open_set import OpenSetPlugin, open_set_plugin
from acil.strategies.progress import EpochProgress

BASE_TRAINING_FILE = "base_training.pt"

# The paper's ridge, for the head that cannot choose its own.
DEFAULT_GAMMA = 0.1


@dataclass
class Experiment:
    """A run's settings, and the data and class order that follow from them."""

    settings: RunSettings
    source: DataSource
    benchmark: Any

    @classmethod
    def prepare(cls, settings: RunSettings) -> Experiment:
        """Load the data and lay out the phases.

        Raises:
            ValueError: the data cannot be had, or its classes do not divide into the phases.
        """
        with progress() as bar:
            task = bar.add_task("data", total=1)
            source = settings.load_data()
            bar.update(task, completed=1)
        benchmark = class_incremental(
            source.train, source.test, settings.phases, settings.base_classes, settings.seed, settings.uneven
        )
        return cls(settings, source, benchmark)

    @property
    def phases(self) -> int:
        """Number of phases, the base phase included."""
        return len(self.benchmark.train_stream)

    def classes_by_phase(self) -> list[list[int]]:
        """The labels of each phase, ascending."""
        return [sorted(phase.classes_in_this_experience) for phase in self.benchmark.train_stream]

    def new_learner(self) -> AnalyticLearner:
        """The learner before it has learned anything; its random parts follow from the seed."""
        settings = self.settings
        name = "identity" if self.source.is_features else settings.backbone
        backbone = create_backbone(name, channels=self.source.shape[0], checkpoint=settings.checkpoint)
        recursive = settings.head == "recursive"
        learner = create_learner(
            backbone,
            method=settings.method,
            buffer_size=settings.buffer_size,
            gamma=settings.gamma or (DEFAULT_GAMMA if recursive else "auto"),
            bits=settings.bits,
            recursive=recursive,
            seed=settings.seed,
            class_names=self.source.class_names,
            image_shape=None if self.source.is_features else self.source.shape,
        )
        return learner.to(settings.device)

    def trains_backbone(self) -> bool:
        """Whether the base phase trains the backbone.

        Raises:
            ValueError: it should, but one class alone teaches a network nothing.
        """
        trains = needs_base_training(self.new_learner())
        if trains and len(self.classes_by_phase()[0]) < 2:
            raise ValueError(
                "the first phase trains the backbone and must have two classes at least; "
                "give --base-classes 2 or a pretrained backbone"
            )
        return trains

    def open_set(self) -> list[OpenSetPlugin]:
        """The plugin that brings foreign images into base training; none where the settings ask for none.

        Raises:
            ValueError: there is no such method, or no such source of images.
        """
        if self.settings.open_set is None:
            return []
        return [open_set_plugin(self.settings.open_set, self.settings.foreign_images(self.source))]


def run_experiment(experiment: Experiment, folder: RunFolder, ranks: Ranks | None = None) -> None:
    """Run all phases that ``folder`` does not hold yet, and write its tables and pictures.

    Where there are other ranks, they help by ``follow_experiment``.

    Raises:
        ValueError: a file is damaged or cannot be written; what was learned stays on disk.
    """
    settings = experiment.settings
    started = time.perf_counter()
    seed_everything(settings.seed)
    samples = len(experiment.source.train)
    size = 1 if ranks is None else ranks.size
    folder.append("started", **environment(settings), ranks=size, phases=experiment.phases, samples=samples)
    log = open_log(folder)
    with progress() as bar:
        learner = _resumed_or_new_learner(experiment, folder, bar, log)
        _learn_phases(experiment, folder, learner, bar, log, ranks)
    if ranks is not None:
        ranks.leave()
    folder.append("finished", seconds=time.perf_counter() - started)
    folder.write_views()
    (folder.path / BASE_TRAINING_FILE).unlink(missing_ok=True)


def follow_experiment(experiment: Experiment, ranks: Ranks) -> None:
    """What all ranks but the first do while it runs ``run_experiment``: learn their shares; nothing is written.

    Raises:
        RankLostError: another rank ended.
    """
    progress: tuple[int, int] = ranks.from_first()
    recorded, learned = progress
    strategy = _strategy(experiment.new_learner(), experiment.settings, ranks)
    for phase in range(recorded, experiment.phases):
        if phase >= learned:
            strategy.train(experiment.benchmark.train_stream[phase], eval_streams=[])
        strategy.evaluate(experiment.benchmark.test_stream)
    ranks.leave()


def seed_everything(seed: int) -> None:
    """Seed every generator that base training may draw from, and make CUDA repeatable."""
    random.seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002  Avalanche and its plugins draw from the global generator
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def environment(settings: RunSettings) -> dict[str, Any]:
    """What a figure depends on beside the settings: versions, device, threads."""
    import platform
    from importlib.metadata import version

    packages = ("acil", "torch", "torchvision", "avalanche-lib", "numpy")
    device = torch.cuda.get_device_name() if settings.device.startswith("cuda") else platform.machine()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "seed": settings.seed,
        "device": f"{settings.device} ({device})",
        "threads": torch.get_num_threads(),
    }


def _resumed_or_new_learner(
    experiment: Experiment, folder: RunFolder, bar: Progress, log: TensorboardLogger | None
) -> AnalyticLearner:
    model = folder.path / MODEL_FILE
    if model.exists():
        return AnalyticLearner.load(model).to(experiment.settings.device)
    learner = experiment.new_learner()
    if needs_base_training(learner):
        checkpoint, evaluator = folder.path / BASE_TRAINING_FILE, base_training_evaluator(log)
        _, facts = train_backbone(experiment, learner, checkpoint, bar, evaluator)
        folder.append("base_training", **facts)
    return learner


def needs_base_training(learner: AnalyticLearner) -> bool:
    """Whether the backbone is still to be trained: it came without weights."""
    assert isinstance(learner.backbone, Backbone)  # as create_backbone made it
    return not learner.backbone.is_pretrained


def train_backbone(
    experiment: Experiment,
    learner: AnalyticLearner,
    checkpoint: Path,
    bar: Progress,
    evaluator: EvaluationPlugin | None = None,
) -> tuple[BaseTraining, dict[str, Any]]:
    """Train the learner's backbone on the first phase, going on from the checkpoint where it exists.

    Returns:
        the strategy that trained it, and its epochs, seconds, and accuracy on the phase's test images.
    """
    settings = experiment.settings
    assert isinstance(learner.backbone, Backbone)  # as create_backbone made it
    base = experiment.benchmark.train_stream[0]
    task = bar.add_task("base training", total=settings.epochs)
    training = base_training(
        learner.backbone,
        base.classes_in_this_experience,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        criterion=settings.criterion(),
        augmentation=experiment.source.augmentation,
        device=settings.device,
        plugins=[
            *experiment.open_set(),
            EpochProgress(lambda done: bar.update(task, completed=done)),
            EpochCheckpoint(checkpoint),
        ],
        evaluator=evaluator,
    )
    started = time.perf_counter()
    training.train(base, eval_streams=[])
    learner.freeze()
    bar.update(task, completed=settings.epochs)
    accuracy = classifier_accuracy(training, experiment.benchmark.test_stream[0].dataset)
    return training, {"epochs": settings.epochs, "seconds": time.perf_counter() - started, "accuracy": accuracy}


def _learn_phases(
    experiment: Experiment,
    folder: RunFolder,
    learner: AnalyticLearner,
    bar: Progress,
    log: TensorboardLogger | None,
    ranks: Ranks | None,
) -> None:
    learned = phases_learned(folder.path / MODEL_FILE)
    recorded = len(folder.phases())
    if ranks is not None:
        ranks.from_first((recorded, learned))
    task = bar.add_task("phases", total=experiment.phases, completed=recorded)
    within_phase = EpochProgress(lambda share: bar.update(task, completed=recorded + share))
    strategy = _strategy(learner, experiment.settings, ranks, within_phase)
    while recorded < experiment.phases:
        if recorded >= learned:
            _learn_phase(experiment, folder, strategy, recorded)
        _record_phase(experiment, folder, strategy, log, recorded)
        recorded += 1
        bar.update(task, completed=recorded)


def _strategy(learner: AnalyticLearner, settings: RunSettings, ranks: Ranks | None, *plugins: EpochProgress) -> ACIL:
    options: dict[str, Any] = {"model": learner, "device": settings.device, "evaluator": None, "plugins": [*plugins]}
    return ACIL(**options) if ranks is None else DistributedACIL(ranks=ranks, **options)


def phases_learned(model: Path) -> int:
    """How many phases a run's model file has learned; 0 where there is none.

    Raises:
        ValueError: the file is damaged, or no run wrote it.
    """
    if not model.exists():
        return 0
    notes = load_metadata(model)["notes"]
    if "phases" not in notes:
        raise ValueError(f"{model} was put there by something else than the run; move it away and put the run's back")
    return int(notes["phases"])


def _learn_phase(experiment: Experiment, folder: RunFolder, strategy: ACIL, phase: int) -> None:
    experience = experiment.benchmark.train_stream[phase]
    started = time.perf_counter()
    strategy.train(experience, eval_streams=[])
    _ = strategy.model.head.weight  # the solve belongs to learning, not to the first evaluation
    notes = {
        "phases": phase + 1,
        "learning_seconds": time.perf_counter() - started,
        "samples": len(experience.dataset),
    }
    strategy.model.save(folder.path / MODEL_FILE, notes)


def _record_phase(
    experiment: Experiment, folder: RunFolder, strategy: ACIL, log: TensorboardLogger | None, phase: int
) -> None:
    notes = load_metadata(folder.path / MODEL_FILE)["notes"]
    started = time.perf_counter()
    counts = strategy.evaluate(experiment.benchmark.test_stream)
    folder.append(
        "phase",
        phase=phase,
        classes=experiment.classes_by_phase()[phase],
        learning_seconds=notes["learning_seconds"],
        evaluation_seconds=time.perf_counter() - started,
        samples=notes["samples"],
        **_head_facts(strategy.model),
        correct=counts.correct,
        total=counts.total,
    )
    log_phase(log, phase, counts, notes["learning_seconds"])


def _head_facts(learner: AnalyticLearner) -> dict[str, Any]:
    if not isinstance(learner.head, ExactHead):
        return {"gamma": learner.head.chosen_gamma, "digest": None, "clipped_share": None}
    return {
        "gamma": learner.head.chosen_gamma,
        "digest": learner.digest(),
        "clipped_share": learner.head.quantizer.clipped_share,
    }
