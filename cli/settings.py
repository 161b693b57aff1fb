"""What one run is made of, as it stands in its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from acil.scenarios import DataSource, LabelledTensors


@dataclass(frozen=True)
class RunSettings:
    """The settings of ``acil run``; everything that a result depends on.

    Attributes:
        data: name of the data set, as ``acil.scenarios.load_data`` takes it.
        phases: increments after the base phase.
        base_classes: classes of the base phase; None for half of them, 0 for no base phase.
        uneven: whether classes that do not divide into the phases are spread unevenly.
        classes: number of glyph classes; None for the default.
        train_per_class: training glyphs per class; None for the default.
        test_per_class: test glyphs per class; None for the default.
        image_size: side to which folder images are resized; None for their own, or 64.
        backbone: name of the network, as ``acil.backbones.create_backbone`` takes it.
        checkpoint: file with pretrained weights; None to train the backbone on the base phase.
        epochs: epochs of base training.
        learning_rate: peak learning rate of base training.
        schedule: "one-cycle" or "cosine".
        label_smoothing: of base training, in 0..1; with cross-entropy only.
        loss: of base training, as ``acil.losses.create_loss`` takes it.
        logit_clip: largest norm of a logit vector in base training; None for no clipping.
        logit_norm: temperature of normalised logits in base training; None for logits as they are.
        open_set: method and weight of open-set images in base training, such as "odnl:2.5"; None for none.
        foreign: where open-set images come from.
        label_noise: kind and rate, such as "symmetric:0.4"; None for right labels.
        imbalance: kind and ratio, such as "exp:0.01"; None for classes as they are.
        corrupt: phases that noise and imbalance change: "all", "base" or "increments".
        buffer_size: width of the buffer layer.
        method: buffer layer and head, as ``acil.methods`` names them.
        gamma: ridge; None for "auto" where the head can choose it.
        bits: of a quantised feature, 8 or 16.
        head: "exact" or "recursive".
        seed: fixes class order, initial weights, augmentation and the random projection.
        device: where to compute.
    """

    data: str
    phases: int
    base_classes: int | None
    uneven: bool
    classes: int | None
    train_per_class: int | None
    test_per_class: int | None
    image_size: int | None
    backbone: str
    checkpoint: str | None
    epochs: int
    learning_rate: float
    schedule: str
    label_smoothing: float
    loss: str
    logit_clip: float | None
    logit_norm: float | None
    open_set: str | None
    foreign: str
    label_noise: str | None
    imbalance: str | None
    corrupt: str
    method: str
    buffer_size: int
    gamma: float | None
    bits: int
    head: str
    seed: int
    device: str

    def as_config(self) -> dict[str, Any]:
        """The settings as ``config.json`` holds them."""
        return asdict(self)

    def with_image_size(self) -> RunSettings:
        """These settings, with the size that suits a pretrained backbone where none is given and images are files.

        Raises:
            ValueError: there is no such backbone, or its weights cannot be had.
        """
        from acil.backbones import create_backbone

        if self.image_size is not None or not self.data.startswith("folder:"):
            return self
        backbone = create_backbone(self.backbone, checkpoint=self.checkpoint)
        return replace(self, image_size=backbone.image_size if backbone.is_pretrained else None)

    def load_data(self) -> DataSource:
        """The data set of the run, with the noise and the imbalance that it asks for in its training part.

        Raises:
            ValueError: it cannot be had, or a setting does not apply to it.
        """
        from acil.scenarios import load_data

        source = load_data(
            self.data,
            seed=self.seed,
            image_size=self.image_size,
            classes=self.classes,
            train_per_class=self.train_per_class,
            test_per_class=self.test_per_class,
        )
        return replace(source, train=self._corrupted(source))

    def _corrupted(self, source: DataSource) -> LabelledTensors:
        """Noise stays within a phase, since a phase's labels are those of its classes; a tail spans all phases."""
        from acil.scenarios import add_label_noise, long_tailed, phase_classes

        train = source.train
        if not (self.label_noise or self.imbalance):
            return train
        phases = phase_classes(source.num_classes, self.phases, self.base_classes, self.seed, self.uneven)
        concerned = {"all": phases, "base": phases[:1], "increments": phases[1:]}[self.corrupt]
        if self.imbalance:
            train = long_tailed(
                train, self.imbalance, seed=self.seed, classes=sorted(label for phase in concerned for label in phase)
            )
        if not self.label_noise:
            return train
        foreign = self.foreign_images(source) if self.label_noise.startswith("open-set") else None
        return add_label_noise(
            train,
            self.label_noise,
            seed=self.seed,
            groups=concerned,
            class_names=source.class_names,
            foreign=foreign,
        )

    def foreign_images(self, source: DataSource) -> Tensor:
        """Images of no class of the run's data, uint8 (n, C, H, W); folders with the name of a class are left out.

        Raises:
            ValueError: there are none, or the run learns feature rows.
        """
        from acil.scenarios import foreign_images

        if source.is_features:
            raise ValueError(f"{self.data} holds feature rows; foreign images need a run that is given images")
        self.refuse_own_data(self.foreign)
        return foreign_images(self.foreign, None, source.shape, seed=self.seed, without=source.class_names)

    def refuse_own_data(self, foreign: str) -> None:
        """Refuse what the run learns as a source of foreign images.

        Raises:
            ValueError: it is.
        """
        if foreign == self.data:
            raise ValueError(f"{foreign} is what the run learns; name a source of other images")

    def criterion(self) -> nn.Module:
        """The loss of base training.

        Raises:
            ValueError: there is no such loss, or two settings exclude each other.
        """
        from torch import nn

        from acil.losses import LogitClip, LogitNorm, create_loss

        if self.loss != "ce" and self.label_smoothing:
            raise ValueError(f"label smoothing is for cross-entropy, not for {self.loss}; leave one of them out")
        if self.logit_clip is not None and self.logit_norm is not None:
            raise ValueError("logits cannot be clipped and normalised at once; leave out --logit-clip or --logit-norm")
        smoothing = self.label_smoothing
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing) if self.loss == "ce" else create_loss(self.loss)
        if self.logit_clip is not None:
            return LogitClip(loss, tau=self.logit_clip)
        return loss if self.logit_norm is None else LogitNorm(loss, tau=self.logit_norm)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RunSettings:
        """The settings that ``config.json`` holds.

        Raises:
            ValueError: a setting is missing or unknown.
        """
        expected, found = {field.name for field in fields(cls)}, set(config)
        if expected != found:
            different = ", ".join(sorted(expected ^ found))
            raise ValueError(
                f"the run's config.json is of another version: {different} missing or unknown; start the run anew"
            )
        return cls(**config)
