"""LogitClip's tau and ODNL's eta without clean labels: the accuracy on noisy labels of the base phase, held out.

    python benchmarks/choose_setting.py --epochs 24
    python benchmarks/choose_setting.py --data folder:photos --taus 1 2 5 --etas 0.5 1 --foreign gaussian

Prints the accuracy on clean test labels beside it, which nobody without them could know.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import torch
from avalanche.core import BaseSGDPlugin
from torch import nn

from acil.backbones import create_backbone
from acil.losses import LogitClip
from acil.scenarios import (
    DataSource,
    LabelledTensors,
    add_label_noise,
    class_incremental,
    foreign_images,
    load_data,
    phase_classes,
)
from acil.strategies import ODNLPlugin
from acil.strategies.base_training import base_training, classifier_accuracy

HELD_OUT = 0.1


@dataclass(frozen=True)
class Candidate:
    """A way to train the base phase."""

    name: str
    criterion: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    plugins: tuple[BaseSGDPlugin, ...] = ()


def candidates(options: argparse.Namespace, source: DataSource) -> list[Candidate]:
    """Cross-entropy, and each method with each of its settings."""
    found = [Candidate("CE")]
    found += [Candidate(f"LogitClip, tau {tau:g}", criterion=LogitClip(tau=tau)) for tau in options.taus]
    if options.etas:
        foreign = foreign_images(options.foreign, None, source.shape, without=source.class_names)
        found += [Candidate(f"ODNL, eta {eta:g}", plugins=(ODNLPlugin(foreign, eta=eta),)) for eta in options.etas]
    return found


def of_classes(data: LabelledTensors, classes: list[int]) -> LabelledTensors:
    """The samples of these classes, shuffled."""
    places = torch.isin(data.targets, torch.tensor(classes)).nonzero().flatten()
    return data.subset(places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))])


def accuracies(
    source: DataSource, noisy: LabelledTensors, classes: list[int], candidate: Candidate, epochs: int
) -> tuple[float, float]:
    """Shares of held-out noisy labels and of clean test labels that training on the other noisy ones gets right."""
    held_out = round(HELD_OUT * len(noisy))
    kept, asked = noisy.subset(range(held_out, len(noisy))), noisy.subset(range(held_out))
    benchmark = class_incremental(kept, asked, phases=0)
    torch.manual_seed(0)
    backbone = create_backbone("convnet", channels=source.shape[0])
    training = base_training(
        backbone,
        classes,
        epochs=epochs,
        criterion=candidate.criterion,
        augmentation=source.augmentation,
        plugins=candidate.plugins,
    )
    training.train(benchmark.train_stream[0], eval_streams=[])
    return classifier_accuracy(training, asked), classifier_accuracy(training, of_classes(source.test, classes))


def main() -> None:
    """Parse the options, and print a line for each candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="glyphs", help="as acil run takes it")
    parser.add_argument("--phases", type=int, default=25)
    parser.add_argument("--label-noise", default="symmetric:0.4", help="of the base phase")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--taus", type=float, nargs="*", default=[0.5, 1.0, 2.0, 5.0])
    parser.add_argument("--etas", type=float, nargs="*", default=[0.25, 0.5, 1.0, 2.5])
    parser.add_argument("--foreign", default="symbols", help="foreign images of ODNL")
    options = parser.parse_args()
    source = load_data(options.data, seed=0)
    classes = phase_classes(source.num_classes, options.phases)[0]
    noisy = of_classes(add_label_noise(source.train, options.label_noise, groups=[classes]), classes)
    for candidate in candidates(options, source):
        held_out, clean = accuracies(source, noisy, classes, candidate, options.epochs)
        agreement = f"{100 * held_out:.2f} % of held-out noisy labels, {100 * clean:.2f} % of clean test labels"
        print(f"{candidate.name}: {agreement}", flush=True)


if __name__ == "__main__":
    main()
