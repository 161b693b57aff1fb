"""Features do not depend on where in the stream an image stands."""

import pytest
import torch
from torch import Tensor, nn

from acil.backbones import create_backbone
from acil.extract import constant_batches, extract_dataset, extract_features
from acil.scenarios import LabelledTensors

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    network = create_backbone("convnet", channels=1)
    network(torch.rand(64, 1, 32, 32))  # gives the normalisation layers statistics
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (150, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_order_neighbours_and_threads_do_not_matter(backbone: nn.Module, images: Tensor) -> None:
    features = extract_features(backbone, images, 64, CPU)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(extract_features(backbone, images[order], 64, CPU), features[order])
    assert torch.equal(extract_features(backbone, images[3:4], 64, CPU), features[3:4])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(extract_features(backbone, images, 64, CPU), features)
    finally:
        torch.set_num_threads(threads)


def test_a_data_set_gives_what_its_tensor_gives(backbone: nn.Module, images: Tensor) -> None:
    data = LabelledTensors(images, torch.arange(150) % 7)
    features, labels = extract_dataset(backbone, data, 64, CPU)
    assert torch.equal(features, extract_features(backbone, images.float() / 255, 64, CPU))
    assert torch.equal(labels, data.targets)


def test_progress_counts_every_image_once(backbone: nn.Module, images: Tensor) -> None:
    counts: list[int] = []
    extract_features(backbone, images, 64, CPU, counts.append)
    assert counts == [64, 64, 22]


def test_batches_have_one_shape() -> None:
    batches = list(constant_batches(torch.arange(1.0, 6)[:, None], 2))
    assert [batch.shape for batch, _ in batches] == [(2, 1)] * 3
    assert [real for _, real in batches] == [2, 2, 1]


def test_the_backbone_keeps_its_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)).train()
    before = network[1].running_mean.clone()
    extract_features(network, torch.rand(5, 1, 2, 2), 4, CPU)
    assert network.training
    assert torch.equal(network[1].running_mean, before)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Identity(), r"\(n, f\)"),
        (nn.Sequential(nn.Flatten(), nn.Threshold(9.0, float("nan"))), "NaN"),
    ],
)
def test_a_backbone_that_gives_no_features_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        extract_features(network, torch.rand(3, 1, 2, 2), 2, CPU)


def test_an_empty_data_set_is_refused() -> None:
    data = LabelledTensors(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="empty"):
        extract_dataset(nn.Identity(), data, 2, CPU)


def test_a_backbone_that_loses_images_is_refused() -> None:
    class First(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:1].flatten(1)

    with pytest.raises(ValueError, match="n = 4 images"):
        extract_features(First(), torch.rand(3, 1, 2, 2), 4, CPU)


def test_a_backbone_of_ones_own_sees_uint8_images_as_fractions(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    features = extract_features(network, images, 64, CPU)
    assert torch.equal(features, extract_features(network, images.float() / 255, 64, CPU))


def test_other_neighbours_do_not_matter(backbone: nn.Module, images: Tensor) -> None:
    features = extract_features(backbone, images, 64, CPU)
    strangers = torch.cat([images[:20], 255 - images[20:]])
    assert torch.equal(extract_features(backbone, strangers, 64, CPU)[:20], features[:20])


def test_extracting_leaves_global_random_numbers_alone(backbone: nn.Module, images: Tensor) -> None:
    before = torch.get_rng_state()
    extract_dataset(backbone, LabelledTensors(images, torch.arange(150) % 7), 64, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_no_images_give_no_features(backbone: nn.Module, images: Tensor) -> None:
    assert extract_features(backbone, images[:0], 64, CPU).shape == (0, 640)
