"""The work of a comparison, in a process of its own: ``python -m acil.cli.contest FOLDER SEED [METHOD]``.

Without a method, base training and the extraction of features; with one, all of its contests that are missing.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from acil.backbones import Backbone, create_backbone
from acil.cli.comparison import ComparisonFolder, Contest
from acil.cli.experiment import Experiment, environment, needs_base_training, seed_everything, train_backbone
from acil.evaluate import CLASSIFIED_ROWS, ClassCounts
from acil.files import write_atomically
from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies.base_training import ClassifierNetwork
from acil.strategies.contenders import CONTENDERS, Contender, Phase, Start


def prepare_base(folder: ComparisonFolder, seed: int) -> None:
    """Train the network on the base phase of a seed, if that was not done, and extract the features of all samples."""
    settings = folder.comparison.settings(seed)
    experiment = Experiment.prepare(settings)
    seed_everything(seed)
    facts = folder.base_facts(seed) or {"base_training": None, "augmentation": experiment.source.augmentation}
    learner = experiment.new_learner()
    if not experiment.source.is_features:
        assert isinstance(learner.backbone, Backbone)
        if folder.base_facts(seed):
            learner.backbone.load_state_dict(_load_network(folder.network_file(seed)).backbone.state_dict())
        elif needs_base_training(learner):
            checkpoint = folder.path / f"checkpoint-{seed}.pt"
            training, trained = train_backbone(experiment, learner, checkpoint, Progress(disable=True))
            facts["base_training"] = {**trained, "device": environment(settings)["device"]}
            _save_network(training.model, folder.network_file(seed))
            checkpoint.unlink()
        else:
            network = ClassifierNetwork(learner.backbone, range(experiment.source.num_classes))
            _save_network(network, folder.network_file(seed))
    started = time.perf_counter()
    tensors = {}
    for part, data in (("train", experiment.source.train), ("test", experiment.source.test)):
        tensors[part] = data.inputs if data.is_features else learner.extract(data.inputs).cpu()
        tensors[f"{part}_labels"] = data.targets
    samples = len(experiment.source.train) + len(experiment.source.test)
    facts["extraction_seconds"] = (time.perf_counter() - started) / samples
    write_atomically(folder.features_file(seed), save({name: one.contiguous() for name, one in tensors.items()}))
    folder.write_base_facts(seed, facts)


def compete(folder: ComparisonFolder, seed: int, method: str) -> None:
    """Fight the missing contests of a method; where it fails, a file says why."""
    for contest in folder.missing():
        if (contest.seed, contest.method) == (seed, method):
            try:
                folder.write(contest, fight(folder, contest))
            except Exception as error:  # whatever a peer's code raises is a row of the table
                folder.write_failure(contest, " ".join(f"{type(error).__name__}: {error}".split()))


def fight(folder: ComparisonFolder, contest: Contest) -> dict[str, Any]:
    """All phases of one method on one class order, as its file holds them."""
    entry = CONTENDERS[contest.method]
    settings = folder.comparison.settings(contest.seed, contest.phases)
    train, test = load_features(folder, contest.seed)
    # Contenders on features would have had to extract them.
    extraction = 0.0 if entry.on_images else folder.base_facts(contest.seed)["extraction_seconds"]
    start = _start(folder, contest, train)
    if entry.on_images and start.network is not None:
        source = settings.load_data()
        train, test = source.train, source.test
    benchmark = class_incremental(train, test, contest.phases, settings.base_classes, contest.seed, settings.uneven)
    seed_everything(contest.seed)
    contender = entry.create(start)
    phases, kept, seen = [], [], torch.empty(0, dtype=torch.int64)
    for number, experience in enumerate(benchmark.train_stream):
        classes = torch.tensor(sorted(experience.classes_in_this_experience))
        seen = torch.cat([seen, classes])
        members = torch.isin(train.targets, classes)
        phase = Phase(number, train.inputs[members], train.targets[members], experience)
        phases.append({"classes": classes.tolist(), **_fight_phase(contender, phase, test, seen, extraction)})
        kept.append(contender.kept_bytes())
    return {
        "phases": phases,
        "kept_bytes": kept,
        "keeps_data": contender.keeps_data,
        "environment": environment(settings),
        "extraction_seconds": extraction,
    }


def _fight_phase(
    contender: Contender, phase: Phase, test: LabelledTensors, seen: Tensor, extraction: float
) -> dict[str, Any]:
    """Learn a phase and test on all classes seen; a record of it."""
    started = time.perf_counter()
    contender.learn(phase)
    learned = time.perf_counter()
    counts = count_correct(contender, test, seen)
    return {
        "phase": phase.number,
        "samples": len(phase.labels),
        "learning_seconds": learned - started + extraction * len(phase.labels),
        "evaluation_seconds": time.perf_counter() - learned,
        "gamma": contender.gamma(),
        "clipped_share": None,
        "digest": contender.digest(),
        "correct": counts.correct,
        "total": counts.total,
    }


@torch.no_grad()
def count_correct(contender: Contender, test: LabelledTensors, seen: Tensor) -> ClassCounts:
    """Classify the test samples of the classes seen, among these classes."""
    members = torch.isin(test.targets, seen)
    inputs, labels = test.inputs[members], test.targets[members]
    scores = [contender.scores(rows).cpu()[:, seen] for rows in torch.split(inputs, CLASSIFIED_ROWS)]
    right = seen[torch.cat(scores).argmax(dim=1)] == labels
    return ClassCounts.of(labels, right)


def load_features(folder: ComparisonFolder, seed: int) -> tuple[LabelledTensors, LabelledTensors]:
    """Features and labels of all training and test samples, as ``prepare_base`` left them."""
    with safe_open(folder.features_file(seed), "pt") as file:
        return (
            LabelledTensors(file.get_tensor("train"), file.get_tensor("train_labels")),
            LabelledTensors(file.get_tensor("test"), file.get_tensor("test_labels")),
        )


def _start(folder: ComparisonFolder, contest: Contest, features: LabelledTensors) -> Start:
    comparison, facts = folder.comparison, folder.base_facts(contest.seed)
    settings = comparison.settings(contest.seed)
    file = folder.network_file(contest.seed)
    return Start(
        network=_load_network(file) if file.exists() else None,
        num_features=features.inputs.shape[1],
        num_classes=int(features.targets.max()) + 1,
        base_trained=facts["base_training"] is not None,
        buffer_size=settings.buffer_size,
        gamma=settings.gamma,
        bits=settings.bits,
        epochs=comparison.phase_epochs,
        learning_rate=comparison.phase_learning_rate,
        replay_per_class=comparison.replay_per_class,
        augmentation=facts["augmentation"],
        seed=contest.seed,
        device=settings.device,
    )


def _save_network(network: ClassifierNetwork, path: Path) -> None:
    content = io.BytesIO()
    classes = network.classes.tolist()
    torch.save({"backbone": network.backbone.spec, "classes": classes, "state": network.state_dict()}, content)
    write_atomically(path, content.getvalue())


def _load_network(path: Path) -> ClassifierNetwork:
    if not path.exists():
        raise ValueError(f"{path} is gone, so features cannot be made again; put it back, or compare anew")
    content = torch.load(path, map_location="cpu", weights_only=True)
    # Formerly a network had an output for every label up to the largest.
    classes = content["classes"] if "classes" in content else range(content["outputs"])
    network = ClassifierNetwork(create_backbone(**content["backbone"]), classes)
    network.load_state_dict(content["state"])
    return network


def main() -> None:
    """What the module's description says."""
    folder = ComparisonFolder.open(Path(sys.argv[1]))
    seed = int(sys.argv[2])
    if len(sys.argv) == 3:
        prepare_base(folder, seed)
    else:
        compete(folder, seed, sys.argv[3])


if __name__ == "__main__":
    main()
