"""How well each score tells foreign images from the known ones of a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from acil import AnalyticLearner, ExactHead
from acil.class_names import name_of
from acil.cli.model_file import ModelFile
from acil.cli.results import MODEL_FILE, RunFolder
from acil.cli.settings import RunSettings
from acil.ood import DetectionMetrics, energy, evaluate_ood, expected_calibration_error, max_logit, msp, odin
from acil.scenarios import LabelledTensors, foreign_images

# Other noise and symbols than those that a run may have been trained beside.
FOREIGN_SEED = 314_159

Scores = Mapping[str, Tensor]


@dataclass(frozen=True)
class Detection:
    """The scores of known and of foreign images.

    Attributes:
        data: the data set of the run.
        known: by name of the score, (n,) each; larger means more foreign.
        foreign: the same for each source of foreign images.
        classes: how many classes are known.
        accuracy: share of the known images classified right.
        calibration_error: of the softmax of their logits, in 0..1.
    """

    data: str
    known: Scores
    foreign: Mapping[str, Scores]
    classes: int
    accuracy: float
    calibration_error: float

    @property
    def known_images(self) -> int:
        """Number of known images."""
        return len(next(iter(self.known.values())))

    def foreign_images(self, source: str) -> int:
        """Number of images of a source."""
        return len(next(iter(self.foreign[source].values())))

    def metrics(self) -> Iterator[tuple[str, str, DetectionMetrics]]:
        """Source, score, and how well the score tells the source's images from the known ones."""
        for source, scores in self.foreign.items():
            for name, values in scores.items():
                yield source, name, evaluate_ood(self.known[name], values)

    def as_json(self) -> dict[str, Any]:
        """Everything that is printed."""
        return {
            "known": {
                "data": self.data,
                "images": self.known_images,
                "classes": self.classes,
                "accuracy": self.accuracy,
                "expected_calibration_error": self.calibration_error,
            },
            "foreign": [
                {"source": source, "images": self.foreign_images(source), "score": name, **asdict(metrics)}
                for source, name, metrics in self.metrics()
            ],
        }


def detect(run: Path, sources: Sequence[str], device: str, bar: Progress) -> Detection:
    """Score the test images of all classes that a run has learned, and those of each source.

    Args:
        run: its results folder.
        sources: where foreign images come from, as ``foreign_images`` takes it. Folders with the name of a learned
            class are left out.
        device: where to compute.
        bar: shows how far the features and ODIN are.

    Raises:
        ValueError: the run has no images, learned nothing yet or is damaged, or a source cannot be had.
    """
    folder = RunFolder.open(run)
    settings = RunSettings.from_config(folder.config)
    learner = _learner(folder, settings, device)
    _check_sources(sources, settings)
    known = _known_images(learner, settings)
    learned = {name_of(label, learner.class_names) for label in learner.classes.tolist()}
    shape = tuple(known.inputs.shape[1:])
    foreign = {
        source: foreign_images(source, None, shape, seed=FOREIGN_SEED, without=learned)
        for source in dict.fromkeys(sources)
    }
    total = sum(map(len, foreign.values())) + len(known)
    scorer = _Scorer(learner, bar, total)
    logits, scores = scorer.score(known.inputs)
    truth = torch.searchsorted(learner.classes.cpu(), known.targets)
    return Detection(
        data=settings.data,
        known=scores,
        foreign={source: scorer.score(images)[1] for source, images in foreign.items()},
        classes=len(learned),
        accuracy=float((logits.argmax(dim=1) == truth).double().mean()),
        calibration_error=expected_calibration_error(logits.softmax(dim=1), truth),
    )


class _Scorer:
    """Gives images their scores, and tells how many have theirs."""

    def __init__(self, learner: AnalyticLearner, bar: Progress, total: int) -> None:
        self.learner = learner
        self.bar = bar
        self.features_task = bar.add_task("features", total=total)
        self.odin_task = bar.add_task("ODIN", total=total)

    def score(self, images: Tensor) -> tuple[Tensor, Scores]:
        """Logits (n, K) and scores of (n, C, H, W) images, on the CPU."""
        learner = self.learner
        features = learner.extract(images, lambda done: self.bar.update(self.features_task, advance=done))
        with torch.no_grad():
            logits = torch.cat([learner.classify(rows).cpu() for rows in torch.split(features, learner.batch_size)])
        scores = {"MSP": msp(logits), "max logit": max_logit(logits), "energy": energy(logits)}
        scores["ODIN"] = self._odin(images)
        if isinstance(learner.head, ExactHead):
            scores["leverage"] = learner.leverage_of_features(features).cpu()
        return logits, scores

    def _odin(self, images: Tensor) -> Tensor:
        scores = []
        for batch in torch.split(images, self.learner.batch_size):
            scores.append(odin(self.learner, batch.to(self.learner.device)).cpu())
            self.bar.update(self.odin_task, advance=len(batch))
        return torch.cat(scores)


def _learner(folder: RunFolder, settings: RunSettings, device: str) -> AnalyticLearner:
    if settings.data.startswith("features:"):
        raise ValueError(f"{folder.path} learned feature rows, not images; acil ood needs a run that learned images")
    model = folder.path / MODEL_FILE
    unlearned = f"{folder.path} has learned nothing yet; let it finish with acil run --resume {folder.path}"
    if not model.exists():
        raise ValueError(unlearned)
    learner = ModelFile.open(model, device).learner
    if not len(learner.classes):
        raise ValueError(unlearned)
    return learner


def _check_sources(sources: Sequence[str], settings: RunSettings) -> None:
    """Refuse known images as foreign ones; warn of those that were trained beside."""
    if settings.data in sources:
        raise ValueError(f"{settings.data} is what the run learns; name a source of other images")
    open_noise = (settings.label_noise or "").startswith("open-set")
    if settings.foreign in sources and (settings.open_set or open_noise):
        warnings.warn(
            f"the run was trained beside images of {settings.foreign}, so they are less foreign to it than others",
            stacklevel=2,
        )


def _known_images(learner: AnalyticLearner, settings: RunSettings) -> LabelledTensors:
    """The test images of the classes that were learned."""
    test = replace(settings, label_noise=None, imbalance=None).load_data().test  # they change training data alone
    return test.subset(torch.isin(test.targets, learner.classes.cpu()).nonzero().flatten())
