"""Buffer layers: what each computes, against numpy; what calibration fixes, and when."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acil import Buffer, FourierBuffer, GaussianKernelBuffer, LinearBuffer, RandomBuffer
from acil.buffer import BUFFERS, create_buffer

KINDS = list(BUFFERS.values())


def features(rows: int = 50, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def calibrated(kind: type[Buffer], dim: int = 32, seed: int = 1) -> Buffer:
    buffer = kind(8, dim, seed)
    buffer.calibrate(features())
    return buffer


@pytest.mark.parametrize("kind", KINDS)
def test_everything_follows_from_the_seed_and_the_first_features(kind: type[Buffer]) -> None:
    before = torch.get_rng_state()
    one, same, other = calibrated(kind), calibrated(kind), calibrated(kind, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    rows = features(seed=5)
    assert torch.equal(one(rows), same(rows))
    assert not torch.equal(one(rows), other(rows))
    assert one(rows).shape == (50, 32)
    assert one(rows).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_ever_trained(kind: type[Buffer]) -> None:
    assert not list(kind(4, 8).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_buffer_is_built_again_from_its_spec_and_state(kind: type[Buffer]) -> None:
    one = calibrated(kind)
    again = create_buffer(**one.spec)
    again.load_state_dict(one.state_dict())
    assert type(again) is kind
    assert again.is_calibrated
    assert torch.equal(one(features(seed=3)), again(features(seed=3)))


def test_the_random_buffer_is_the_rectified_linear_one() -> None:
    linear, random = LinearBuffer(8, 32, 3), RandomBuffer(8, 32, 3)
    assert torch.equal(random(features()), torch.relu(linear(features())))
    assert linear.projection.abs().max() <= 8**-0.5


@given(shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_scale_and_offset_of_features_do_not_matter_to_fourier_features(shift: float, scale: float) -> None:
    one, other = FourierBuffer(8, 32), FourierBuffer(8, 32)
    rows = features().double()
    one.calibrate(rows)
    other.calibrate(rows * scale + shift)
    difference = one(rows.float()) - other((rows * scale + shift).float())
    assert difference.abs().max() < 1e-2 + 1e-4 * abs(shift) / scale


def test_fourier_features_are_cosines_of_standardised_features() -> None:
    buffer = calibrated(FourierBuffer)
    rows = features().double().numpy()
    standardised = (features(seed=4).double().numpy() - rows.mean(0)) / rows.std(0)
    expected = np.cos(standardised @ buffer.projection.double().numpy() + buffer.offset.double().numpy())
    assert np.abs(buffer(features(seed=4)).numpy() - expected).max() < 1e-5


def test_fourier_features_approximate_a_gaussian_kernel() -> None:
    buffer = FourierBuffer(8, 40_000)
    buffer.mean.zero_()
    buffer.deviation.fill_(1.0)
    rows = features(20)
    kernel = 2 * (buffer(rows) @ buffer(rows).t()).double() / buffer.dim
    variance = buffer.projection.double().var()
    assert (kernel - torch.exp(-0.5 * variance * torch.cdist(rows, rows).double() ** 2)).abs().max() < 0.05


def test_a_constant_feature_stays_harmless() -> None:
    rows = torch.cat([features(), torch.full((50, 1), 7.0)], dim=1)
    buffer = FourierBuffer(9, 16)
    buffer.calibrate(rows)
    assert torch.isfinite(buffer(rows * 3)).all()
    one_row = FourierBuffer(9, 16)
    one_row.calibrate(rows[:1])
    assert one_row.is_calibrated
    assert torch.isfinite(one_row(rows)).all()


def test_gaussian_kernels_are_largest_at_their_centres() -> None:
    buffer = calibrated(GaussianKernelBuffer)
    expanded = buffer(buffer.centres)
    assert torch.allclose(expanded.diagonal(), torch.ones(32), atol=1e-4)
    assert expanded.max() <= 1
    distances = np.linalg.norm(features(seed=4).numpy()[:, None] - buffer.centres.numpy()[None], axis=2)
    expected = np.exp(-(distances**2) / (2 * float(buffer.sigma) ** 2))
    assert np.abs(buffer(features(seed=4)).numpy() - expected).max() < 1e-5


def test_centres_are_features_or_lie_between_two_of_them() -> None:
    rows = features(10)
    few, many = GaussianKernelBuffer(8, 6), GaussianKernelBuffer(8, 40)
    few.calibrate(rows)
    many.calibrate(rows)
    assert all((rows == centre).all(dim=1).any() for centre in few.centres)
    assert len(torch.unique(few.centres, dim=0)) == 6
    assert torch.equal(torch.unique(many.centres[:10], dim=0), torch.unique(rows, dim=0))
    assert many.centres.min() >= rows.min()
    assert many.centres.max() <= rows.max()


@pytest.mark.parametrize("kind", [FourierBuffer, GaussianKernelBuffer])
@pytest.mark.parametrize("rows", [torch.zeros(0, 8), torch.zeros(3, 7), torch.full((3, 8), torch.nan), [[1.0] * 8]])
def test_bad_calibration_is_refused_and_changes_nothing(kind: type[Buffer], rows: torch.Tensor) -> None:
    buffer = kind(8, 16)
    with pytest.raises(ValueError, match=r"feature"):
        buffer.calibrate(rows)
    assert not buffer.is_calibrated
