"""A classifier on noisy or long-tailed images, judged on clean test images and on foreign ones: one JSON file.

    python benchmarks/train_classifier.py --data folder:cifar-10 --label-noise symmetric:0.5 --loss gce --logit-clip 1
    python benchmarks/train_classifier.py --data glyphs --logit-norm 0.04 --against gaussian symbols

Each row of benchmarks/robustness.py is one such command.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import BaseSGDPlugin
from torch import Tensor, nn

from acil import AnalyticLearner, create_learner, ood
from acil.backbones import Backbone, create_backbone
from acil.files import write_atomically
from acil.losses import LogitClip, LogitNorm, create_loss
from acil.scenarios import (
    DataSource,
    LabelledTensors,
    NoisyTensors,
    add_label_noise,
    load_data,
    long_tailed,
    shot_groups,
)
from acil.scenarios.open_set import foreign_images
from acil.strategies.augmentation import BatchAugmentation, CropFlipAugmentation, augmentation_plugins
from acil.strategies.base_training import base_training
from acil.strategies.open_set import OpenSetPlugin, open_set_plugin

BATCH = 500
HEADS = ("acil", "lda")
FOREIGN_TEST_IMAGES = 2_000  # a fifth of the test images, as the published protocol has it


class TestAccuracy(BaseSGDPlugin):
    """Measures the accuracy on clean test images after some epochs, the last one included."""

    def __init__(self, test: LabelledTensors, every: int) -> None:
        super().__init__()
        self.test, self.every = test, every
        self.accuracy: dict[int, float] = {}
        self.predictions = torch.empty(0)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Evaluate the network with its running normalisation statistics, as published figures do."""
        epoch = strategy.clock.train_exp_epochs + 1
        if epoch % self.every == 0 or epoch == strategy.train_epochs:
            self.predictions = outputs(strategy.model, self.test.inputs).argmax(dim=1)
            self.accuracy[epoch] = share(self.predictions == self.test.targets)


@torch.no_grad()
def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """(n, K) logits of uint8 images in evaluation mode; the network's mode stays as it was."""
    training, device = network.training, next(network.parameters()).device
    network.eval()
    logits = torch.cat([network(batch.to(device)).cpu() for batch in images.split(BATCH)])
    network.train(training)
    return logits


def share(right: Tensor) -> float:
    """The share of true values."""
    return float(right.double().mean())


def by_group(predictions: Tensor, labels: Tensor, groups: Mapping[str, list[int]]) -> dict[str, float]:
    """The share of right answers on all classes, and on the classes of each group."""
    right = predictions.cpu() == labels
    among = {name: torch.isin(labels, torch.tensor(classes)) for name, classes in groups.items()}
    return {"all": share(right), **{name: share(right[places]) for name, places in among.items()}}


def training_data(source: DataSource, options: argparse.Namespace) -> LabelledTensors:
    """Training images as the options ask."""
    train = source.train
    if options.train_per_class:
        shuffled = torch.randperm(len(train), generator=torch.Generator().manual_seed(options.seed))
        by_class = [shuffled[train.targets[shuffled] == label] for label in range(source.num_classes)]
        train = train.subset(torch.cat([places[: options.train_per_class] for places in by_class]))
    if options.imbalance:
        train = long_tailed(train, options.imbalance, seed=options.seed)
    if options.label_noise:
        train = add_label_noise(train, options.label_noise, seed=options.seed, class_names=source.class_names)
    return train


def augmentation(source: DataSource, padding: int) -> list[BatchAugmentation]:
    """What the data bear: photographs are cropped and mirrored, letters turned."""
    if source.augmentation == "crop-flip":
        return [CropFlipAugmentation(padding)]
    return augmentation_plugins(source.augmentation)


def criterion(options: argparse.Namespace) -> nn.Module:
    """The loss, behind clipped or normalised logits where the options ask for that."""
    loss = create_loss(options.loss)
    if options.logit_clip is not None:
        return LogitClip(loss, tau=options.logit_clip)
    return loss if options.logit_norm is None else LogitNorm(loss, tau=options.logit_norm)


@contextmanager
def in_bfloat16(backbone: Backbone, device: str) -> Iterator[None]:
    """What needs gradients runs in 16 bits, and on a GPU as one compiled program; all else stays in float32."""
    plain = backbone.forward
    half = torch.autocast(torch.device(device).type, torch.bfloat16)(plain)
    if torch.device(device).type == "cuda":
        half = torch.compile(half, dynamic=False, mode="reduce-overhead")
        torch.backends.cudnn.benchmark = True
    backbone.forward = lambda images: half(images).float() if torch.is_grad_enabled() else plain(images)
    try:
        yield
    finally:
        del backbone.forward


