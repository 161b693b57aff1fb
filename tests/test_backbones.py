"""Every backbone gives features, rebuilds from its spec, and loads nothing that does not fit."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from acil.backbones import available, create_backbone
from acil.backbones.images import IMAGENET_MEAN, IMAGENET_STD, ImageInput

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = ["convnet", "resnet20", "resnet32", "wrn-40-2"]
TORCHVISION = ["torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:googlenet"]


@pytest.mark.parametrize("name", OURS + TORCHVISION)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_features_and_the_spec_rebuilds(name: str, channels: int) -> None:
    backbone = create_backbone(name, channels=channels).eval()
    images = torch.rand(2, channels, 40, 40)
    features = backbone(images)
    assert features.shape == (2, backbone.num_features)
    assert features.dtype == torch.float32
    again = create_backbone(**backbone.spec).eval()
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again(images), features)


@pytest.mark.parametrize("name", ["efficientnet_b0", "vit_b_16", "densenet121", "convnext_tiny", "inception_v3"])
def test_the_last_layer_is_found_in_every_family(name: str) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        backbone = create_backbone(f"torchvision:{name}").eval()
        assert backbone(torch.rand(2, 3, 224, 224)).shape == (2, backbone.num_features)
        assert len(list(backbone.modules())) > 100  # and nothing but it is gone


@pytest.mark.parametrize("name", ["vit_b_16", "maxvit_t", "inception_v3"])
def test_an_image_size_that_a_network_does_not_take_is_named(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(f"torchvision:{name}").eval()
        with pytest.raises(ValueError, match=f"{name} fails on images of 32x48"):
            backbone(torch.rand(2, 3, 32, 48))


@pytest.mark.parametrize(("name", "channels"), [("convnet", 0), ("resnet20", -1), ("torchvision:resnet18", 4)])
def test_channels_that_no_image_has_are_refused(name: str, channels: int) -> None:
    with pytest.raises(ValueError, match=f"got (channels=)?{channels}"):
        create_backbone(name, channels=channels)


def test_the_identity_passes_features_through() -> None:
    features = torch.rand(4, 7)
    backbone = create_backbone("identity", channels=7)
    assert backbone.num_features == 7
    assert torch.equal(backbone(features), features)


def test_residual_networks_have_the_published_sizes() -> None:
    # He et al. 2016, table 6; Zagoruyko and Komodakis 2016, table 4.
    for name, millions, places in (("resnet20", 0.27, 2), ("resnet32", 0.46, 2), ("wrn-40-2", 2.2, 1)):
        parameters = sum(parameter.numel() for parameter in create_backbone(name).parameters())
        assert round(parameters / 1e6, places) == millions


def test_input_is_normalised_inside() -> None:
    grey = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    layer = ImageInput(3, IMAGENET_MEAN, IMAGENET_STD)
    expected = (grey.float() / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[
        :, None, None
    ]
    assert torch.equal(layer(grey), layer(grey.float() / 255))
    torch.testing.assert_close(layer(grey), expected)
    assert torch.equal(layer(grey.double() / 255), layer(grey.float() / 255))
    with pytest.raises(ValueError, match=r"\(n, 3, H, W\)"):
        layer(torch.rand(2, 2, 4, 4))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet22", "did you mean resnet"),
        ("no such thing", "torchvision:NAME"),
        ("torchvision:resnet17", "resnet18"),
        ("torchvision:squeezenet1_0", "convolution"),
    ],
)
def test_unknown_networks_are_answered_by_what_exists(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        create_backbone(name)
    assert "convnet" in available()


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_loads_whatever_its_prefix_and_classifier(prefix: str, suffix: str, tmp_path: Path) -> None:
    network = create_backbone("resnet20")
    tensors = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    tensors["fc.weight"] = torch.zeros(10, 64)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": tensors}, path)
    else:
        safetensors.torch.save_file(tensors, path)
    loaded = create_backbone("resnet20", checkpoint=path).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        # As torchvision builds it for its published weights.
        ("googlenet", {"aux_logits": True, "init_weights": False, "transform_input": True}),
    ],
)
def test_torchvisions_own_files_fit_its_networks(name: str, options: dict[str, bool], tmp_path: Path) -> None:
    import torchvision

    network = torchvision.models.get_model(name, weights=None, **options)
    torch.save({"model": network.state_dict(), "epoch": 90}, tmp_path / "trained.pth")  # as its training script does
    loaded = create_backbone(f"torchvision:{name}", checkpoint=tmp_path / "trained.pth").eval()
    network.fc = nn.Identity()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(ImageInput(3, IMAGENET_MEAN, IMAGENET_STD)(images)))


def test_a_checkpoint_that_does_not_fit_names_what_is_wrong(tmp_path: Path) -> None:
    torch.save(create_backbone("resnet20").state_dict(), tmp_path / "other.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pt")  # would run code when loaded
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({0: torch.zeros(2)}, tmp_path / "nameless.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    for name, told in {
        "other.pt": "tensors are missing",
        "pickled.pt": "state dict",
        "list.pt": "holds a list",
        "nameless.pt": "tensors are missing",
        "broken.pt": "cannot be read",
        "broken.safetensors": "cannot be read",
        "missing.pt": "no checkpoint",
    }.items():
        with pytest.raises(ValueError, match=told):
            create_backbone("convnet", checkpoint=tmp_path / name)
