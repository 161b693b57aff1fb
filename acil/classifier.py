"""What a learner knows at one moment, for those who only predict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acil.buffer import Buffer
from acil.checks import check_features, check_images
from acil.extract import backbone_features, scaled


class Classifier(nn.Module):
    """Backbone, buffer layer and solved weights: it predicts and learns nothing.

    ``AnalyticLearner.snapshot`` makes one. Learning never changes it, so that any number of threads may read it while
    the learner goes on. Backbone and buffer layer are shared with the learner: moving or casting that moves or casts
    them as well, so take a new snapshot then.

    Args:
        backbone: maps images (n, C, H, W) to features (n, f).
        buffer: maps features (n, f) to expanded features (n, d).
        head: maps expanded features to logits (n, K).
        classes: (K,) int64, the label of each logit.
        class_names: a name for each label from 0 on; may be empty.
    """

    classes: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        buffer: Buffer,
        head: nn.Module,
        classes: Tensor,
        class_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.buffer = buffer
        self.head = head
        self.register_buffer("classes", classes.clone())
        self.class_names = class_names
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, C, H, W) images, in [0, 1] or uint8, to logits (n, K) and the likeliest labels (n,) int64."""
        logits = self.head(self.buffer(self.backbone(scaled(images)).float()))
        return logits, self.classes[logits.argmax(dim=1)]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The likeliest label of each (n, C, H, W) image: (n,) int64.

        Raises:
            ValueError: the images are not finite, no images, or none that the backbone takes.
        """
        check_images(images)
        features = backbone_features(self.backbone, images.to(self.classes.device))
        check_features(features, self.buffer.in_features)
        return self.classes[self.head(self.buffer(features.float())).argmax(dim=1)]