def detection(options: argparse.Namespace, network: nn.Module, learner: AnalyticLearner, known: Tensor) -> list[Any]:
    """How well each score tells test images from foreign ones, if there are any to tell them from."""
    if not options.against:
        return []
    shape = tuple(known.shape[1:])
    of_known, rows = scores(network, learner, known), []
    for source in options.against:
        foreign = foreign_images(source, FOREIGN_TEST_IMAGES, shape, seed=options.seed + 1, without=options.without)
        for name, of_foreign in scores(network, learner, foreign).items():
            metrics = ood.evaluate_ood(of_known[name], of_foreign)
            rows.append({"source": source, "score": name, "fpr95": metrics.fpr95, "auroc": metrics.auroc})
    return rows


def scores(network: nn.Module, learner: AnalyticLearner, images: Tensor) -> dict[str, Tensor]:
    """(n,) scores of uint8 images by name: of the classifier, then of the ridge regression in its place."""
    logits = outputs(network, images)
    features = learner.extract(images)  # in evaluation mode, whatever the network's is
    with torch.no_grad():
        ridge = torch.cat([learner.classify(rows) for rows in features.split(BATCH)])
    return {
        "msp": ood.msp(logits),
        "energy": ood.energy(logits),
        "max cosine": ood.max_cosine(logits),
        "acil: msp": ood.msp(ridge),
        "acil: max cosine": ood.max_cosine(ridge),
        "acil: leverage": learner.leverage_of_features(features),
    }


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the tables of benchmarks/robustness.py need."""
    started = time.perf_counter()
    torch.manual_seed(options.seed)
    source = load_data(options.data, image_size=options.image_size)
    samples, test = training_data(source, options), source.test
    plugins: list[OpenSetPlugin] = []
    if options.open_set:
        foreign = foreign_images(options.foreign, None, tuple(test.inputs.shape[1:]), without=options.without)
        plugins = [open_set_plugin(options.open_set, foreign)]
    watch = TestAccuracy(test, options.evaluate_every)
    backbone = create_backbone(options.backbone, channels=test.inputs.shape[1])
    training = base_training(
        backbone,
        range(source.num_classes),
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        criterion=criterion(options),
        device=options.device,
        plugins=[*plugins, *augmentation(source, options.padding), watch],
    )
    experience = nc_benchmark(samples, test, 1, task_labels=False, shuffle=False).train_stream[0]
    with in_bfloat16(backbone, options.device) if options.bfloat16 else nullcontext():
        training.train(experience, eval_streams=[])
    seconds = time.perf_counter() - started
    network = training.model
    counts = torch.bincount(samples.targets, minlength=source.num_classes).tolist()
    groups = shot_groups(dict(enumerate(counts)))
    fitted = outputs(network, samples.inputs).argmax(dim=1)
    true = samples.true_targets if isinstance(samples, NoisyTensors) else samples.targets
    learners = {method: create_learner(network.backbone, method=method).to(options.device) for method in HEADS}
    heads = {}
    for method, learner in learners.items():
        learner.learn(samples.inputs, samples.targets)
        predictions = torch.cat([learner.predict(batch) for batch in test.inputs.split(BATCH)])
        heads[method] = by_group(predictions, test.targets, groups)
    return {
        "last": watch.accuracy[options.epochs],
        "best": max(watch.accuracy.values()),
        "by_epoch": watch.accuracy,
        "groups": by_group(watch.predictions, test.targets, groups),
        "heads": heads,
        "fitted_labels": share(fitted == samples.targets),
        "fitted_true_labels": share(fitted == true),
        "detection": detection(options, network, learners["acil"], test.inputs),
        "counts": counts,
        "seconds": seconds,
        "torch": torch.__version__,
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as acil run takes it")
    parser.add_argument("--image-size", type=int, help="side to which images of a folder are resized")
    parser.add_argument("--train-per-class", type=int, help="training images of each class; all unless told otherwise")
    parser.add_argument("--label-noise", help="such as symmetric:0.5, asymmetric:0.4 or instance:0.4")
    parser.add_argument("--imbalance", help="such as exp:0.01 or step:0.1")
    parser.add_argument("--loss", default="ce")
    logits = parser.add_mutually_exclusive_group()
    logits.add_argument("--logit-clip", type=float, metavar="TAU")
    logits.add_argument("--logit-norm", type=float, metavar="TAU")
    parser.add_argument("--open-set", help="odnl:ETA or open-sampling:ETA")
    parser.add_argument("--foreign", default="gaussian", help="where open-set images come from")
    parser.add_argument("--without", nargs="*", default=[], help="classes to leave out of foreign folders")
    parser.add_argument("--against", nargs="*", default=[], help="foreign test images to detect")
    parser.add_argument("--backbone", default="convnet")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--padding", type=int, default=1, help="pixels at each side for crops of photographs")
    parser.add_argument("--bfloat16", action="store_true", help="train in 16 bits: for GPUs, and processors with AMX")
    parser.add_argument("--evaluate-every", type=int, default=6, metavar="EPOCHS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


def main() -> None:
    """Train, and write or print the figures."""
    options = parse()
    figures = train(options)
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    text = json.dumps({"settings": settings, **figures}, indent=1)
    if options.output:
        write_atomically(options.output, text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
