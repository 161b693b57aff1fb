"""How well a run's model tells foreign images from those of the classes that it has learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from acil import AnalyticLearner, ExactHead, ood
from acil.cli.model_file import ModelFile
from acil.cli.results import RunFolder
from acil.cli.settings import RunSettings
from acil.scenarios import foreign_images

MODEL_FILE = "model.safetensors"


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
        return {"source": self.source, "score": self.score, **asdict(self.metrics)}


@dataclass(frozen=True)
class KnownImages:
    """Test images of the classes that a model has learned, and how well it classifies them.

    Attributes:
        images: uint8 (n, C, H, W).
        accuracy: in 0..1.
        calibration_error: expected calibration error of the logits' softmax, in 0..1.
    """

    images: Tensor
    accuracy: float
    calibration_error: float


def detect(
    run: Path, sources: Sequence[str], device: str, bar: Progress
) -> tuple[RunFolder, KnownImages, list[Detection]]:
    """Every score that the run's model has, against every source; as many foreign images as known ones, at most.

    Raises:
        ValueError: the run has learned no images, or there is no such source.
    """
    folder = RunFolder.open(run)
    settings = RunSettings.from_config(folder.config)
    source = settings.load_data()
    if source.is_features:
        raise ValueError(f"{run} has learned feature rows; foreign images need a run that was given images")
    learner = ModelFile.open(folder.path / MODEL_FILE, device).learner
    if not len(learner.classes):
        raise ValueError(f"{run} has learned nothing yet; let it finish with acil run --resume {run}")
    learned = torch.isin(source.test.targets, learner.classes.cpu())
    test = source.test.subset(learned.nonzero().flatten())
    foreign = {name: foreign_images(name, len(test), source.shape, seed=settings.seed) for name in sources}
    task = bar.add_task("scores", total=len(test) + sum(map(len, foreign.values())))

    def scored(images: Tensor) -> dict[str, Tensor]:
        return scores(learner, images, lambda done: bar.update(task, advance=done))

    of_known = scored(test.inputs)
    of_foreign = {name: scored(images) for name, images in foreign.items()}
    detections = [
        Detection(name, score, of_known[score], values, ood.evaluate_ood(of_known[score], values))
        for name, by_score in of_foreign.items()
        for score, values in by_score.items()
    ]
    return folder, _known(learner, test.inputs, test.targets), detections


def scores(learner: AnalyticLearner, images: Tensor, progress: Callable[[int], None]) -> dict[str, Tensor]:
    """(n,) float64 by name of the score, for uint8 images (n, C, H, W)."""
    rows: dict[str, list[Tensor]] = {}
    for batch in torch.split(images, learner.batch_size):
        for name, values in _scores_of_batch(learner, batch.to(learner.device)).items():
            rows.setdefault(name, []).append(values.double().cpu())
        progress(len(batch))
    return {name: torch.cat(values) for name, values in rows.items()}


def _scores_of_batch(learner: AnalyticLearner, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        logits = learner(images)
    found = {
        "MSP": ood.msp(logits),
        "max logit": ood.max_logit(logits),
        "energy": ood.energy(logits),
        "ODIN": ood.odin(learner, images),
    }
    if isinstance(learner.head, ExactHead):
        found["leverage"] = learner.leverage(images)
    return found


def _known(learner: AnalyticLearner, images: Tensor, labels: Tensor) -> KnownImages:
    with torch.no_grad():
        batches = torch.split(images, learner.batch_size)
        logits = torch.cat([learner(batch.to(learner.device)).double().cpu() for batch in batches])
    places = torch.searchsorted(learner.classes.cpu(), labels)
    accuracy = float((logits.argmax(dim=1) == places).double().mean())
    return KnownImages(images, accuracy, ood.expected_calibration_error(logits.softmax(dim=1), places))
