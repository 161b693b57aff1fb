"""The laws of the engine on a GPU, and that it agrees with a CPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, RecursiveHead, create_learner
from acil.backbones import create_backbone
from acil.head import FeatureMoments, integer_product
from acil.head.integer_product import _float32_product, _int8_product, exact_kernel
from acil.losses import LogitClip
from acil.methods import METHODS
from acil.scenarios import LabelledTensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CUDA = torch.device("cuda")
EXACT = [name for name in METHODS if name != "ds-al"]


def samples(n: int, dim: int, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Rectified normal features with labels."""
    generator = torch.Generator().manual_seed(n)
    return torch.relu(torch.randn(n, dim, generator=generator)), torch.randint(0, classes, (n,), generator=generator)


def images(n: int) -> tuple[Tensor, Tensor]:
    """Noise images with labels."""
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(0, 7, (n,), generator=generator)


def learner(method: str = "acil", network: str = "convnet", bits: int = 8) -> AnalyticLearner:
    """A learner on the GPU, its frozen path fixed by noise images."""
    torch.manual_seed(0)
    made = create_learner(create_backbone(network), method=method, buffer_size=300, bits=bits).to(CUDA)
    made.calibrate(made.extract(images(200)[0]))
    return made


@pytest.mark.parametrize("kernel", [_int8_product, _float32_product, None])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("sizes", [(64, 64, 64), (64, 3_328, 128), (1_024, 4_096, 960), (192, 16_384, 64)])
def test_products_are_exact_in_every_precision_mode(kernel, precision: str, sizes: tuple[int, int, int]) -> None:
    multiply = kernel or exact_kernel(CUDA)
    rows, inner, columns = sizes
    generator = torch.Generator().manual_seed(inner)
    left = torch.randint(-127, 128, (rows, inner), generator=generator, dtype=torch.int8)
    right = torch.randint(-127, 128, (inner, columns), generator=generator, dtype=torch.int8)
    left[0], right[:, 0] = 127, -127
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        product = multiply(left.to(CUDA), right.to(CUDA))
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(product.cpu().long(), (left.double() @ right.double()).long())


def test_the_int8_product_itself_takes_aligned_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fallback(left: Tensor, right: Tensor) -> Tensor:
        raise AssertionError(f"cuBLAS refused {tuple(left.shape)} by {tuple(right.shape)}")

    monkeypatch.setattr(integer_product, "_float32_product", fallback)
    for rows, inner, columns in [(64, 64, 64), (64, 3_328, 128), (1_024, 4_096, 960), (192, 16_384, 64)]:
        left = torch.ones(rows, inner, dtype=torch.int8, device=CUDA)
        right = torch.ones(inner, columns, dtype=torch.int8, device=CUDA)
        assert bool((_int8_product(left, right) == inner).all())


@pytest.mark.parametrize("kernel", [_int8_product, _float32_product])
@pytest.mark.parametrize(("n", "dim"), [(1, 1), (2, 3), (333, 45), (113, 300), (5_000, 1_100)])
def test_moments_of_any_size_are_exact(monkeypatch: pytest.MonkeyPatch, kernel, n: int, dim: int) -> None:
    monkeypatch.setattr(integer_product, "exact_kernel", lambda _: kernel)
    rows = torch.randint(-127, 128, (n, dim), generator=torch.Generator().manual_seed(n), dtype=torch.int8)
    labels = torch.arange(n) % 7
    moments = FeatureMoments(dim).to(CUDA)
    moments.add(rows.to(CUDA), labels.to(CUDA))
    exact = rows.double()
    assert torch.equal(moments.autocorrelation.cpu().triu(), (exact.t() @ exact).long().triu())
    sums = torch.stack([exact[labels == label].sum(dim=0) for label in moments.classes.tolist()])
    assert torch.equal(moments.cross_correlation.cpu(), sums.long())


