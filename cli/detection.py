"""How well a run's model tells foreign images from those of the classes that it has learned."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from acil import AnalyticLearner, ExactHead, ood
from acil.class_names import name_of
from acil.cli.model_file import ModelFile
from acil.cli.results import MODEL_FILE, RunFolder
from acil.cli.settings import RunSettings
from acil.scenarios import LabelledTensors, foreign_images

# Draws other noise and symbols than those that a run may have been trained beside.
FOREIGN_SEED = 314_159


@dataclass(frozen=True)
class Detection:
    """One score against one source of foreign images.

    Attributes:
        source: where the foreign images come from.
        score: name of the score.
        known: (n,) scores of test images of learned classes.
        foreign: (m,) scores of foreign images.
        metrics: how well the score tells them apart.
    """

    source: str
    score: str
    known: Tensor
    foreign: Tensor
    metrics: ood.DetectionMetrics

    def as_json(self) -> dict[str, Any]:
        """The figures, without the scores of single images."""
        return {"source": self.source, "images": len(self.foreign), "score": self.score, **asdict(self.metrics)}


@dataclass(frozen=True)
class KnownImages:
    """Test images of the classes that a model has learned, and how well it classifies them.

    Attributes:
        data: the data set of the run.
        images: how many there are.
        classes: how many classes are learned.
        accuracy: in 0..1.
        calibration_error: expected calibration error of the logits' softmax, in 0..1.
    """

    data: str
    images: int
    classes: int
    accuracy: float
    calibration_error: float


def detect(run: Path, sources: Sequence[str], device: str, bar: Progress) -> tuple[KnownImages, list[Detection]]:
    """Every score that the run's model has, against every source; as many foreign images as known ones, at most.

    Args:
        run: its results folder.
        sources: as ``foreign_images`` takes them; folders with the name of a learned class are left out.
        device: where to compute.
        bar: shows how many images have their scores.

    Raises:
        ValueError: the run has learned no images, or there is no such source.
    """
    settings = RunSettings.from_config(RunFolder.open(run).config)
    _check_sources(sources, settings)
    learner = _learner(run, settings, device)
    test = _test_images(learner, settings)
    foreign = _foreign_images(learner, sources, test)
    task = bar.add_task("scores", total=len(test) + sum(map(len, foreign.values())))

    def scored(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return _scores(learner, images, lambda done: bar.update(task, advance=done))

    logits, of_known = scored(test.inputs)
    of_foreign = {source: scored(images)[1] for source, images in foreign.items()}
    detections = [
        Detection(source, score, of_known[score], values, ood.evaluate_ood(of_known[score], values))
        for source, by_score in of_foreign.items()
        for score, values in by_score.items()
    ]
    places = torch.searchsorted(learner.classes.cpu(), test.targets)
    known = KnownImages(
        data=settings.data,
        images=len(test),
        classes=len(learner.classes),
        accuracy=float((logits.argmax(dim=1) == places).double().mean()),
        calibration_error=ood.expected_calibration_error(logits.softmax(dim=1), places),
    )
    return known, detections


def _check_sources(sources: Collection[str], settings: RunSettings) -> None:
    """Refuse known images as foreign ones; warn of those that were trained beside."""
    for source in sources:
        settings.refuse_own_data(source)
    trained_beside = settings.open_set or (settings.label_noise or "").startswith("open-set")
    if trained_beside and settings.foreign in sources:
        warnings.warn(
            f"the run was trained beside images of {settings.foreign}, so they are less foreign to it than others",
            stacklevel=2,
        )


def _learner(run: Path, settings: RunSettings, device: str) -> AnalyticLearner:
    if settings.data.startswith("features:"):
        raise ValueError(f"{run} has learned feature rows; foreign images need a run that was given images")
    model = run / MODEL_FILE
    learner = ModelFile.open(model, device).learner if model.exists() else None
    if learner is None or not len(learner.classes):
        raise ValueError(f"{run} has learned nothing yet; let it finish with acil run --resume {run}")
    return learner


def _test_images(learner: AnalyticLearner, settings: RunSettings) -> LabelledTensors:
    """The test images of the classes that were learned."""
    clean = replace(settings, label_noise=None, imbalance=None)  # which change training images alone, and take time
    test = clean.load_data().test
    return test.subset(torch.isin(test.targets, learner.classes.cpu()).nonzero().flatten())


def _foreign_images(learner: AnalyticLearner, sources: Sequence[str], test: LabelledTensors) -> dict[str, Tensor]:
    learned = {name_of(label, learner.class_names) for label in learner.classes.tolist()}
    shape = tuple(test.inputs.shape[1:])
    return {source: foreign_images(source, len(test), shape, seed=FOREIGN_SEED, without=learned) for source in sources}


def _scores(
    learner: AnalyticLearner, images: Tensor, progress: Callable[[int], None]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (n, K), and (n,) by name of the score, of uint8 images (n, C, H, W)."""
    logits, rows = [], []
    for batch in torch.split(images, learner.batch_size):
        features = learner.extract(batch)
        with torch.no_grad():
            logits.append(learner.classify(features).cpu())
        scores = {
            "MSP": ood.msp(logits[-1]),
            "max logit": ood.max_logit(logits[-1]),
            "max cosine": ood.max_cosine(logits[-1]),
            "energy": ood.energy(logits[-1]),
            "ODIN": ood.odin(learner, batch.to(learner.device)),
        }
        if isinstance(learner.head, ExactHead):
            scores["leverage"] = learner.leverage_of_features(features)
        rows.append(scores)
        progress(len(batch))
    return torch.cat(logits), {name: torch.cat([scores[name].cpu() for scores in rows]) for name in rows[0]}
