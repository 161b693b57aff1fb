"""The learner: images in, the same classifier whatever the split; one file that cannot lie."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, ModelFileError, RandomBuffer, RecursiveHead, create_learner
from acil.backbones import create_backbone
from acil.errors import NotLearnedError
from acil.evaluate import count_correct
from acil.serialize import load_metadata, load_tensors, save_tensors


def learner(head: type[ExactHead] | type[RecursiveHead] = ExactHead) -> AnalyticLearner:
    torch.manual_seed(0)
    backbone = create_backbone("resnet20", channels=1)
    return AnalyticLearner(
        backbone, RandomBuffer(64, 96), head(96), class_names=("a", "b", "c", "d", "e"), batch_size=16
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(90) % 5


@pytest.fixture
def learned(images: Tensor, labels: Tensor) -> AnalyticLearner:
    one = learner()
    one.learn(images, labels)
    return one


def test_learning_in_parts_in_any_order_equals_joint(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    parts = learned.fresh()
    for part in torch.randperm(90, generator=torch.Generator().manual_seed(1)).split([1, 40, 7, 42]):
        parts.learn(images[part], labels[part])
    assert parts.digest() == learned.digest()
    assert torch.equal(parts(images), learned(images))


def test_uint8_images_are_their_fractions(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    whole = (images * 255).to(torch.uint8)
    one, other = learned.fresh(), learned.fresh()
    one.learn(whole, labels)
    other.learn(whole.float() / 255, labels)
    assert one.digest() == other.digest()


def test_logits_cover_the_classes_learned_and_nothing_else(images: Tensor) -> None:
    one = learner()
    assert one(images[:2]).shape == (2, 0)
    one.learn(images, torch.arange(90) % 2 * 7 + 3)
    assert one.classes.tolist() == [3, 10]
    assert one(images[:2]).shape == (2, 2)
    assert set(one.predict(images).tolist()) <= {3, 10}


def test_forgetting_images_is_never_having_learned_them(
    learned: AnalyticLearner, images: Tensor, labels: Tensor
) -> None:
    without = learned.fresh()
    without.learn(images[30:], labels[30:])
    learned.forget(images[:30], labels[:30])
    assert learned.digest() == without.digest()


def test_what_was_not_learned_cannot_be_forgotten(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    before = learned.digest()
    with pytest.raises(NotLearnedError, match="class 4"):
        learned.forget(torch.cat([images, images[4:5]]), torch.cat([labels, labels[4:5]]))
    assert learned.digest() == before
    with pytest.raises(ValueError, match="nothing was learned"):
        learner().forget(images[:1], labels[:1])


def test_merged_learners_equal_joint(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    one, other = learned.fresh(), learned.fresh()
    one.learn(images[:31], labels[:31])
    other.learn(images[31:], labels[31:])
    one.merge(other)
    assert one.digest() == learned.digest()


def test_learners_of_another_frozen_path_do_not_merge(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    other = learned.fresh()
    other.buffer.projection[0, 0] += 1
    other.learn(images, labels)
    before = learned.digest()
    with pytest.raises(ValueError, match=r"learner\.fresh\(\)"):
        learned.merge(other)
    assert learned.digest() == before


def test_a_recursive_learner_says_what_it_cannot_do(images: Tensor, labels: Tensor) -> None:
    one = learner(RecursiveHead)
    one.learn(images, labels)
    for refused in (lambda: one.forget(images, labels), lambda: one.merge(one), one.digest):
        with pytest.raises(ValueError, match="build the learner with ExactHead"):
            refused()


def test_the_backbone_stays_frozen(learned: AnalyticLearner) -> None:
    learned.train()
    assert learned.training
    assert not learned.backbone.training
    assert not any(parameter.requires_grad for parameter in learned.parameters())


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.full((2, 1, 16, 16), float("nan")), "NaN"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.int64), "uint8"),
        (torch.zeros(2), r"\(n, C, H, W\)"),
        ([1, 2], r"torch\.Tensor, got list"),
        (torch.zeros(2, 3, 16, 16), r"\(n, 1, H, W\)"),
    ],
)
def test_bad_images_change_nothing(learned: AnalyticLearner, bad: Tensor, told: str) -> None:
    before = learned.digest()
    for call in (learned.learn, learned.forget):
        with pytest.raises(ValueError, match=told):
            call(bad, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=told):
        learned.predict(bad)
    assert learned.digest() == before


def test_parts_must_fit_together() -> None:
    with pytest.raises(ValueError, match="expects 50"):
        AnalyticLearner(nn.Flatten(), RandomBuffer(4, 60), ExactHead(50))
    with pytest.raises(ValueError, match="batch_size"):
        AnalyticLearner(nn.Flatten(), RandomBuffer(4, 60), ExactHead(60), batch_size=0)


def test_counts_by_class_agree_with_predictions(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    unseen = torch.cat([labels[:-3], torch.tensor([9, 9, 9])])
    counts = count_correct(learned, learned.extract(images), unseen)
    right = learned.predict(images)[:-3] == labels[:-3]
    assert counts.total == {k: int((labels[:-3] == k).sum()) for k in range(5)}
    assert counts.correct == {k: int(right[labels[:-3] == k].sum()) for k in range(5)}
    assert counts.accuracy == pytest.approx(float(right.double().mean()))
    assert counts.accuracy_on([9]) == 0


@pytest.mark.parametrize("head", [ExactHead, RecursiveHead])
def test_a_saved_learner_comes_back_the_same(
    head: type[ExactHead] | type[RecursiveHead], images: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    one = learner(head)
    one.learn(images, labels)
    one.save(tmp_path / "model.safetensors", {"phases": 3})
    back = AnalyticLearner.load(tmp_path / "model.safetensors")
    assert torch.equal(back(images), one(images))
    assert back.class_names == one.class_names
    assert back.fingerprint() == one.fingerprint()
    assert load_metadata(tmp_path / "model.safetensors")["notes"] == {"phases": 3}
    one.learn(images, labels)
    back.learn(images, labels)
    assert torch.equal(back(images), one(images))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_backbone_of_ones_own_has_to_be_passed(images: Tensor, labels: Tensor, tmp_path: Path) -> None:
    one = AnalyticLearner(nn.Flatten(), RandomBuffer(256, 32), ExactHead(32))
    one.learn(images, labels)
    one.save(tmp_path / "own")
    with pytest.raises(ModelFileError, match=r"load\(path, backbone\)"):
        AnalyticLearner.load(tmp_path / "own")
    assert AnalyticLearner.load(tmp_path / "own", nn.Flatten()).digest() == one.digest()
    with pytest.raises(ModelFileError, match="does not fit"):
        AnalyticLearner.load(tmp_path / "own", nn.Linear(3, 3))


def test_every_damaged_file_is_refused_by_name(learned: AnalyticLearner, tmp_path: Path) -> None:
    learned.save(tmp_path / "good")
    content = (tmp_path / "good").read_bytes()
    damaged = tmp_path / "damaged"
    chance = random.Random(0)
    for attempt in range(200):
        place = chance.randrange(len(content))
        if attempt % 2:
            damaged.write_bytes(content[:place])
        else:
            flipped = bytearray(content)
            flipped[place] ^= 1 << chance.randrange(8)
            damaged.write_bytes(flipped)
        with pytest.raises(ModelFileError, match="damaged"):
            AnalyticLearner.load(damaged)


def test_swapped_tensors_foreign_and_missing_files_are_refused(learned: AnalyticLearner, tmp_path: Path) -> None:
    import safetensors.torch

    learned.save(tmp_path / "good")
    tensors, metadata = load_tensors(tmp_path / "good")
    moments = "head.moments.cross_correlation"
    save_tensors(tmp_path / "swapped", {**tensors, moments: tensors[moments].flip(0)}, metadata)
    save_tensors(tmp_path / "short", dict(list(tensors.items())[:3]), metadata)
    save_tensors(tmp_path / "unknown", tensors, {**metadata, "head": {"type": "magic", "dim": 3, "gamma": 1.0}})
    save_tensors(tmp_path / "newer", tensors, {**metadata, "format_version": 99})
    safetensors.torch.save_file(tensors, tmp_path / "foreign")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("swapped", "short", "unknown", "newer", "foreign", "empty", "missing"):
        with pytest.raises(ModelFileError, match=name):
            AnalyticLearner.load(tmp_path / name)


def test_a_failing_disk_leaves_the_earlier_file(
    learned: AnalyticLearner, images: Tensor, labels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    learned.learn(images, labels)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"cannot write .*No space left"):
        learned.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match="cannot write"):
        learned.save(tmp_path / "model")


def state(one: AnalyticLearner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_forgetting_leaves_no_trace_in_the_state(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    before = state(learned)
    learned.learn(1 - images, labels + 3)
    learned.forget(1 - images, labels + 3)
    assert same_state(before, state(learned))


def test_merging_leaves_the_other_learner_as_it_is(learned: AnalyticLearner, images: Tensor, labels: Tensor) -> None:
    one, other = learned.fresh(), learned.fresh()
    one.learn(images[:50], labels[:50])
    other.learn(images[50:], labels[50:])
    before = state(other)
    one.merge(other)
    assert same_state(before, state(other))
    assert same_state(state(one), state(learned))


@pytest.mark.parametrize("head", [ExactHead, RecursiveHead])
def test_features_too_large_to_expand_change_nothing(head: type[ExactHead] | type[RecursiveHead]) -> None:
    one = AnalyticLearner(nn.Identity(), RandomBuffer(4, 8), head(8))
    before = state(one)
    features = torch.rand(5_000, 4)
    features[4_999] = 3e38
    for _ in range(2):
        with pytest.raises(ValueError, match="scale them down"):
            one.learn_features(features, torch.arange(5_000) % 3)
        assert same_state(before, state(one))
        one.learn_features(features[:9], torch.arange(9) % 3)
        before = state(one)


@pytest.mark.parametrize("bad", [torch.tensor([0, -1]), torch.tensor([0]), torch.tensor([0.0, 1.0])])
def test_bad_labels_change_nothing(learned: AnalyticLearner, images: Tensor, bad: Tensor) -> None:
    before = state(learned)
    for call in (learned.learn, learned.forget):
        with pytest.raises(ValueError, match="labels must"):
            call(images[:2], bad)
    assert same_state(before, state(learned))


def test_a_backbone_of_ones_own_predicts_uint8_images_as_it_learned_them(images: Tensor, labels: Tensor) -> None:
    whole = (images * 255).to(torch.uint8)
    one = AnalyticLearner(nn.Flatten(), RandomBuffer(256, 32), ExactHead(32))
    one.learn(whole, labels)
    assert torch.equal(one.predict(whole), one.predict(whole.float() / 255))


def test_a_recursive_learner_in_parts_equals_joint(images: Tensor, labels: Tensor) -> None:
    joint, parts = learner(RecursiveHead), learner(RecursiveHead)
    joint.learn(images, labels)
    for part in torch.randperm(90, generator=torch.Generator().manual_seed(1)).split([1, 40, 7, 42]):
        parts.learn(images[part], labels[part])
    torch.testing.assert_close(parts.head.weight, joint.head.weight, rtol=0, atol=1e-10)


def test_prediction_is_pure(learned: AnalyticLearner, images: Tensor) -> None:
    before, kept = state(learned), images.clone()
    assert torch.equal(learned.predict(images), learned.predict(images))
    assert learned.predict(images[:0]).shape == (0,)
    assert same_state(before, state(learned))
    assert torch.equal(images, kept)


def test_fingerprints_know_the_modules_and_not_the_counters_of_training() -> None:
    def backbone(pooling: torch.nn.Module, batches: int = 0) -> torch.nn.Module:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), pooling, torch.nn.Flatten())
        network[1].num_batches_tracked += batches
        return network

    def fingerprint(*arguments: object) -> str:
        return create_learner(backbone(*arguments), num_features=36, buffer_size=16).fingerprint()

    assert fingerprint(torch.nn.MaxPool2d(2)) != fingerprint(torch.nn.AvgPool2d(2))
    assert fingerprint(torch.nn.MaxPool2d(2)) == fingerprint(torch.nn.MaxPool2d(2), 7)


def test_a_learner_does_not_merge_with_itself(learned: AnalyticLearner) -> None:
    before = learned.digest()
    with pytest.raises(ValueError, match="count everything twice"):
        learned.merge(learned)
    assert learned.digest() == before


@pytest.mark.parametrize("method", ["acil", "fourier", "lda", "gkeal", "ds-al"])
def test_a_cast_learner_goes_on_learning_the_same(method: str, images: Tensor, labels: Tensor) -> None:
    def learner() -> AnalyticLearner:
        torch.manual_seed(0)
        backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())
        return create_learner(backbone, method=method, num_features=images[0].numel(), buffer_size=32, gamma=1.0)

    plain, cast = learner(), learner()
    for one in (plain, cast):
        one.learn(images[:20], labels[:20])
    cast.double()
    for one in (plain, cast):
        one.learn(images[20:], labels[20:])
    assert torch.equal(plain.head.weight, cast.head.weight)
    assert torch.equal(plain.predict(images), cast.predict(images))
