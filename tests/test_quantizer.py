"""The quantiser."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acil import Quantizer


@given(seed=st.integers(0, 99), spread=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_values_within_the_scale_are_rounded_to_half_a_step(seed: int, spread: float) -> None:
    features = torch.randn(200, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    quantizer = Quantizer()
    quantizer.calibrate(features)
    step = float(quantizer.scale)
    rows = quantizer(features)
    assert rows.dtype == torch.int8
    assert rows.abs().max() <= 127
    inside = features.abs() <= 127 * step
    assert ((rows.double() * step - features)[inside].abs() <= step / 2 * (1 + 1e-9)).all()


def test_calibration_clips_about_one_in_ten_thousand_and_counts_it() -> None:
    features = torch.randn(1_000, 300, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer()
    quantizer.calibrate(features)
    quantizer.count_clipped(features)
    clipped = int((features.abs() / quantizer.scale > 127.5).sum())
    assert int(quantizer.clipped) == clipped
    assert quantizer.clipped_share == clipped / features.numel()
    assert 0 < quantizer.clipped_share < 2e-4


def test_the_scale_is_fixed_once() -> None:
    quantizer = Quantizer()
    assert not quantizer.is_calibrated
    quantizer.calibrate(torch.ones(3, 2))
    with pytest.raises(ValueError, match="fixed already"):
        quantizer.calibrate(torch.ones(3, 2))
    assert float(quantizer.scale) == pytest.approx(1 / 127)


def test_features_that_are_all_zero_or_almost_all_have_a_scale() -> None:
    zero, sparse = Quantizer(), Quantizer()
    zero.calibrate(torch.zeros(10, 4))
    features = torch.zeros(1_000, 100)
    features[0, 0] = 5
    sparse.calibrate(features)
    assert float(zero.scale) == 1
    assert int(sparse(features)[0, 0]) == 127


@pytest.mark.parametrize("features", [torch.zeros(0, 4), torch.full((2, 2), float("nan"))])
def test_calibration_needs_finite_values(features: torch.Tensor) -> None:
    quantizer = Quantizer()
    with pytest.raises(ValueError, match=r"at least one|NaN"):
        quantizer.calibrate(features)
    assert not quantizer.is_calibrated


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_quantised_as_the_values_it_holds(dtype: torch.dtype) -> None:
    features = (torch.rand(100, 4, generator=torch.Generator().manual_seed(0)) * 1e-6).to(dtype)
    quantizer = Quantizer()
    quantizer.calibrate(features)
    assert torch.equal(quantizer(features), quantizer(features.float()))
    assert int(quantizer(features).max()) == 127


def test_casting_moves_everything_but_the_bits_of_the_scale() -> None:
    quantizer = Quantizer()
    quantizer.calibrate(torch.full((3, 3), 1e-7))
    scale = quantizer.scale.clone()
    assert torch.equal(quantizer.half().scale, scale)
    assert torch.equal(quantizer.to(torch.bfloat16).double().scale, scale)
    assert quantizer.is_calibrated


def test_calibration_keeps_no_graph() -> None:
    quantizer = Quantizer()
    quantizer.calibrate(torch.rand(3, 3, requires_grad=True))
    assert not quantizer.scale.requires_grad


@pytest.mark.parametrize("largest", [1e200, 1e300])
def test_values_too_large_to_square_are_refused(largest: float) -> None:
    quantizer = Quantizer()
    with pytest.raises(ValueError, match="scale them down"):
        quantizer.calibrate(torch.full((2, 2), largest, dtype=torch.float64))
    assert not quantizer.is_calibrated


def test_values_too_small_to_divide_count_as_zero() -> None:
    quantizer = Quantizer()
    quantizer.calibrate(torch.full((2, 2), 1e-44))
    assert float(quantizer.scale) == 1
    assert not quantizer(torch.full((2, 2), 1e-44)).any()


def test_sixteen_bits_leave_room_for_twice_the_largest_value_of_calibration() -> None:
    features = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer(bits=16)
    quantizer.calibrate(features)
    quantizer.count_clipped(1.99 * features)
    assert quantizer.clipped_share == 0.0
    quantizer.count_clipped(2.01 * features)
    assert quantizer.clipped_share > 0.0


def test_calibration_looks_at_every_column() -> None:
    features = torch.rand(4_096, 2_048, generator=torch.Generator().manual_seed(0))
    features[:, 1::2] *= 1_000
    quantizer = Quantizer()
    quantizer.calibrate(features)
    assert float(quantizer.scale) * 127 == pytest.approx(1_000, rel=1e-2)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), ()])
def test_calibration_refuses_what_are_no_rows(bits: int, shape: tuple[int, ...]) -> None:
    quantizer = Quantizer(bits)
    with pytest.raises(ValueError, match="features must be rows"):
        quantizer.calibrate(torch.ones(shape))
    assert not quantizer.is_calibrated
