"""DS-AL's head against the method's definition in numpy, and what its integer moments keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acil import AnalyticLearner, DualStreamHead, LinearBuffer, create_learner
from acil.head import create_head

DIM = 12
Phase = tuple[torch.Tensor, torch.Tensor]


def phases(seed: int = 0, classes: int = 6, count: int = 3, rows: int = 40) -> list[Phase]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, DIM, generator=generator)
    labels = [torch.randint(2 * p, 2 * p + 2, (rows,), generator=generator) for p in range(count)]
    return [(centres[y] + torch.randn(rows, DIM, generator=generator), y) for y in labels]


def learned(stream: list[Phase], **options: float) -> DualStreamHead:
    head = DualStreamHead(DIM, **options)  # type: ignore[arg-type]
    head.calibrate(stream[0][0])
    for features, labels in stream:
        head.learn(features, labels)
    return head


def reference(stream: list[Phase], head: DualStreamHead, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Main and compensation weights, phase by phase as the paper defines them, on the quantised streams."""
    ridge = gamma * np.eye(DIM)
    main_rows, main_labels = np.zeros((0, DIM)), np.zeros(0, dtype=int)
    gram, targets, seen = np.zeros((DIM, DIM)), {}, set()
    for features, labels in stream:
        main = head.main.quantizer(torch.relu(features)).double().numpy() * float(head.main.quantizer.scale)
        other = head.compensation.quantizer(torch.tanh(features)).double().numpy()
        other = other * float(head.compensation.quantizer.scale)
        main_rows, main_labels = np.vstack([main_rows, main]), np.concatenate([main_labels, labels.numpy()])
        classes = np.unique(main_labels)
        one_hot = (main_labels[:, None] == classes).astype(float)
        weight = np.linalg.solve(main_rows.T @ main_rows + ridge, main_rows.T @ one_hot)
        residual = (labels.numpy()[:, None] == classes) - main @ weight
        gram += other.T @ other
        for column, label in enumerate(classes):
            if label not in seen:  # previous label cleansing: columns of earlier classes are zero
                targets[label] = other.T @ residual[:, column]
        seen |= set(classes)
    return weight, np.linalg.solve(gram + ridge, np.stack([targets[label] for label in classes], axis=1))


@pytest.mark.parametrize("gamma", [0.1, 5.0])
@pytest.mark.parametrize("bits", [8, 16])
def test_weights_are_those_of_the_definition(gamma: float, bits: int) -> None:
    stream = phases()
    head = learned(stream, gamma=gamma, bits=bits, ratio=0.7)
    main, compensation = reference(stream, head, gamma)
    assert np.allclose(head.weight[:DIM].numpy(), main, atol=1e-10)
    assert np.allclose(head.weight[DIM:].numpy(), 0.7 * compensation, atol=1e-10)
    projections = torch.randn(7, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = projections.numpy()
    logits = np.maximum(rows, 0) @ main + 0.7 * np.tanh(rows) @ compensation
    assert np.allclose(head(projections).numpy(), logits, atol=1e-10)


def test_a_class_that_comes_back_is_not_compensated_again() -> None:
    stream = phases()
    stream.append(stream[0])
    head = learned(stream, gamma=0.1)
    main, compensation = reference(stream, head, 0.1)
    assert np.allclose(head.weight.numpy(), np.vstack([main, 0.6 * compensation]), atol=1e-10)


@given(seed=st.integers(0, 99), parts=st.integers(1, 7))
@settings(max_examples=15, deadline=None)
def test_batches_and_order_within_a_phase_do_not_matter(seed: int, parts: int) -> None:
    stream = phases(seed)
    whole, split = learned(stream[:1]), learned(stream[:1])
    for features, labels in stream[1:]:
        whole.learn(features, labels)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        split.learn_phase((features[some], labels[some]) for some in order.chunk(parts))
    assert torch.equal(whole.weight, split.weight)


def test_the_main_stream_is_that_of_acil() -> None:
    stream = phases()
    one, other = DualStreamHead(DIM), DualStreamHead(DIM)
    for head in (one, other):
        head.calibrate(stream[0][0])
    for features, labels in stream:
        one.learn(features, labels)
    for features, labels in reversed(stream):
        other.learn(features, labels)
    assert one.main.digest() == other.main.digest()


def test_a_bad_call_changes_nothing() -> None:
    head = learned(phases())
    before = {name: value.clone() for name, value in head.state_dict().items()}
    for features, labels in [
        (torch.zeros(2, DIM + 1), torch.zeros(2, dtype=torch.int64)),
        (torch.full((2, DIM), torch.nan), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, DIM), torch.zeros(2)),
        (torch.zeros(2, DIM), torch.tensor([0, -1])),
    ]:
        with pytest.raises(ValueError):
            head.learn(features, labels)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_it_is_built_again_from_spec_and_state() -> None:
    head = learned(phases(), gamma=0.3, ratio=1.5)
    again = create_head(**head.spec)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.weight, head.weight)
    assert isinstance(again, DualStreamHead)
    assert again.fresh().is_calibrated
    assert not len(again.fresh().classes)


def test_a_learner_of_it_saves_and_loads_but_neither_forgets_nor_merges(tmp_path: object) -> None:
    learner = create_learner(torch.nn.Identity(), method="ds-al", buffer_size=32, num_features=DIM)
    assert isinstance(learner.buffer, LinearBuffer)
    for features, labels in phases():
        learner.learn(features, labels)
    learner.save(f"{tmp_path}/model.safetensors")
    again = AnalyticLearner.load(f"{tmp_path}/model.safetensors", torch.nn.Identity())
    features, labels = phases()[0]
    assert torch.equal(again.predict(features), learner.predict(features))
    assert (learner.predict(features) == labels).float().mean() > 0.8
    for refused in (lambda: learner.forget(features, labels), lambda: learner.merge(again), learner.digest):
        with pytest.raises(ValueError, match="exactly"):
            refused()


def test_a_new_gamma_is_that_of_both_streams_and_of_the_copy() -> None:
    head = DualStreamHead(32, gamma=0.1)
    generator = torch.Generator().manual_seed(0)
    head.learn(torch.randn(50, 32, generator=generator), torch.arange(50) % 3)
    before = head.weight
    head.gamma = 100.0
    assert head.chosen_gamma == 100.0
    assert not torch.allclose(head.weight, before)
    copy = create_head(**head.spec)
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy.weight, head.weight)


def test_casts_leave_the_weights_alone() -> None:
    head = DualStreamHead(32, gamma=0.1)
    head.learn(torch.randn(50, 32, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3)
    before = head.weight
    assert torch.equal(head.half().float().weight, before)
