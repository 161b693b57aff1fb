"""What one run is made of, as it stands in its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acil.scenarios import DataSource


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
        image_size: side to which folder images are resized; None for their own.
        backbone: name of the network, as ``acil.backbones.create_backbone`` takes it.
        checkpoint: file with pretrained weights; None to train the backbone on the base phase.
        epochs: epochs of base training.
        learning_rate: peak learning rate of base training.
        schedule: "one-cycle" or "cosine".
        label_smoothing: of base training, in 0..1.
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

    def load_data(self) -> DataSource:
        """The data set of the run.

        Raises:
            ValueError: it cannot be had, or a setting does not apply to it.
        """
        from acil.scenarios import load_data

        return load_data(
            self.data,
            seed=self.seed,
            image_size=self.image_size,
            classes=self.classes,
            train_per_class=self.train_per_class,
            test_per_class=self.test_per_class,
        )

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
