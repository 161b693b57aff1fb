"""A model file that a command reads, changes and writes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acil import AnalyticLearner, ExactHead
from acil.backbones.identity import Identity
from acil.class_names import name_of
from acil.cli.device import usable_device
from acil.serialize import load_metadata

DIGEST_SHOWN = 16


@dataclass(frozen=True)
class ModelFile:
    """A learner, and the file it came from.

    Attributes:
        path: the file.
        learner: what it holds.
        notes: what is kept beside the learner, such as the phases of a run.
        version: changes whenever the file is replaced.
    """

    path: Path
    learner: AnalyticLearner
    notes: Mapping[str, Any]
    version: tuple[int, ...]

    @classmethod
    def open(cls, path: Path, device: str) -> ModelFile:
        """Read and verify a model file.

        Args:
            path: the file.
            device: where the learner is to compute.

        Raises:
            ValueError: there is no such file, it is damaged, or the device cannot be used.
        """
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give the model file in it")
        device = usable_device(device)
        version = _version(path) if path.exists() else ()
        learner = AnalyticLearner.load(path).to(device)
        return cls(path, learner, load_metadata(path)["notes"], version)

    def save(self, output: Path | None) -> Path:
        """Write the learner to ``output``, or back to where it came from; returns where.

        Raises:
            ValueError: the file cannot be written, or another process has replaced it; it is left as it is then.
        """
        if output is None and _version(self.path) != self.version:
            raise ValueError(f"{self.path} was changed by another process meanwhile and is left so; start again")
        target = output or self.path
        self.learner.save(target.resolve(), self.notes)  # a link to a model stays a link
        return target

    @property
    def takes_features(self) -> bool:
        """Whether the model was made for feature rows and not for images."""
        return isinstance(self.learner.backbone, Identity)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that the model was made for.

        Raises:
            ValueError: it was made for features, or does not say.
        """
        if self.takes_features:
            raise ValueError(f"{self.path} was made for feature rows (features:PATH.npz), not for images")
        if self.learner.image_shape is None:
            raise ValueError(
                f"{self.path} does not say what images it takes; set learner.image_shape = (C, H, W) and save it again"
            )
        channels, height, width = self.learner.image_shape
        return channels, height, width

    def counts(self) -> dict[str, int]:
        """Samples learned of each class, by name."""
        learner = self.learner
        names = [name_of(label, learner.class_names) for label in learner.classes.tolist()]
        return dict(zip(names, learner.head.counts.tolist(), strict=True))


def short_digest(learner: AnalyticLearner) -> str:
    """The beginning of the digest; a dash for a head that has none."""
    return learner.digest()[:DIGEST_SHOWN] if isinstance(learner.head, ExactHead) else "-"


def _version(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
