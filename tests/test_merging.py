"""Analytic federated learning in one round: however clients are merged, the result is joint training, bit for bit."""

import random

import pytest
import torch
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, FourierBuffer, RandomBuffer, create_learner

CLIENTS, CLASSES, WIDTH = 100, 20, 16


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (4_000,), generator=generator)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    return centres[labels] + torch.randn(4_000, WIDTH, generator=generator), labels


def skewed_shares(labels: Tensor, seed: int) -> list[Tensor]:
    """Indices for each client: every class goes mostly to a few of them."""
    generator = torch.Generator().manual_seed(seed)
    owners = torch.empty_like(labels)
    for label in labels.unique():
        where = (labels == label).nonzero().flatten()
        weights = torch.rand(CLIENTS, generator=generator).clamp(min=1e-3, max=0.999).log().neg().pow(-4)
        owners[where] = torch.multinomial(weights, len(where), replacement=True, generator=generator)
    return [(owners == client).nonzero().flatten() for client in range(CLIENTS)]


def merged_as_a_random_tree(clients: list[AnalyticLearner], seed: int) -> AnalyticLearner:
    """Any two learners merge next, until one is left: random order, and a random shape of the tree."""
    choice = random.Random(seed)
    while len(clients) > 1:
        one = clients.pop(choice.randrange(len(clients)))
        one.merge(clients.pop(choice.randrange(len(clients))))
        clients.append(one)
    return clients[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_skewed_clients_merge_into_joint_training(data: tuple[Tensor, Tensor], seed: int) -> None:
    features, labels = data
    server = create_learner(nn.Identity(), buffer_size=128, num_features=WIDTH)
    server.calibrate(features[:500])
    joint = server.fresh()
    joint.learn(features, labels)

    shares = skewed_shares(labels, seed)
    assert max(len(labels[share].unique()) for share in shares) > min(len(labels[share].unique()) for share in shares)
    clients = [server.fresh() for _ in shares]
    for client, share in zip(clients, shares, strict=True):
        client.learn(features[share], labels[share])
    merged = merged_as_a_random_tree(clients, seed)

    assert merged.digest() == joint.digest()
    assert torch.equal(merged.head.counts, torch.bincount(labels))
    assert torch.equal(merged.head.weight, joint.head.weight)


def learner(backbone: nn.Module, buffer: RandomBuffer | FourierBuffer, bits: int = 8) -> AnalyticLearner:
    made = AnalyticLearner(backbone, buffer, ExactHead(32, bits=bits))
    made.calibrate(torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1)))
    return made


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (lambda: learner(nn.Linear(WIDTH, WIDTH), RandomBuffer(WIDTH, 32)), "backbone"),
        (lambda: learner(nn.Identity(), RandomBuffer(WIDTH, 32, seed=1)), "buffer layer"),
        (lambda: learner(nn.Identity(), FourierBuffer(WIDTH, 32)), "buffer layer"),
        (lambda: learner(nn.Identity(), RandomBuffer(WIDTH, 32), bits=16), "scale"),
    ],
)
def test_learners_of_different_frozen_paths_do_not_merge(other: object, part: str) -> None:
    one = learner(nn.Identity(), RandomBuffer(WIDTH, 32))
    one.learn(torch.ones(2, WIDTH), torch.tensor([0, 1]))
    before = one.digest()
    with pytest.raises(ValueError, match=f"the .*{part}.* differ"):
        one.merge(other())  # type: ignore[operator]
    assert one.digest() == before
