"""The data that a command names, with classes that go by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from acil.cli.model_file import ModelFile
from acil.cli.results import CONFIG, RunFolder
from acil.cli.settings import RunSettings
from acil.extract import Progress, extract_dataset
from acil.learner import AnalyticLearner
from acil.scenarios import LabelledTensors, available, load_data
from acil.scenarios.folder import training_files
from acil.scenarios.image_files import ImageFiles

# By which `acil run` splits a folder without a train part, unless it is told another.
DEFAULT_SEED = 0


@dataclass(frozen=True)
class NamedData:
    """Samples of classes that go by name.

    Attributes:
        name: what the user calls the data.
        samples: items whose label is a place in ``class_names``.
        class_names: all different; some may have no sample.
    """

    name: str
    samples: LabelledTensors | ImageFiles
    class_names: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each class that has any, by name."""
        counts = torch.bincount(self.samples.targets, minlength=len(self.class_names)).tolist()
        return {name: count for name, count in zip(self.class_names, counts, strict=True) if count}

    def labels(self, label_of: Mapping[str, int]) -> Tensor:
        """(n,) int64: the label of each sample, where ``label_of`` names one for each class that has any."""
        return torch.tensor([label_of.get(name, -1) for name in self.class_names])[self.samples.targets]

    def extract(self, learner: AnalyticLearner, progress: Progress) -> Tensor:
        """(n, f) float32: the backbone's feature of each sample."""
        return extract_dataset(learner.backbone, self.samples, learner.batch_size, learner.device, progress)[0]

    def of_classes(self, names: Collection[str]) -> NamedData:
        """The samples of these classes alone.

        Raises:
            ValueError: there are none of a class.
        """
        if missing := [name for name in names if name not in self.counts]:
            raise ValueError(f"{self.name} has no class {missing[0]!r}; it has {', '.join(self.counts)}")
        wanted = torch.tensor([name in names for name in self.class_names])
        places = wanted[self.samples.targets].nonzero().flatten()
        return NamedData(self.name, self.samples.subset(places), self.class_names)


def load_named_data(spec: str, model: ModelFile, only: Collection[str] = ()) -> NamedData:
    """The samples to learn of a data set, a folder or a run, fit for a model.

    Args:
        spec: a data set as ``acil run --data`` takes it, of which the training part counts; or the path of a folder
            with a folder of images for each class, of which everything counts, or ``train/`` where it has that; or
            the results folder of a run, for the data that it trains on.
        model: images are fitted to its image shape.
        only: the names of the classes that count; empty for all of them.

    Raises:
        ValueError: there is no such data or class, or the model takes something else.
    """
    data = _find(spec, model)
    if len(set(data.class_names)) < len(data.class_names):
        raise ValueError(f"{spec} has two classes of the same name; classes are matched by name, so rename one")
    return data.of_classes(only) if only else data


def _find(spec: str, model: ModelFile) -> NamedData:
    kind, _, path = spec.partition(":")
    folder = Path(spec).expanduser()
    if kind == "folder" and path:
        return NamedData(spec, *training_files(path, model.image_shape, DEFAULT_SEED))
    if kind in {name.partition(":")[0] for name in available()}:
        source = load_data(spec)
    elif (folder / CONFIG).is_file():
        source = RunSettings.from_config(RunFolder.open(folder).config).load_data()
    elif folder.is_dir():
        return NamedData(spec, *training_files(folder, model.image_shape))
    else:
        raise ValueError(f"there is neither a folder nor a data set {spec}; data sets are {', '.join(available())}")
    _check_fit(spec, source.train, model)
    return NamedData(spec, source.train, source.class_names)


def _check_fit(spec: str, samples: LabelledTensors, model: ModelFile) -> None:
    """Refuse samples of another shape than the model takes; grey images pass for colour ones."""
    given = tuple(samples.inputs.shape[1:])
    if samples.is_features != model.takes_features:
        kinds = ("images", "feature rows") if samples.is_features else ("feature rows", "images")
        raise ValueError(f"{model.path} takes {kinds[0]}, but {spec} holds {kinds[1]}")
    expected = (model.learner.buffer.in_features,) if samples.is_features else model.image_shape
    grey = not samples.is_features and given == (1, *expected[1:])
    if given != expected and not grey:
        raise ValueError(
            f"{model.path} takes items of shape {expected}, but those of {spec} have {given}; images are fitted where "
            "they come as a folder of files"
        )
