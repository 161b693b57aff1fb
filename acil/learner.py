"""The learner: backbone, buffer layer and head as one module."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acil.backbones import Backbone, create_backbone
from acil.buffer import Buffer, create_buffer
from acil.checks import (
    check_class_names,
    check_count,
    check_features,
    check_image_shape,
    check_images,
    check_labels,
    check_path,
    check_type,
)
from acil.class_names import match_names
from acil.classifier import Classifier
from acil.errors import ModelFileError, NotLearnedError
from acil.export import export_classifier
from acil.extract import Progress, backbone_features, constant_batches, extract_features, scaled
from acil.head import AnalyticHead, ExactHead, create_head
from acil.serialize import fingerprint, load_tensors, save_tensors
from acil.transaction import all_or_nothing, uninterrupted

# Rows whose moments are one product: more rows spread the cost of adding it up.
LEARNING_ROWS = 4_096
# The constant batch shape of the buffer layer; a call with one image pays for this many rows.
EXPANSION_ROWS = 256


class AnalyticLearner(nn.Module):
    """Learns classes from images in any number of calls and keeps no image.

    An image goes through the frozen backbone and the buffer layer once; the head is solved in closed form.
    Constructing a learner freezes the backbone (no gradients, eval mode).

    Args:
        backbone: maps images (n, C, H, W) to features (n, f).
        buffer: the fixed expansion, features (n, f) to (n, d).
        head: the classifier over d expanded features.
        class_names: a name for each label from 0 on; may be empty.
        batch_size: constant batch size of feature extraction; part of what makes features reproducible.
        image_shape: (C, H, W) of the images that the backbone was trained on, for those who feed it later.

    Example:
        >>> backbone = nn.Flatten()
        >>> learner = AnalyticLearner(backbone, RandomBuffer(64, 256), ExactHead(256))
        >>> learner.learn(torch.rand(20, 1, 8, 8), torch.arange(20) % 2)
        >>> learner(torch.rand(3, 1, 8, 8)).shape
        torch.Size([3, 2])

    References:
        Zhuang et al., NeurIPS 2022; mixed old and new classes as in Zhuang et al., "GACL", NeurIPS 2024.
    """

    def __init__(
        self,
        backbone: nn.Module,
        buffer: Buffer,
        head: AnalyticHead,
        *,
        class_names: tuple[str, ...] = (),
        batch_size: int = 128,
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_type(backbone, nn.Module, "backbone")
        check_type(buffer, Buffer, "buffer")
        check_type(head, AnalyticHead, "head")
        check_class_names(class_names)
        check_count(batch_size, "batch_size")
        check_image_shape(image_shape)
        width = backbone.num_features if isinstance(backbone, Backbone) else buffer.in_features
        if buffer.in_features != width:
            raise ValueError(f"the backbone gives {width} features, but the buffer layer expects {buffer.in_features}")
        if buffer.dim != head.dim:
            raise ValueError(f"the buffer layer gives {buffer.dim} features, but the head expects {head.dim}")
        self.backbone = backbone
        self.buffer = buffer
        self.head = head
        self.class_names = tuple(class_names)
        self.batch_size = batch_size
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.freeze()

    @property
    def classes(self) -> Tensor:
        """(K,) int64: the labels learned, ascending; column k of the logits belongs to ``classes[k]``."""
        return self.head.classes

    @property
    def device(self) -> torch.device:
        """Where the learner computes."""
        return self.head.classes.device

    @property
    def is_calibrated(self) -> bool:
        """Whether the frozen path is fixed; the first features learned fix it otherwise."""
        return self.buffer.is_calibrated and self.head.is_calibrated

    def freeze(self) -> None:
        """Fix the backbone: no gradients, eval mode. Call it after training the backbone elsewhere."""
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> AnalyticLearner:
        """Set the training mode of everything but the backbone, which stays frozen."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (n, C, H, W) images over all classes learned: (n, K) float32."""
        return self.classify(self.backbone(scaled(images)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits of backbone features (n, f) over all classes learned: (n, K)."""
        logits: Tensor = self.head(self.buffer(features.float()))
        return logits

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The likeliest label of each (n, C, H, W) image: (n,) int64.

        Raises:
            ValueError: nothing was learned yet, or the images are not finite.
        """
        check_images(images)
        if not len(self.classes):
            raise ValueError("nothing was learned yet; call learn first")
        return torch.cat([self._predict(batch.to(self.device)) for batch in torch.split(images, self.batch_size)])

    def extract(self, images: Tensor, progress: Progress | None = None) -> Tensor:
        """Backbone features of (n, C, H, W) images: (n, f) float32, reproducible to the bit.

        Raises:
            ValueError: the images are no finite image batch, or the backbone gives no finite (n, f) features.
        """
        check_images(images)
        return extract_features(self.backbone, images, self.batch_size, self.device, progress)

    def learn(self, images: Tensor, labels: Tensor) -> None:
        """Learn images of new or known classes.

        Args:
            images: (n, C, H, W), floating point in [0, 1] or uint8.
            labels: (n,) integers, 0 or more.

        Raises:
            ValueError: shapes, dtypes or values differ; nothing has changed then.
        """
        check_images(images)
        check_labels(labels, len(images))
        if len(images):
            self.learn_features(self.extract(images), labels)

    @torch.no_grad()
    def learn_features(self, features: Tensor, labels: Tensor) -> None:
        """Learn backbone features (n, f) that ``extract`` gave, as one phase; see ``learn``."""
        self._check_samples(features, labels)
        if not len(features):
            return
        with all_or_nothing(*self._uncalibrated()):
            if not self.is_calibrated:
                self.calibrate(features)
            self.head.learn_phase(self._expanded(features, labels))

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Fix what the frozen path takes from typical backbone features (n, f): statistics, centres, scale.

        ``learn`` does so with the first images it gets. Learners that are to be merged need equal ones: calibrate
        one and take ``fresh`` copies of it. What is fixed already stays as it is.

        Raises:
            ValueError: shapes, dtypes or values differ, or there are no rows; nothing has changed then.
        """
        self.buffer.check(features)
        if not len(features):
            raise ValueError("calibration needs at least one row of features, got none")
        with all_or_nothing(*self._uncalibrated()):
            if not self.buffer.is_calibrated:
                self.buffer.calibrate(features.to(self.device))
            if not self.head.is_calibrated:
                spread = features[:: -(-len(features) // LEARNING_ROWS)]
                self.head.calibrate(self._expand(spread))

    def forget(self, images: Tensor, labels: Tensor) -> None:
        """Unlearn images: the digest is then that of never having learned them.

        Args:
            images: (n, C, H, W), the very images that were learned.
            labels: (n,) integers, the labels they were learned with.

        Raises:
            NotLearnedError: more images of a class than were learned, or impossible ones; nothing has changed then.
            ValueError: the head cannot forget, or shapes, dtypes or values differ; nothing has changed then.
        """
        check_images(images)
        check_labels(labels, len(images))
        if len(images):
            self.forget_features(self.extract(images), labels)

    @torch.no_grad()
    def forget_features(self, features: Tensor, labels: Tensor) -> None:
        """Unlearn backbone features (n, f) that ``extract`` gave; see ``forget``."""
        head = self._exact_head("forget")
        self._check_samples(features, labels)
        if not len(features):
            return
        if not len(self.classes):
            raise NotLearnedError("nothing was learned yet, so there is nothing to forget")
        forgotten = head.fresh()
        forgotten.learn_phase(self._expanded(features, labels))
        head.subtract(forgotten)

    def merge(self, other: AnalyticLearner) -> None:
        """Add everything that another learner with the same frozen path learned; it is left as it is.

        Where both have class names, and not the same ones, classes are matched by name: a name that is new here gets
        the next label. Otherwise a label stands for the same class in both.

        Raises:
            ValueError: backbone, buffer layer, scale or gamma differ, classes cannot be matched by name, or it is this
                very learner; nothing has changed then.
        """
        head = self._exact_head("merge")
        check_type(other, AnalyticLearner, "the other learner to merge")
        if other is self:
            raise ValueError("a learner merged with itself would count everything twice; merge another one")
        others, theirs = other._exact_head("merge"), other.fingerprints()
        different = [part for part, value in self.fingerprints().items() if value != theirs[part]]
        if different:
            raise ValueError(
                f"learners merge only with equal backbone, buffer layer and scale; the {' and the '.join(different)} "
                "differ here; start both from learner.fresh()"
            )
        labels, class_names = self._labels_of(other)
        with uninterrupted():
            head.merge(others, labels)
            self.class_names = class_names

    def fresh(self) -> AnalyticLearner:
        """A learner with a copy of the same frozen path, calibration included, that has learned nothing.

        Learners made this way can be merged; learning the same samples gives them the same digest.
        """
        return AnalyticLearner(
            deepcopy(self.backbone),
            deepcopy(self.buffer),
            self.head.fresh(),
            class_names=self.class_names,
            batch_size=self.batch_size,
            image_shape=self.image_shape,
        )

    @torch.no_grad()
    def snapshot(self) -> Classifier:
        """What the learner knows now, as a classifier that never changes; for serving while learning goes on.

        Raises:
            ValueError: nothing was learned yet.
        """
        if not len(self.classes):
            raise ValueError("nothing was learned yet; call learn first")
        return Classifier(self.backbone, self.buffer, self.head.solved(), self.classes, self.class_names)

    def export(self, path: str | Path, image_shape: tuple[int, ...] | None = None) -> None:
        """Write the classifier as it is now for another runtime; see ``acil.export.export_classifier``.

        Args:
            path: ends in ``.onnx``, or in ``.pt2`` for ``torch.export``.
            image_shape: (C, H, W) of the images; may be left out where the learner knows it.

        Raises:
            ValueError: nothing was learned yet, the shape is not known, the suffix is another, or the network
                cannot be exported.
        """
        shape = self.image_shape if image_shape is None else image_shape
        if shape is None:
            raise ValueError("the learner does not know the shape of its images; tell it: image_shape=(C, H, W)")
        export_classifier(self.snapshot(), path, shape)

    def leverage(self, images: Tensor) -> Tensor:
        """How unlike everything learned each (n, C, H, W) image is: (n,) float64; see ``ExactHead.leverage``.

        Raises:
            ValueError: nothing was learned yet, the head has no leverage, or the images are not finite.
        """
        self._exact_head("give a leverage")
        if not len(self.classes):
            raise ValueError("nothing was learned yet; call learn first")
        return self.leverage_of_features(self.extract(images))

    @torch.no_grad()
    def leverage_of_features(self, features: Tensor) -> Tensor:
        """The leverage of backbone features (n, f) that ``extract`` gave; see ``leverage``."""
        head = self._exact_head("give a leverage")
        self.buffer.check(features)
        return torch.cat([head.leverage(self._expand(rows)) for rows in torch.split(features, LEARNING_ROWS)])

    def digest(self) -> str:
        """SHA-256 of everything learned; see ``FeatureMoments.digest``.

        Raises:
            ValueError: the head is not exact.
        """
        return self._exact_head("give a digest").digest()

    def fingerprint(self) -> str:
        """SHA-256 of the frozen path from image to quantised feature: backbone, buffer layer, scale."""
        return hashlib.sha256("".join(self.fingerprints().values()).encode()).hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each part of the frozen path: ``backbone``, ``buffer layer`` and ``scale``.

        A backbone is known by its tensors, by what its modules print and by the batch size; not by its code.
        """
        parts = {
            "backbone": fingerprint(_read_while_evaluating(self.backbone), f"{self.batch_size} {self.backbone!r}"),
            "buffer layer": fingerprint(self.buffer.state_dict(), self.buffer.name),
        }
        if isinstance(self.head, ExactHead):
            quantizer = self.head.quantizer
            parts["scale"] = fingerprint({"scale": quantizer.scale}, str(quantizer.bits))
        return parts

    def save(self, path: str | Path, notes: Mapping[str, Any] | None = None) -> None:
        """Write the learner into one file, atomically.

        Args:
            path: the file; an earlier one is replaced only when all is written.
            notes: JSON-able facts to keep beside it, found again by ``acil.serialize.load_metadata``.

        Raises:
            ValueError: the file cannot be written, or the notes not as JSON; an earlier one is untouched.
        """
        if notes is not None:
            check_type(notes, Mapping, "notes")
        backbone = getattr(self.backbone, "spec", None)
        metadata = {"backbone": backbone, **self._facts(), "notes": dict(notes or {})}
        save_tensors(check_path(path), self.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | Path, backbone: nn.Module | None = None) -> AnalyticLearner:
        """Read a learner that ``save`` wrote.

        Args:
            path: the file.
            backbone: the module to fill, needed where the saved one was not made by ``create_backbone``.

        Raises:
            ModelFileError: the file is missing, truncated, tampered with, of another format, or does not fit the
                backbone; names the file.
        """
        path = check_path(path)
        tensors, metadata = load_tensors(path)
        if backbone is None and metadata.get("backbone") is None:
            raise ModelFileError(
                f"{path} holds a backbone of your own; build it and pass it: AnalyticLearner.load(path, backbone)"
            )
        try:
            with _as_it_was_if_refused(backbone):
                learner = cls._from_metadata(metadata, backbone)
                learner.load_state_dict(tensors)
                wrong = [name for name, fact in learner._facts().items() if fact != metadata[name]]
                wrong += [name for name, value in learner.state_dict().items() if value.shape != tensors[name].shape]
                if wrong:
                    raise ValueError(f"its metadata and its tensors contradict each other in {' and '.join(wrong)}")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{path} is damaged, or does not fit this backbone or this version of acil: {error}"
            ) from error
        return learner

    def _facts(self) -> dict[str, Any]:
        """What a model file tells about the learner without its tensors, as JSON gives it back."""
        exact = isinstance(self.head, ExactHead)
        return {
            "buffer": self.buffer.spec,
            "head": self.head.spec,
            "batch_size": self.batch_size,
            "image_shape": None if self.image_shape is None else list(self.image_shape),
            "class_names": list(self.class_names),
            "classes": self.classes.tolist(),
            "counts": self.head.counts.tolist(),
            "scale": float(self.head.quantizer.scale) if isinstance(self.head, ExactHead) else None,
            "digest": self.digest() if exact else None,
        }

    @classmethod
    def _from_metadata(cls, metadata: Mapping[str, Any], backbone: nn.Module | None) -> AnalyticLearner:
        return cls(
            create_backbone(**metadata["backbone"]) if backbone is None else backbone,
            create_buffer(**metadata["buffer"]),
            create_head(**metadata["head"]),
            class_names=metadata["class_names"],
            batch_size=metadata["batch_size"],
            image_shape=metadata["image_shape"],
        )

    def _predict(self, images: Tensor) -> Tensor:
        features = backbone_features(self.backbone, images)
        check_features(features, self.buffer.in_features)
        return self.classes[self.classify(features).argmax(dim=1)]

    def _labels_of(self, other: AnalyticLearner) -> tuple[Tensor, tuple[str, ...]]:
        """The labels here of the other's classes, and the class names of both."""
        classes = other.classes.tolist()
        if not (self.class_names and other.class_names) or self.class_names == other.class_names:
            return other.classes, self.class_names or other.class_names
        match_names((), other.class_names, classes)  # refuses what cannot be told apart there
        names = [other.class_names[label] for label in classes]
        label_of, class_names = match_names(names, self.class_names, self.classes.tolist())
        return torch.tensor([label_of[name] for name in names], dtype=torch.int64), class_names

    def _uncalibrated(self) -> list[nn.Module]:
        """What calibration changes, if it is still to come."""
        return [] if self.is_calibrated else [self.buffer, self.head]

    def _check_samples(self, features: Tensor, labels: Tensor) -> None:
        self.buffer.check(features)
        check_labels(labels, len(features))

    def _expanded(self, features: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        labels = labels.to(self.device)
        chunks = torch.split(features, LEARNING_ROWS), torch.split(labels, LEARNING_ROWS)
        for rows, targets in zip(*chunks, strict=True):
            yield self._expand(rows), targets

    def _expand(self, features: Tensor) -> Tensor:
        batches = constant_batches(features.to(self.device), EXPANSION_ROWS)
        return torch.cat([self.buffer(batch)[:real] for batch, real in batches])

    def _exact_head(self, purpose: str) -> ExactHead:
        if not isinstance(self.head, ExactHead):
            raise ValueError(f"a {type(self.head).__name__} cannot {purpose} exactly; build the learner with ExactHead")
        return self.head


@contextmanager
def _as_it_was_if_refused(backbone: nn.Module | None) -> Iterator[None]:
    """Give a caller's backbone its tensors, modes and gradients back if the block fails."""
    if backbone is None:
        yield
        return
    modes = [(module, module.training) for module in backbone.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    try:
        with all_or_nothing(backbone):
            yield
    except BaseException:
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)
        raise


def _read_while_evaluating(backbone: nn.Module) -> dict[str, Tensor]:
    """The backbone's tensors but for counters of training batches, which only training reads."""
    state = backbone.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
