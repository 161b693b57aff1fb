"""Integer products are exact by whichever kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acil.head import integer_product
from acil.head.integer_product import add_stripes, exact_kernel, gram_stripes

CPU = torch.device("cpu")
KERNELS = [integer_product._int8_product, integer_product._float32_product]


def aligned(largest: int) -> st.SearchStrategy[int]:
    """Sizes that kernels are called with."""
    return st.integers(1, largest).map(lambda multiple: integer_product.ALIGNMENT * multiple)


def integers(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (n, d), generator=generator, dtype=torch.int8)


def gram(rows: Tensor) -> Tensor:
    """The upper triangle of rows^T rows, in int64 throughout."""
    return (rows.long().t() @ rows.long()).triu()


@given(n=st.integers(1, 300), d=st.integers(1, 70), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_gram_matrix_is_exact_for_every_shape(n: int, d: int, seed: int) -> None:
    total = torch.zeros(d, d, dtype=torch.int64)
    add_stripes(total, gram_stripes(integers(n, d, seed)))
    add_stripes(total, gram_stripes(integers(n, d, seed + 1)))
    assert torch.equal(total.triu(), gram(integers(n, d, seed)) + gram(integers(n, d, seed + 1)))


@pytest.mark.parametrize("kernel", KERNELS)
@given(a=aligned(2), n=aligned(40), b=aligned(2), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_both_kernels_agree_with_int64(kernel: integer_product.Kernel, a: int, n: int, b: int, seed: int) -> None:
    if kernel is integer_product._int8_product and exact_kernel(CPU) is not kernel:
        pytest.skip("this processor's int8 kernel is not the one in use")
    left, right = integers(a, n, seed), integers(n, b, seed + 1)
    assert torch.equal(kernel(left, right).long(), left.long() @ right.long())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [127, -127])
def test_extremes_do_not_saturate(kernel: integer_product.Kernel, value: int) -> None:
    if kernel is integer_product._int8_product and exact_kernel(CPU) is not kernel:
        pytest.skip("this processor's int8 kernel is not the one in use")
    rows = torch.full((4_992, 64), value, dtype=torch.int8)
    assert (kernel(rows.t().contiguous(), rows).long() == 127 * 127 * 4_992).all()


def test_blocks_and_chunks_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_product, "BLOCK_WIDTH", 16)
    monkeypatch.setattr(integer_product, "MAX_ROWS_INT32", 50)
    total = torch.zeros(45, 45, dtype=torch.int64)
    add_stripes(total, gram_stripes(integers(333, 45)))
    assert torch.equal(total.triu(), gram(integers(333, 45)))


@given(n=st.integers(1, 200), d=st.integers(1, 40), classes=st.integers(1, 9), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_class_sums_are_exact(n: int, d: int, classes: int, seed: int) -> None:
    rows = integers(n, d, seed)
    positions = torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(classes, d, dtype=torch.int64).index_add_(0, positions, rows.long())
    assert torch.equal(integer_product.class_sums(rows, positions, classes), expected)


def test_the_float32_kernel_is_exact_whatever_the_precision_setting() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rows = integers(4_000, 33)
        product = integer_product._float32_product(rows.t(), rows)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(product.triu(), gram(rows))


def test_the_float32_kernel_is_exact_under_autocast() -> None:
    rows = integers(4_000, 33)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = integer_product._float32_product(rows.t(), rows)
    assert torch.equal(product.triu(), gram(rows))


def test_an_inexact_kernel_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(left: Tensor, right: Tensor) -> Tensor:
        return (left.long() @ right.long()).clamp(max=30_000)

    monkeypatch.setattr(integer_product, "_int8_product", saturating)
    exact_kernel.cache_clear()
    try:
        assert exact_kernel(CPU) is integer_product._float32_product
    finally:
        exact_kernel.cache_clear()


def test_where_no_kernel_is_exact_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_off(left: Tensor, right: Tensor) -> Tensor:
        return left.long() @ right.long() + 1

    monkeypatch.setattr(integer_product, "_int8_product", one_off)
    monkeypatch.setattr(integer_product, "_float32_product", one_off)
    exact_kernel.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="compute on another device"):
            exact_kernel(CPU)
    finally:
        exact_kernel.cache_clear()


def test_a_matrix_wider_than_a_block_is_exact_by_both_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = integers(200, integer_product.BLOCK_WIDTH + 3)
    expected = (rows.double().t() @ rows.double()).long().triu()
    for kernel in {exact_kernel(CPU), integer_product._float32_product}:
        monkeypatch.setattr(integer_product, "exact_kernel", lambda _, kernel=kernel: kernel)
        total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.int64)
        add_stripes(total, gram_stripes(rows))
        assert torch.equal(total.triu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_integers() -> None:
    total = torch.zeros(45, 45, dtype=torch.int64, device="cuda")
    add_stripes(total, gram_stripes(integers(333, 45).cuda()))
    assert torch.equal(total.cpu().triu(), gram(integers(333, 45)))
