"""A service that keeps answering while it learns a new class from 20 images, and forgets another.

    python examples/serving.py

Readers never wait: they take one reference to an immutable snapshot (frozen path and solved weights) and answer from
it. A single writer teaches the learner, and publishes what it knows by swapping that reference. Prints the latency of
requests before, while learning, while forgetting, and after.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from acil import AnalyticLearner, Classifier, create_learner
from acil.backbones import create_backbone
from acil.scenarios import LabelledTensors, class_incremental, load_data
from acil.strategies.base_training import base_training

NEW_CLASS_IMAGES = 20


class Service:
    """Answers from the snapshot of the moment; one writer at a time changes it."""

    def __init__(self, learner: AnalyticLearner) -> None:
        self._learner = learner
        self._writing = threading.Lock()
        self._snapshot = learner.snapshot()

    def predict(self, images: Tensor) -> tuple[Tensor, Classifier]:
        """Labels, and the snapshot that gave them. No lock: reading a reference is atomic."""
        snapshot = self._snapshot
        return snapshot.predict(images), snapshot

    def learn(self, images: Tensor, labels: Tensor) -> None:
        """Teach the learner; readers see the old snapshot until the new one is whole."""
        with self._writing:
            self._learner.learn(images, labels)
            self._snapshot = self._learner.snapshot()

    def forget(self, images: Tensor, labels: Tensor) -> None:
        """Unlearn these images, likewise."""
        with self._writing:
            self._learner.forget(images, labels)
            self._snapshot = self._learner.snapshot()


@dataclass
class Answer:
    """One request: which images were asked, what came back, from which snapshot, and how long it took."""

    asked: int
    labels: Tensor
    snapshot: Classifier
    milliseconds: float


@contextmanager
def readers(service: Service, requests: list[Tensor], count: int) -> Iterator[list[Answer]]:
    """Threads that send requests one after another while the block runs; yields the answers that come in."""
    answers: list[Answer] = []
    stop = threading.Event()

    def ask(start: int) -> None:
        index = start
        while not stop.is_set():
            asked = index % len(requests)
            started = time.perf_counter()
            labels, snapshot = service.predict(requests[asked])
            answers.append(Answer(asked, labels, snapshot, 1e3 * (time.perf_counter() - started)))
            index += 1

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def trained_learner(base: LabelledTensors, outputs: int, class_names: tuple[str, ...]) -> AnalyticLearner:
    """A small network, trained on the first classes, and a learner on it that knows them."""
    backbone = create_backbone("convnet", channels=1)
    benchmark = class_incremental(base, base, 0, outputs, seed=0)
    training = base_training(backbone, range(outputs), epochs=6, augmentation="affine")
    training.train(benchmark.train_stream[0], eval_streams=[])
    learner = create_learner(backbone, buffer_size=2048, class_names=class_names, image_shape=(1, 32, 32))
    learner.learn(base.inputs, base.targets)
    return learner


def inconsistent(answers: list[Answer], requests: list[Tensor]) -> int:
    """How many answers differ from what their one snapshot gives for their images."""
    return sum(not torch.equal(answer.labels, answer.snapshot.predict(requests[answer.asked])) for answer in answers)


def accuracy(service: Service, test: LabelledTensors, forgotten: int) -> float:
    """On the test images of the other classes, in percent."""
    kept = test.targets != forgotten
    return 100 * float((service.predict(test.inputs[kept])[0] == test.targets[kept]).float().mean())


def main() -> None:
    """Train, serve, learn, forget; print the latencies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--train-per-class", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0, help="of every part")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # one thread per request: requests share the processors instead of fighting for them
    source = load_data(
        "glyphs", classes=options.classes, train_per_class=options.train_per_class, test_per_class=40, seed=0
    )
    new, old = options.classes - 1, 0
    train, test = source.train, source.test
    learner = trained_learner(
        train.subset((train.targets != new).nonzero().flatten()), options.classes - 1, source.class_names
    )
    service = Service(learner)
    requests = [test.inputs[some] for some in torch.randperm(len(test)).split(8)]
    of_new = (train.targets == new).nonzero().flatten()
    new_images = train.inputs[of_new[torch.randperm(len(of_new))[:NEW_CLASS_IMAGES]]]
    old_images = train.inputs[train.targets == old]

    def repeated(action: Callable[[], None], undo: Callable[[], None]) -> None:
        """Long enough to measure: do and undo until the time is up, and end with it done."""
        end = time.perf_counter() + options.seconds
        while True:
            action()
            if time.perf_counter() > end:
                return
            undo()

    def learn_new() -> None:
        service.learn(new_images, torch.full((len(new_images),), new))

    def forget_new() -> None:
        service.forget(new_images, torch.full((len(new_images),), new))

    def forget_old() -> None:
        service.forget(old_images, torch.full((len(old_images),), old))

    def learn_old() -> None:
        service.learn(old_images, torch.full((len(old_images),), old))

    parts: dict[str, Callable[[], None]] = {
        "before": lambda: time.sleep(options.seconds),
        f"learning {source.class_names[new]!r} from {len(new_images)} images": lambda: repeated(learn_new, forget_new),
        f"forgetting {source.class_names[old]!r}": lambda: repeated(forget_old, learn_old),
        "after": lambda: time.sleep(options.seconds),
    }
    table = Table("8 images per request", "requests", "p50 ms", "p95 ms", "max ms", "inconsistent", min_width=100)
    for name, action in parts.items():
        with readers(service, requests, count=1) as answers:
            action()
        milliseconds = torch.tensor([answer.milliseconds for answer in answers])
        quantiles = torch.quantile(milliseconds, torch.tensor([0.5, 0.95, 1.0])).tolist()
        wrong = inconsistent(answers[:: max(1, len(answers) // 50)], requests)
        table.add_row(name, str(len(answers)), *(f"{value:.1f}" for value in quantiles), str(wrong))
    Console().print(table)
    Console().print(f"accuracy on all classes but the forgotten: {accuracy(service, test, old):.1f} %")
    recognised = (service.predict(test.inputs[test.targets == new])[0] == new).float().mean()
    known = service.predict(test.inputs)[0].unique().tolist()
    Console().print(f"the new class is recognised in {100 * float(recognised):.0f} % of its test images")
    Console().print(f"the forgotten class is {'STILL' if old in known else 'never'} answered")


if __name__ == "__main__":
    main()
