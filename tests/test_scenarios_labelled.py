"""Labelled data: what comes in is checked, what comes out is a copy."""

import numpy as np
import pytest
import torch

from acil.scenarios import DataSource, LabelledTensors

IMAGES = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).to(torch.uint8)
FEATURES = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 5.0]])
LABELS = torch.tensor([1, 0])


def test_an_image_is_served_as_float32_from_0_to_1() -> None:
    data = LabelledTensors(torch.full((2, 1, 3, 3), 255, dtype=torch.uint8), LABELS)
    image, label = data[0]
    assert image.dtype == torch.float32
    assert image.shape == (1, 3, 3)
    assert (image == 1).all()
    assert label == 1
    assert type(label) is int


def test_a_feature_row_is_served_as_it_is_and_as_a_copy() -> None:
    data = LabelledTensors(FEATURES.clone(), torch.tensor([0, 1, 1]))
    row, _ = data[1]
    assert torch.equal(row, FEATURES[1])
    row.zero_()
    assert torch.equal(data.inputs, FEATURES)


def test_memory_mapped_images_work(tmp_path) -> None:
    np.save(tmp_path / "a.npy", IMAGES.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "a.npy", mmap_mode="c"))
    assert torch.equal(LabelledTensors(mapped, LABELS)[1][0], IMAGES[1] / 255)


def test_a_loader_serves_all_items_in_order() -> None:
    data = LabelledTensors(IMAGES, LABELS)
    inputs, targets = next(iter(torch.utils.data.DataLoader(data, batch_size=2)))
    assert torch.equal(inputs, IMAGES / 255)
    assert torch.equal(targets, LABELS)


@pytest.mark.parametrize("indices", [[2, 0], torch.tensor([2, 0]), np.array([2, 0])])
def test_a_subset_keeps_the_given_order(indices) -> None:
    part = LabelledTensors(FEATURES, torch.tensor([0, 1, 2])).subset(indices)
    assert part.targets.tolist() == [2, 0]
    assert torch.equal(part.inputs, FEATURES[[2, 0]])


def test_a_subset_may_be_empty() -> None:
    assert len(LabelledTensors(IMAGES, LABELS).subset([])) == 0


@pytest.mark.parametrize("indices", [[-1], [2], torch.tensor([True, False]), [0.0], [[0]]])
def test_a_subset_refuses_what_is_not_an_index(indices) -> None:
    with pytest.raises(ValueError, match="indices"):
        LabelledTensors(IMAGES, LABELS).subset(indices)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (IMAGES.float(), LABELS, "inputs must be uint8 images"),
        (IMAGES[0], LABELS, "inputs must be uint8 images"),
        (FEATURES.double(), torch.tensor([0, 0, 0]), "inputs must be uint8 images"),
        (torch.empty(2, 0), LABELS, "at least one value"),
        (torch.tensor([[1.0], [float("nan")]]), LABELS, "1 of 2 values are NaN"),
        (torch.tensor([[1.0], [float("inf")]]), LABELS, "1 of 2 values are NaN or infinite"),
        (IMAGES, LABELS.int(), "targets must be int64"),
        (IMAGES, LABELS[:, None], "targets must be int64"),
        (IMAGES, torch.tensor([1]), "each of the 2 inputs, got 1"),
        (IMAGES, torch.tensor([1, -1]), "0 or more, got -1"),
    ],
)
def test_bad_data_is_refused(inputs, targets, message) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledTensors(inputs, targets)


def test_a_source_knows_its_classes_and_shape() -> None:
    data = LabelledTensors(IMAGES, LABELS)
    source = DataSource("x", data, data, ("a", "b"), "affine")
    assert (source.num_classes, source.is_features, source.shape) == (2, False, (3, 4, 4))
    rows = LabelledTensors(FEATURES, torch.tensor([0, 0, 0]))
    source = DataSource("x", rows, rows, ("a",), "none")
    assert (source.num_classes, source.is_features, source.shape) == (1, True, (2,))


def test_a_source_refuses_parts_that_do_not_fit() -> None:
    images, rows = LabelledTensors(IMAGES, LABELS), LabelledTensors(FEATURES, torch.tensor([0, 0, 0]))
    with pytest.raises(ValueError, match="augmentation must be one of"):
        DataSource("x", images, images, ("a", "b"), "mixup")
    with pytest.raises(ValueError, match="training label is 1, but there are 1 class names"):
        DataSource("x", images, images, ("a",), "none")
    with pytest.raises(ValueError, match="must agree"):
        DataSource("x", images, rows, ("a", "b"), "none")
    with pytest.raises(ValueError, match="test set is empty"):
        DataSource("x", images, images.subset([]), ("a", "b"), "none")
