"""Out-of-distribution detection: scores, and how well they tell foreign samples from known ones.

Every score is larger for what looks foreign. The analytic head's own score is ``AnalyticLearner.leverage``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from acil.checks import check_count, check_labels, check_positive, check_values
from acil.extract import scaled

# Share of the known samples that must be accepted where false positives are counted.
ACCEPTED = 0.95


@dataclass(frozen=True)
class DetectionMetrics:
    """How well scores tell foreign samples from known ones.

    Attributes:
        fpr95: share of the foreign samples that pass for known at a threshold that accepts 95 % of the known ones.
        auroc: probability that a foreign sample scores above a known one.
        aupr_in: area under precision and recall where known samples are the positive ones.
        aupr_out: the same where foreign samples are.
    """

    fpr95: float
    auroc: float
    aupr_in: float
    aupr_out: float


def msp(logits: Tensor) -> Tensor:
    """(n,) float64 from logits (n, K): one minus the largest softmax probability.

    References:
        Hendrycks and Gimpel, ICLR 2017.
    """
    # The sum of the others: one minus a probability near 1 would lose the digits that tell samples apart.
    others = F.softmax(logits.double(), dim=1).sort(dim=1).values[:, :-1]
    return others.sum(dim=1)


def max_logit(logits: Tensor) -> Tensor:
    """(n,) from logits (n, K): the largest logit, with the sign changed.

    References:
        Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022.
    """
    return -logits.max(dim=1).values


def max_cosine(logits: Tensor) -> Tensor:
    """(n,) float64 from logits (n, K): the largest cosine of a sample's logits and a class's axis, sign changed.

    It is the largest logit divided by the norm of all: how clearly they name one class, however large they are. That
    is what LogitNorm trains, which leaves the norm to chance. Take three classes at least: two logits that sum up to
    zero, as those of linear discriminant analysis do, have one cosine whatever they are. Zeros have cosine 0.

    The score is this project's own; see docs/robustness.md for what it is worth.
    """
    return -F.normalize(logits.double(), dim=1).max(dim=1).values


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(n,) from logits (n, K): ``-T log sum exp(z / T)``.

    References:
        Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, equation 4.
    """
    check_positive(temperature, "temperature")
    return -temperature * torch.logsumexp(logits / temperature, dim=1)


def odin(model: nn.Module, images: Tensor, temperature: float = 1000.0, epsilon: float = 0.0014) -> Tensor:
    """(n,) float64: MSP at a temperature, after a small step of the image towards a surer answer.

    Args:
        model: maps images to logits (n, K), with gradients; in eval mode.
        images: (n, C, H, W) floating point in [0, 1], or uint8.
        temperature: above 0.
        epsilon: length of the step in each value, 0 or more.

    References:
        Liang et al., "Enhancing the reliability of out-of-distribution image detection in neural networks", ICLR 2018.
    """
    check_positive(temperature, "temperature")
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon must be at least 0 and below 1, got {epsilon!r}")
    pixels = scaled(images).detach().clone().requires_grad_(True)
    with torch.enable_grad():
        doubt = -F.log_softmax(model(pixels) / temperature, dim=1).max(dim=1).values.sum()
        (slope,) = torch.autograd.grad(doubt, pixels)
    with torch.no_grad():
        # float64: at a high temperature all probabilities are near 1/K, and float32 would tie most of them.
        return msp(model(pixels - epsilon * slope.sign()).double() / temperature)


def evaluate_ood(known: Tensor, foreign: Tensor) -> DetectionMetrics:
    """How well scores tell foreign samples from known ones.

    Args:
        known: (n,) scores of known samples; larger means more foreign.
        foreign: (m,) scores of foreign samples.

    Raises:
        ValueError: there are no scores, or some are not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    passed, accepted = roc_curve(known, foreign)
    is_foreign, scores = _joined(known, foreign)
    return DetectionMetrics(
        fpr95=float(passed[accepted >= ACCEPTED].min()),
        auroc=float(roc_auc_score(is_foreign, scores)),
        aupr_in=float(average_precision_score(~is_foreign, -scores)),
        aupr_out=float(average_precision_score(is_foreign, scores)),
    )


def roc_curve(known: Tensor, foreign: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the foreign and of the known samples that pass for known, for every threshold, ascending.

    Args:
        known: (n,) scores of known samples; larger means more foreign.
        foreign: (m,) scores of foreign samples.

    Returns:
        two float64 tensors of one length, from 0 to 1: false and true positive rate.

    Raises:
        ValueError: there are no scores, or some are not finite.
    """
    from sklearn import metrics

    for name, part in (("known", known), ("foreign", foreign)):
        if part.ndim != 1 or not len(part) or not bool(part.isfinite().all()):
            raise ValueError(f"scores of {name} samples must be finite and of shape (n,), got {tuple(part.shape)}")
    is_foreign, scores = _joined(known, foreign)
    passed, accepted, _ = metrics.roc_curve(~is_foreign, -scores, drop_intermediate=False)
    return torch.from_numpy(passed), torch.from_numpy(accepted)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by their samples, in 0..1.

    Args:
        probabilities: (n, K), rows that sum to 1.
        labels: (n,) integers from 0 to K - 1.
        bins: number of bins.

    Raises:
        ValueError: there are no rows, they are no probabilities, or a label is none of theirs.

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017, equation 5.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    check_count(bins, "bins")
    check_values(probabilities, "probabilities")
    if probabilities.ndim != 2 or not probabilities.numel() or probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(f"probabilities must be rows (n, K) in 0..1, got {tuple(probabilities.shape)}")
    if (worst := float((probabilities.sum(dim=1) - 1).abs().max())) > 1e-2:
        raise ValueError(
            f"probabilities must have rows that sum to 1, but one is {worst:.2g} off; take the softmax of logits"
        )
    check_labels(labels, len(probabilities))
    classes = probabilities.shape[1]
    if int(labels.max()) >= classes:
        raise ValueError(f"labels must be below {classes}, the number of probabilities, got {int(labels.max())}")
    return float(multiclass_calibration_error(probabilities, labels.long(), classes, n_bins=bins, norm="l1"))


def _joined(known: Tensor, foreign: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each sample is foreign, and its score."""
    scores = torch.cat([known.double(), foreign.double()]).cpu().numpy()
    return np.arange(len(scores)) >= len(known), scores
