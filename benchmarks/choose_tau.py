"""LogitClip's tau without clean labels: the accuracy on noisy labels of the base phase that were held out.

    python benchmarks/choose_tau.py --epochs 24
    python benchmarks/choose_tau.py --data folder:photos --taus 1 2 5

Prints the accuracy on clean test labels beside it, which nobody without them could know.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from acil.backbones import create_backbone
from acil.losses import LogitClip
from acil.scenarios import DataSource, LabelledTensors, add_label_noise, class_incremental, load_data, phase_classes
from acil.strategies.base_training import base_training, classifier_accuracy

HELD_OUT = 0.1


def of_classes(data: LabelledTensors, classes: list[int]) -> LabelledTensors:
    """The samples of these classes, shuffled."""
    places = torch.isin(data.targets, torch.tensor(classes)).nonzero().flatten()
    return data.subset(places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))])


def accuracies(
    source: DataSource, noisy: LabelledTensors, classes: list[int], criterion: nn.Module, epochs: int
) -> tuple[float, float]:
    """Shares of held-out noisy labels and of clean test labels that training on the other noisy ones gets right."""
    held_out = round(HELD_OUT * len(noisy))
    kept, asked = noisy.subset(range(held_out, len(noisy))), noisy.subset(range(held_out))
    benchmark = class_incremental(kept, asked, phases=0)
    torch.manual_seed(0)
    backbone = create_backbone("convnet", channels=source.shape[0])
    training = base_training(backbone, classes, epochs=epochs, criterion=criterion, augmentation=source.augmentation)
    training.train(benchmark.train_stream[0], eval_streams=[])
    return classifier_accuracy(training, asked), classifier_accuracy(training, of_classes(source.test, classes))


def main() -> None:
    """Parse the options, and print a line for cross-entropy and for each tau."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="glyphs", help="as acil run takes it")
    parser.add_argument("--phases", type=int, default=25)
    parser.add_argument("--label-noise", default="symmetric:0.4", help="of the base phase")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--taus", type=float, nargs="+", default=[0.5, 1.0, 2.0, 5.0])
    options = parser.parse_args()
    source = load_data(options.data, seed=0)
    classes = phase_classes(source.num_classes, options.phases)[0]
    noisy = of_classes(add_label_noise(source.train, options.label_noise, groups=[classes]), classes)
    for name, criterion in [
        ("CE", nn.CrossEntropyLoss()),
        *((f"tau {tau:g}", LogitClip(tau=tau)) for tau in options.taus),
    ]:
        held_out, clean = accuracies(source, noisy, classes, criterion, options.epochs)
        print(f"{name}: {100 * held_out:.2f} % of held-out noisy labels, {100 * clean:.2f} % of clean test labels")


if __name__ == "__main__":
    main()