@pytest.mark.parametrize("bits", [8, 16])
def test_moments_gamma_and_weights_are_those_of_the_cpu(bits: int) -> None:
    features, labels = samples(2_500, 333)
    here, there = ExactHead(333, "auto", bits), ExactHead(333, "auto", bits).to(CUDA)
    here.learn(features, labels)
    there.learn(features.to(CUDA), labels.to(CUDA))
    assert here.digest() == there.digest()
    assert here.chosen_gamma == there.chosen_gamma
    torch.testing.assert_close(there.weight.cpu(), here.weight, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(there.leverage(features.to(CUDA)).cpu(), here.leverage(features), rtol=1e-9, atol=0)
    assert torch.equal(there.predict(features.to(CUDA)).cpu(), here.predict(features))


def test_the_recursion_is_that_of_the_cpu() -> None:
    features, labels = samples(900, 120)
    here, there = RecursiveHead(120, 0.5), RecursiveHead(120, 0.5).to(CUDA)
    for part in torch.arange(900).split(70):
        here.learn(features[part], labels[part])
        there.learn(features[part].to(CUDA), labels[part].to(CUDA))
    torch.testing.assert_close(there.weight.cpu(), here.weight, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("network", ["convnet", "resnet20"])
def test_a_feature_does_not_depend_on_its_company(network: str) -> None:
    made, (pixels, _) = learner(network=network), images(700)
    together = made.extract(pixels)
    order = torch.randperm(700, generator=torch.Generator().manual_seed(1))
    assert torch.equal(made.extract(pixels[order]), together[order])
    assert torch.equal(torch.cat([made.extract(part) for part in pixels.split(37)]), together)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("bits", [8, 16])
def test_any_split_in_any_order_equals_joint_to_the_bit(method: str, bits: int) -> None:
    split = learner(method, bits=bits)
    joint = split.fresh()
    pixels, labels = images(600)
    for part in torch.randperm(600, generator=torch.Generator().manual_seed(2)).split(113):
        split.learn(pixels[part], labels[part])
    joint.learn(pixels, labels)
    assert split.digest() == joint.digest()
    assert torch.equal(split.head.weight, joint.head.weight)


def test_forgetting_and_merging_are_exact() -> None:
    (pixels, labels), (others, their_labels) = images(300), images(200)
    whole = learner()
    part = whole.fresh()
    colleague = whole.fresh()
    whole.learn(pixels, labels)
    whole.learn(others, their_labels)
    part.learn(pixels, labels)
    colleague.learn(others, their_labels)
    alone = part.digest()
    part.merge(colleague)
    assert part.digest() == whole.digest()
    part.forget(others, their_labels)
    assert part.digest() == alone


def test_a_model_moves_between_devices(tmp_path: Path) -> None:
    made, (pixels, labels) = learner(), images(400)
    made.learn(pixels, labels)
    made.save(tmp_path / "model.safetensors")
    loaded = AnalyticLearner.load(tmp_path / "model.safetensors")
    assert loaded.device.type == "cpu"
    assert loaded.digest() == made.digest()
    torch.testing.assert_close(loaded.head.weight, made.head.weight.cpu(), rtol=1e-8, atol=1e-10)
    back = loaded.to(CUDA)
    assert torch.equal(back.predict(pixels), made.predict(pixels))


def test_the_snapshot_answers_as_the_learner_does() -> None:
    made, (pixels, labels) = learner("ds-al"), images(300)
    made.learn(pixels, labels)
    snapshot = made.snapshot()
    on_gpu = pixels.to(CUDA).float() / 255
    assert torch.equal(snapshot(on_gpu)[1], made.classes[made(on_gpu).argmax(dim=1)])


@pytest.mark.parametrize("method", ["odnl:2.5", "open-sampling:1"])
def test_robust_base_training_takes_the_step_of_the_cpu(method: str) -> None:
    here, there = step_of_base_training(method, "cpu"), step_of_base_training(method, "cuda")
    assert there.is_cuda
    assert torch.linalg.vector_norm(there.cpu() - here) < 0.1 * torch.linalg.vector_norm(here)


def weights(network: nn.Module) -> Tensor:
    """All of them in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def step_of_base_training(method: str, device: str) -> Tensor:
    """What one mini-batch changes in the weights, with LogitClip, foreign images and augmentation."""
    from avalanche.benchmarks import nc_benchmark

    from acil.strategies.augmentation import CropFlipAugmentation
    from acil.strategies.base_training import base_training
    from acil.strategies.open_set import open_set_plugin

    torch.manual_seed(0)
    pixels, labels = images(300)
    data = LabelledTensors(pixels, labels)
    training = base_training(
        create_backbone("convnet"),
        range(7),
        epochs=1,
        batch_size=300,
        schedule="cosine",  # begins at its peak
        criterion=LogitClip(nn.CrossEntropyLoss(), tau=1.0),
        device=device,
        plugins=[open_set_plugin(method, images(100)[0]), CropFlipAugmentation()],
    )
    before = weights(training.model)
    training.train(nc_benchmark(data, data, 1, task_labels=False).train_stream[0], eval_streams=[])
    after = weights(training.model)
    return after - before.to(after.device)
