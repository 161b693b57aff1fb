"""A model file is whole and true, or refused by its name."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, ModelFileError, RandomBuffer
from acil.serialize import fingerprint, load_metadata, load_tensors, save_tensors

TENSORS = {
    "float": torch.linspace(0, 1, 7),
    "double": torch.ones(2, 3, dtype=torch.float64),
    "integers": torch.arange(6).reshape(2, 3),
    "bytes": torch.arange(5, dtype=torch.int8),
    "brain": torch.linspace(-1, 1, 5).bfloat16(),
    "truth": torch.tensor([True, False]),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
}
METADATA = {"name": "Zürich", "classes": [1, 10**6], "none": None}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "model", TENSORS, METADATA)
    return tmp_path / "model"


def test_every_kind_of_tensor_comes_back_bit_for_bit(saved: Path) -> None:
    tensors, metadata = load_tensors(saved)
    assert fingerprint(tensors) == fingerprint(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert {name: metadata[name] for name in METADATA} == METADATA
    assert load_metadata(saved) == metadata


def test_tensors_that_share_memory_are_saved_each(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    save_tensors(tmp_path / "tied", network.state_dict(), {})
    assert torch.equal(load_tensors(tmp_path / "tied")[0]["1.weight"], network[0].weight)


def test_a_fingerprint_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 2), "b": torch.ones(4)}
    assert fingerprint(dict(reversed(base.items()))) == fingerprint(base)
    others: list[dict[str, Tensor]] = [
        {"a": torch.zeros(2, 2), "c": torch.ones(4)},
        {"a": torch.zeros(2, 2, dtype=torch.int32), "b": torch.ones(4)},
        {"a": torch.zeros(4), "b": torch.ones(4)},
        {"a": torch.zeros(2, 2), "b": torch.tensor([1.0, 1.0, 1.0, 1.0000001])},
        {"a": torch.ones(2, 2), "b": torch.zeros(4)},
    ]
    prints = {fingerprint(tensors) for tensors in others}
    assert len(prints | {fingerprint(base)}) == len(others) + 1


def test_every_truncated_file_is_refused_by_name(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(len(content)):
        saved.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="model"):
            load_tensors(saved)


def test_no_flipped_bit_passes(saved: Path) -> None:
    content = saved.read_bytes()
    chance = random.Random(0)
    for place in chance.sample(range(len(content)), 400):
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        saved.write_bytes(flipped)
        with pytest.raises(ModelFileError, match="model"):
            load_tensors(saved)


@given(content=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_noise_is_no_model_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "noise.bin"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"noise\.bin"):
        load_tensors(path)


def test_swapped_tensors_and_edited_facts_are_refused(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = load_tensors(saved)
    with safetensors.safe_open(saved, framework="pt") as file:
        header = file.metadata()
    swapped = {**tensors, "float": tensors["float"].flip(0)}
    safetensors.torch.save_file(swapped, tmp_path / "swapped", header)
    edited = {**header, "acil": json.dumps({**metadata, "name": "Bern"})}
    safetensors.torch.save_file(tensors, tmp_path / "edited", edited)
    for name in ("swapped", "edited"):
        with pytest.raises(ModelFileError, match=f"{name} is damaged"):
            load_tensors(tmp_path / name)


def test_files_of_other_formats_say_what_they_are(saved: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "foreign")
    save_tensors(tmp_path / "newer", TENSORS, {"format_version": 99})
    torch.save(TENSORS, tmp_path / "pickle")
    for name, told in {
        "foreign": "not one written by acil",
        "newer": "format version 99.*update acil",
        "pickle": "no model file",
        "missing": "there is no model file",
        ".": "there is no model file",
    }.items():
        with pytest.raises(ModelFileError, match=told):
            load_tensors(tmp_path / name)


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace"), (os, "open")])
def test_a_failing_write_leaves_the_earlier_file_and_nothing_else(
    owner: object, call: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(owner, call, full)
        with pytest.raises(ValueError, match=r"cannot write .*model: No space left"):
            save_tensors(saved, {"a": torch.ones(3)}, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_disk_that_fills_up_while_writing_leaves_the_earlier_file(saved: Path) -> None:
    before = saved.read_bytes()
    code = (
        "import pathlib, resource, signal, sys, torch\n"
        "from acil.serialize import save_tensors\n"
        f"signal.signal(signal.{signal.SIGXFSZ.name}, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    save_tensors(pathlib.Path(sys.argv[1]), {'a': torch.ones(5000)}, {})\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"cannot write {saved}: File too large")
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "model", tmp_path / "nowhere" / "model", tmp_path):
        with pytest.raises(ValueError, match=f"cannot write {path}"):
            save_tensors(path, TENSORS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "change",
    [
        {"head": {"type": "magic", "dim": 8, "gamma": 0.1}},
        {"head": {"type": "exact", "dim": "8", "gamma": 0.1}},
        {"head": {"type": "exact", "dim": 9, "gamma": 0.1}},
        {"head": {"type": "exact", "dim": 8, "gamma": -1}},
        {"head": {"type": "recursive", "dim": 8, "gamma": 0.1}},
        {"head": {}},
        {"head": []},
        {"head": None},
        {"buffer": {"type": "kernel", "sigma": 1}},
        {"buffer": {"in_features": 4, "dim": 7, "seed": 0}},
        {"buffer": "random"},
        {"batch_size": 0},
        {"class_names": 3},
        {"backbone": {"name": "convnet", "channels": 1}},
        {"digest": "0" * 64},
    ],
    ids=str,
)
def test_a_file_that_describes_another_learner_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    learner = AnalyticLearner(nn.Linear(4, 4), RandomBuffer(4, 8), ExactHead(8))
    learner.learn(torch.rand(6, 4), torch.arange(6) % 2)
    learner.save(tmp_path / "model")
    tensors, metadata = load_tensors(tmp_path / "model")
    save_tensors(tmp_path / "other", tensors, {**metadata, **change})
    backbone = None if "backbone" in change else nn.Linear(4, 4)
    with pytest.raises(ModelFileError, match="other"):
        AnalyticLearner.load(tmp_path / "other", backbone)
