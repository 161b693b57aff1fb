"""Second moments of quantised features: sums of integers, so order and grouping cannot matter."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from acil.checks import check_count, check_device, check_labels, check_tensor, check_type
from acil.errors import NotLearnedError
from acil.head.growing import GrowingState
from acil.head.integer_product import add_stripes, class_sums, gram_stripes
from acil.head.quantizer import LEVELS
from acil.transaction import uninterrupted

LARGEST = {torch.int8: LEVELS[8], torch.int16: LEVELS[16]}


class FeatureMoments(GrowingState, nn.Module):
    """The sufficient statistics of ridge regression on one-hot labels.

    For rows z (quantised expanded features) it holds the autocorrelation ``A = sum z z^T``, per class the
    cross-correlation ``C_k = sum of z of class k``, and the class counts. All are int64 sums of integer
    products: any order, batch size or partition of the same samples gives the same bits.

    Args:
        dim: width d of a row.

    Attributes:
        autocorrelation: (d, d) int64; the upper triangle counts, blocks below the diagonal are unused.
        cross_correlation: (K, d) int64, a row for each class in ``classes``.
        counts: (K,) int64, samples of each class, all above 0.
        classes: (K,) int64, the labels seen, ascending.
        version: grows with every change; what is derived from the moments may be cached against it.
    """

    autocorrelation: Tensor
    cross_correlation: Tensor
    counts: Tensor
    classes: Tensor
    growing = ("cross_correlation", "counts", "classes")

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_count(dim, "dim")
        self.version = 0
        self.register_buffer("autocorrelation", torch.zeros(dim, dim, dtype=torch.int64))
        self.register_buffer("cross_correlation", torch.zeros(0, dim, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64))

    @property
    def dim(self) -> int:
        """Width of a row."""
        return int(self.autocorrelation.shape[0])

    @property
    def samples(self) -> int:
        """How many rows the moments hold."""
        return int(self.counts.sum())

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Add samples.

        Args:
            rows: (n, d) int8 with values in -127..127, or int16 with values in -32512..32512.
            labels: (n,) integers, 0 or more.

        Raises:
            ValueError: shapes, dtypes or values differ; nothing has changed then.
        """
        self._check_rows(rows)
        check_labels(labels, len(rows))
        if not len(rows):
            return
        present, positions = torch.unique(labels.to(rows.device), return_inverse=True)
        sums = class_sums(rows, positions, len(present))
        by_class = self._by_class_with(present.long(), sums, torch.bincount(positions, minlength=len(present)))
        stripes = gram_stripes(rows)
        with uninterrupted():
            self.classes, self.cross_correlation, self.counts = by_class
            add_stripes(self.autocorrelation, stripes)
            self.version += 1

    def merge(self, other: FeatureMoments, labels: Tensor | None = None) -> None:
        """Add all samples of ``other``; it is left as it is.

        Args:
            other: moments of the same width.
            labels: (K,) integers, the label here of each class of ``other``; by default the same as there.

        Raises:
            ValueError: ``other`` has another width, or the labels are not one for each of its classes, all different.
        """
        self._check_width(other)
        labels = other.classes if labels is None else labels
        check_labels(labels, len(other.classes))
        if len(torch.unique(labels)) < len(labels):
            raise ValueError(f"every class needs a label of its own, got {labels.tolist()}")
        by_class = self._by_class_with(labels.to(self.classes), other.cross_correlation, other.counts)
        with uninterrupted():
            self.classes, self.cross_correlation, self.counts = by_class
            self.autocorrelation += other.autocorrelation
            self.version += 1

    def subtract(self, other: FeatureMoments) -> None:
        """Take all samples of ``other`` away; classes left without samples disappear.

        Raises:
            NotLearnedError: more samples of a class than were learned, or samples that cannot have been among
                the learned ones. Nothing has changed then.
        """
        self._check_width(other)
        self._check_contains(other)
        places = torch.searchsorted(self.classes, other.classes)
        counts = self.counts.index_add(0, places, other.counts, alpha=-1)
        cross_correlation = self.cross_correlation.index_add(0, places, other.cross_correlation, alpha=-1)
        left = counts > 0
        by_class = self.classes[left], cross_correlation[left], counts[left]
        with uninterrupted():
            self.classes, self.cross_correlation, self.counts = by_class
            self.autocorrelation -= other.autocorrelation
            self.version += 1

    def digest(self) -> str:
        """SHA-256 of the moments in canonical order: equal digests mean equal moments, bit for bit.

        The order is: width, number of classes, classes, counts, cross-correlation by class, then the rows of the
        autocorrelation from the diagonal on; everything as little-endian int64.
        """
        sha = hashlib.sha256()
        sizes = torch.tensor([self.dim, len(self.classes)])
        for part in (sizes, self.classes, self.counts, self.cross_correlation):
            sha.update(_little_endian(part))
        matrix = self.autocorrelation.cpu().numpy().astype("<i8", copy=False)
        for row in range(self.dim):
            sha.update(matrix[row, row:].data)
        return sha.hexdigest()

    def _by_class_with(self, labels: Tensor, sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes, cross-correlation and counts as they are with these sums and counts, one for each of the labels."""
        unseen = labels[~torch.isin(labels, self.classes)]
        classes, order = torch.sort(torch.cat([self.classes, unseen]))
        rows = self.cross_correlation.new_zeros(len(unseen), self.dim)
        places = torch.searchsorted(classes, labels)
        return (
            classes,
            torch.cat([self.cross_correlation, rows])[order].index_add_(0, places, sums),
            torch.cat([self.counts, torch.zeros_like(unseen)])[order].index_add_(0, places, counts),
        )

    def _check_rows(self, rows: Tensor) -> None:
        check_tensor(rows, "rows")
        if rows.dtype not in LARGEST or rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(
                f"rows must be int8 or int16 of shape (n, {self.dim}), got {rows.dtype} of {tuple(rows.shape)}"
            )
        check_device(rows, "rows", self.classes.device)
        largest = LARGEST[rows.dtype]
        if len(rows) and max(int(rows.max()), -int(rows.min())) > largest:
            raise ValueError(f"{rows.dtype} rows must lie in -{largest}..{largest}; quantise with acil.Quantizer")

    def _check_width(self, other: FeatureMoments) -> None:
        check_type(other, FeatureMoments, "the other moments")
        if other.dim != self.dim:
            raise ValueError(f"moments of width {other.dim} do not fit moments of width {self.dim}")
        check_device(other.classes, "the other moments", self.classes.device)

    def _check_contains(self, other: FeatureMoments) -> None:
        """What can be known of ``other`` being a part of this: counts, and whether rows can have what would remain."""
        for label, count in zip(other.classes.tolist(), other.counts.tolist(), strict=True):
            learned = int(self.counts[self.classes == label].sum())
            if count > learned:
                raise NotLearnedError(
                    f"cannot forget {count} samples of class {label}: {learned} were learned; pass only learned samples"
                )
        places = torch.searchsorted(self.classes, other.classes)
        emptied = self.counts[places] == other.counts
        remainder = self.cross_correlation[places] - other.cross_correlation
        power = self.autocorrelation.diagonal() - other.autocorrelation.diagonal()
        leftover = self.samples == other.samples and not torch.equal(
            self.autocorrelation.triu(), other.autocorrelation.triu()
        )
        if leftover or bool(remainder[emptied].any()) or bool((power < 0).any()):
            raise NotLearnedError(
                "these samples cannot all have been learned: taking them away leaves impossible moments; "
                "pass the same images, labels and backbone that were learned"
            )

    def _state_loaded(self) -> None:
        self.version += 1
        known = len(self.classes)
        fitting = self.counts.shape == (known,) and self.cross_correlation.shape == (known, self.dim)
        if not fitting or bool((self.classes.diff() <= 0).any()) or bool((self.counts <= 0).any()):
            raise ValueError("the moments loaded do not fit together: classes, counts and cross-correlation differ")


def _little_endian(values: Tensor) -> bytes:
    return values.cpu().contiguous().numpy().astype("<i8", copy=False).tobytes()
